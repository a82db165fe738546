"""Build records from JSON data without pydantic, whose import would be most of the time of commands that show a state.

Follows the same declarations as `parsing`, of which it takes kinds and bounds. Anything else than what this version
writes raises `NotQuickError`, and the caller asks `parsing`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen

from air_executor.errors import BadInputError
from air_executor.model import types as t
from air_executor.model.state import TaskState, by_id
from air_executor.model.times import from_text

R = TypeVar("R")
Build = Callable[[Any], Any]


class NotQuickError(Exception):
    """The data is not just what this version writes."""


def build(record: type[R], raw: object) -> R:
    """Return the record that data describes.

    Raises:
        NotQuickError: it may describe one, but not in the plain form.
    """
    made: R = _record(record)(raw)
    return made


def builders_of(record: type[Any]) -> Mapping[str, Build]:
    """Return what builds each field of a record, or raises as `build` does."""
    return {field.name: _builder(field.type) for field in fields(record) if field.init}


def _make_record(record: type[Any]) -> Build:
    builders = builders_of(record)
    lenient = record.__pydantic_config__["extra"] == "ignore"

    def make(raw: Any) -> Any:  # noqa: ANN401 - JSON, a type or a record
        if not isinstance(raw, dict):
            raise NotQuickError
        try:
            found = {n: builders[n](value) for n, value in raw.items() if not lenient or n in builders}
            return record(**found)
        except (KeyError, TypeError, ValueError) as error:
            raise NotQuickError from error

    return make


_record: Callable[..., Build] = cache(_make_record)


def _builder(kind: Any) -> Build:  # noqa: ANN401, PLR0911 - JSON, a type or a record
    if kind == t.Time:
        return _time
    if get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
        return _bounded(_builder(kind), marks)
    inner, origin = get_args(kind), get_origin(kind)
    if kind is Any:
        return _same
    if is_dataclass(kind):
        return _record(kind)
    if kind == dict[str, TaskState]:
        tasks = _list_of(_record(TaskState))
        return lambda raw: by_id(tasks(raw))
    if origin in (Union, types.UnionType):
        return _any_of([_builder(one) for one in inner])
    if origin is Literal:
        return _one_of(frozenset(inner))
    if origin in (dict, Mapping):
        return _mapping_of(_builder(inner[1]))
    if origin in (list, Sequence):
        return _list_of(_builder(inner[0]))
    return _exactly(kind)


def _same(raw: Any) -> Any:  # noqa: ANN401 - JSON, a type or a record
    return raw


def _time(raw: object) -> float:
    try:
        return from_text(raw)
    except BadInputError as error:
        raise NotQuickError from error


def _exactly(kind: type) -> Build:
    allowed = (int, float) if kind is float else (kind,)

    def check(raw: object) -> object:
        if type(raw) not in allowed:
            raise NotQuickError
        return raw

    return check


def _bounded(build: Build, marks: Sequence[object]) -> Build:
    low = next((mark.ge for mark in marks if isinstance(mark, Ge)), None)
    high = next((mark.le for mark in marks if isinstance(mark, Le)), None)
    longest = next((mark.max_length for mark in marks if isinstance(mark, MaxLen)), None)
    if low is not None and high is not None:
        return _between(build, low, high)
    return build if longest is None else _not_longer(build, longest)


def _between(build: Build, low: Any, high: Any) -> Build:  # noqa: ANN401 - numbers
    def check(raw: object) -> Any:  # noqa: ANN401 - a number
        value = build(raw)
        if not low <= value <= high:  # nor is NaN
            raise NotQuickError
        return value

    return check


def _not_longer(build: Build, longest: int) -> Build:
    def check(raw: Any) -> Any:  # noqa: ANN401 - JSON
        value = build(raw)
        if len(value) > longest:
            raise NotQuickError
        return value

    return check


def _one_of(words: frozenset[object]) -> Build:
    def check(raw: object) -> object:
        if raw not in words:
            raise NotQuickError
        return raw

    return check


def _any_of(builders: Sequence[Build]) -> Build:
    def check(raw: object) -> object:
        if raw is None:
            return None
        for one in builders:
            try:
                return one(raw)
            except NotQuickError:
                continue
        raise NotQuickError

    return check


def _list_of(item: Build) -> Build:
    def check(raw: object) -> object:
        if not isinstance(raw, list):
            raise NotQuickError
        return [item(one) for one in raw]

    return check


def _mapping_of(item: Build) -> Build:
    def check(raw: object) -> object:
        if not isinstance(raw, dict):
            raise NotQuickError
        return {name: item(value) for name, value in raw.items()}

    return check

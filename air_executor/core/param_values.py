"""The values of a definition's parameters: given as text or data, checked against what is declared."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from air_executor.core.value_text import value_text
from air_executor.model import parsing
from air_executor.model.checks import NAME_PATTERN
from air_executor.model.definition import MAX_ITEMS, Param
from air_executor.model.names import RUN_ENVIRONMENT
from air_executor.model.problems import InvalidError, Path, Problem, nearest
from air_executor.model.quote import quoted
from air_executor.model.written import number_or_text, text_of

V = TypeVar("V")
Value = str | int | float | bool | list[Any]

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BOOLEANS = {"true": True, "false": False}


Render = Callable[[Any, Path], Any]
"""Replaces the names in a value; the path is for its messages."""


def param_values(
    declared: object, given: Mapping[str, object], render: Render, problems: list[Problem]
) -> dict[str, Value]:
    """Return a value for each declared parameter, and note what is wrong in `problems`.

    Args:
        declared: the `params` of a definition: for each name a mapping of `Param` fields, or its default alone.
        given: values by name; text is converted to the kind that is declared.
        render: replaces the names in defaults.
        problems: where wrong declarations, and wrong, unknown and missing values are noted.
    """
    if not isinstance(declared, Mapping):
        problems.append(Problem(["params"], f"must be a mapping of names and parameters, got {quoted(declared)}"))
        return {}
    for name in given:
        if name not in declared:
            guess = nearest(name, declared)
            known = f"; did you mean {guess}?" if guess else f" (params: {', '.join(declared) or 'none'})"
            problems.append(Problem(["params", name], f"is not a parameter{known}"))
    values: dict[str, Value] = {}
    for name, raw in declared.items():
        before = len(problems)
        try:
            param = _declaration(name, raw)
        except InvalidError as error:
            problems += error.problems
            continue
        at: Path = ["params", name] if name in given else ["params", name, "default"]
        value = given[name] if name in given else render(param.default, at)
        if value is None and len(problems) == before:
            about = f": {param.description}" if param.description else ""
            problems.append(Problem(at[:2], f"is missing: give a value with `-p {name}=…`{about}"))
        elif value is not None:
            try:
                values[name] = _checked(value, param)
            except ValueError as error:
                problems.append(Problem(at, str(error)))
    return values


def declared_params(declared: object) -> dict[str, Param]:
    """Return what the `params` of a definition declare, by name.

    Raises:
        InvalidError: a declaration is wrong.
    """
    if not isinstance(declared, Mapping):
        raise InvalidError([Problem(["params"], "must be a mapping of names and parameters")])
    return {name: _declaration(name, raw) for name, raw in declared.items()}


def _declaration(name: object, raw: object) -> Param:
    at = ["params", str(name)]
    if name in RUN_ENVIRONMENT:
        raise InvalidError([Problem(at, "is no name of a parameter: every task has a variable of this name already")])
    if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN.strip("^$"), name):
        rule = "is no name of a parameter: it becomes a variable, so letters, digits and _, not starting with a digit"
        raise InvalidError([Problem(at, rule)])
    if isinstance(raw, Mapping):
        if "secret" in raw:
            what = "is not for parameters, whose values are stored: list the name under the task's `secrets`"
            raise InvalidError([Problem([*at, "secret"], what)])
        try:
            return parsing.read(Param, raw)
        except InvalidError as error:
            raise InvalidError([Problem([*at, *where], what) for where, what in error.problems]) from None
    default = number_or_text(raw)
    return Param(type=_kind_of(default), default=default)


def _kind_of(value: object) -> Any:  # noqa: ANN401 - one of the kinds
    kinds: dict[type, str] = {bool: "boolean", int: "integer", float: "number", list: "list", dt.date: "date"}
    return next((kind for type_, kind in kinds.items() if isinstance(value, type_)), "string")


def _checked(value: object, param: Param) -> Value:
    """Return a value in the one form of its kind. Raises ValueError with what is accepted."""
    if param.type == "list":
        items = _list(value)
        return [_chosen(_scalar(item), param) for item in items]
    found = _CONVERT[param.type](value)
    if isinstance(found, int | float) and not isinstance(found, bool):
        if param.min is not None and found < param.min:
            msg = f"must be at least {param.min}, got {quoted(value)}"
            raise ValueError(msg)
        if param.max is not None and found > param.max:
            msg = f"must be at most {param.max}, got {quoted(value)}"
            raise ValueError(msg)
    return _chosen(found, param)


def _chosen(value: V, param: Param) -> V:
    if param.choices and value not in (choices := [_choice(one, param) for one in param.choices]):
        shown = ", ".join(value_text(one) for one in choices[:20])
        msg = f"must be one of {shown}, got {quoted(value)}"
        raise ValueError(msg)
    return value


def _choice(value: object, param: Param) -> object:
    """Return a choice in the form that values have."""
    try:
        return _scalar(value) if param.type == "list" else _CONVERT[param.type](value)
    except ValueError:
        return value


def _string(value: object) -> str:
    text = value.isoformat() if isinstance(value, dt.date) else text_of(value)
    if text is not None:
        return text
    msg = f"must be text, got {quoted(value)}; put it in quotes"
    raise ValueError(msg)


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    msg = f"must be a whole number, got {quoted(value)}"
    raise ValueError(msg)


def _number(value: object) -> int | float:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    found = value
    if isinstance(value, str):
        try:
            found = float(value)
        except ValueError:
            found = math.nan
    if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
        return found
    msg = f"must be a number, got {quoted(value)}"
    raise ValueError(msg)


def _boolean(value: object) -> bool:
    if isinstance(value, str):
        value = _BOOLEANS.get(value.strip().lower(), value)
    if isinstance(value, bool):
        return value
    msg = f"must be true or false, got {quoted(value)}"
    raise ValueError(msg)


def _date(value: object) -> str:
    text = value.isoformat()[:10] if isinstance(value, dt.date) else value
    if isinstance(text, str) and _DATE.fullmatch(text):
        try:
            return dt.date.fromisoformat(text).isoformat()
        except ValueError:
            pass
    msg = f"must be a date like 2026-01-31, got {quoted(value)}"
    raise ValueError(msg)


def _list(value: object) -> list[Any]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = json.loads(text)
            except ValueError:
                msg = f"must be a list: JSON, or items separated by commas, got {quoted(value)}"
                raise ValueError(msg) from None
        else:
            value = [item.strip() for item in text.split(",")] if text else []
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        msg = f"must be a list of at most {MAX_ITEMS} items, got {quoted(value)}"
        raise ValueError(msg)
    return value


def _scalar(item: object) -> Any:  # noqa: ANN401 - JSON
    return number_or_text(item) if isinstance(item, bool | int | float | str) else _string(item)


_CONVERT: dict[str, Callable[[object], Value]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
}

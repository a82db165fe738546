"""Records from data and back: the only module that imports pydantic.

All code that reads, writes or describes a job, a queued line, a request, a journal line or a state goes through this
module. `core` checks whether the tasks of a job fit together.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from air_executor.model.job import MERGED_FIELDS, TASK_FIELDS, AsWritten, Job, Task
from air_executor.model.names import GENERATED_PATTERN, is_generated_id
from air_executor.model.problems import MISSING, InvalidError, Problem, problems_of
from air_executor.model.quote import quoted
from air_executor.model.types import stored_form

R = TypeVar("R")

MOST_KEYS = 1000
"""Keys of one mapping of fields: more are refused unread, for each unknown one would be an error to describe."""

MOST_FOUND = 10_000
"""Problems of one job after which its other tasks are not looked at."""

MOST_MERGED = 128 * 1024 * 1024
"""Bytes that the defaults of one job may come to in all of its tasks together: each task is stored with its own."""

OWN_KEYS = "x-"
"""How keys of a job begin that are its author's own: anchors of YAML, or notes."""

_SHARED = ("command", "env", "secrets", "labels")
"""Fields that a task without its own takes from its job's defaults as they are: checked, and in memory, once."""

_SECRET = re.compile(
    r"TOKEN|PASSW|PASSPHRASE|SECRET|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH(?!OR)|_PWD$|^PWD_"
)


def adapter(record: type[R]) -> TypeAdapter[R]:
    """Return what reads and describes records as people write them."""
    return _adapter(record, stored=False)


def stored(record: type[R]) -> TypeAdapter[R]:
    """Return what reads and writes records in the form in which they are stored."""
    return _adapter(record, stored=True)


def _make_adapter(record: type[Any], *, stored: bool) -> TypeAdapter[Any]:
    with stored_form() if stored else nullcontext():
        return TypeAdapter(record)


_adapter: Callable[..., TypeAdapter[Any]] = cache(_make_adapter)
_writer: Callable[..., Callable[..., bytes]] = cache(lambda record: stored(record).serializer.to_json)


def read(record: type[R], raw: object) -> R:
    """Return the record that data describes.

    Raises:
        InvalidError: it describes none; every problem is named.
    """
    if isinstance(raw, Mapping) and len(raw) > MOST_KEYS:
        raise InvalidError([Problem([], f"has {len(raw)} keys, more than there are fields")])
    try:
        return adapter(record).validate_python(raw)
    except ValidationError as error:
        raise InvalidError(problems_of(error, record)) from None


def read_json(record: type[R], data: bytes) -> R | None:
    """Return the record that JSON text in the stored form describes, or None: ask `read_stored` what is wrong."""
    try:
        return cast("R", stored(record).validator.validate_json(data))
    except ValidationError:
        return None


def read_stored(record: type[R], raw: dict[str, Any]) -> R:
    """Return the record that data in the stored form describes, with keys that it does not know in the nearest `extra`.

    Raises:
        InvalidError: something else is wrong.
    """
    try:
        return stored(record).validate_python(raw)
    except ValidationError as error:
        unknown = [e["loc"] for e in error.errors(include_url=False) if e["type"] == "unexpected_keyword_argument"]
        if not unknown:
            raise InvalidError(problems_of(error, record)) from None
    found = [(loc[:-1], loc[-1], _parent(raw, loc).pop(loc[-1])) for loc in unknown]
    try:
        made = stored(record).validate_python(raw)
    except ValidationError as error:
        raise InvalidError(problems_of(error, record)) from None
    for loc, key, value in found:
        extra = getattr(_record_at(made, loc), "extra", None)
        if extra is not None:
            extra[key] = value
    return made


def _parent(raw: Any, loc: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - JSON, a type or a record
    for part in loc[:-1]:
        raw = raw[part]
    return raw


def _record_at(made: Any, loc: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - JSON, a type or a record
    for part in loc:
        if isinstance(part, str):
            made = getattr(made, part, None)
        else:
            made = list(made.values() if isinstance(made, dict) else made)[part]
    return made


def dump(record: object) -> dict[str, Any]:
    """Return a record as JSON data, without what equals the defaults."""
    dump_python = stored(type(record)).dump_python
    try:
        found: dict[str, Any] = dump_python(record, mode="json", exclude_defaults=True)
    except (PydanticSerializationError, UnicodeError):  # half a surrogate pair; see `dump_json`
        found = dump_python(record, exclude_defaults=True)
    return found


def dump_json(record: object) -> bytes:
    """Return a record as JSON text on one line, without what equals the defaults."""
    try:
        return _writer(type(record))(record, exclude_defaults=True)
    except PydanticSerializationError:  # half a surrogate pair, which JSON allows and UTF-8 does not
        found = stored(type(record)).dump_python(record, exclude_defaults=True)
        return json.dumps(found, allow_nan=False, separators=(",", ":")).encode()


def dump_each(records: Iterable[object]) -> list[bytes]:
    """Return each of some records of one type as `dump_json` does."""
    records = list(records)
    if not records:
        return []
    write = _writer(type(records[0]))
    try:
        return [write(record, exclude_defaults=True) for record in records]
    except PydanticSerializationError:
        return [dump_json(record) for record in records]


# Jobs and tasks


def read_job(raw: object) -> Job:
    """Return the job that data describes; its `defaults` are merged into its tasks.

    Raises:
        InvalidError: it describes none. At most some of the problems of very many are named.
    """
    if isinstance(raw, Job):
        raw = as_written(raw)
    if not isinstance(raw, Mapping):
        raise InvalidError([Problem([], f"must be a mapping of fields, got {quoted(raw)}")])
    raw, problems = _renamed({name: value for name, value in raw.items() if not str(name).startswith(OWN_KEYS)})
    tasks = raw.get("tasks", ())
    whole = isinstance(tasks, list | tuple)
    job = None
    try:
        job = read(Job, {**raw, "tasks": []} if whole and "tasks" in raw else raw)
    except InvalidError as error:
        problems += error.problems
    if whole:
        defaults = {} if job is None else dump(job.defaults)
        _check_merged(len(tasks), defaults)
        spared = job is None and "defaults" in raw  # what is missing may stand in defaults that are refused
        found: list[Task] = []
        for number, task in enumerate(tasks):
            try:
                found.append(read_task(task, defaults))
            except InvalidError as error:
                problems += [
                    Problem(["tasks", number, *at], what)
                    for at, what in error.problems
                    if not (spared and what == MISSING)
                ]
                if len(problems) > MOST_FOUND:
                    break
        if job is not None:
            job.tasks = found
    if problems or job is None:
        raise InvalidError(problems)
    return job


def text_size(data: object) -> int:
    """Return how many bytes JSON data takes as text."""
    return len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))


def merged_size(job: Job) -> int:
    """Return about how many bytes a job's defaults come to in all of its tasks."""
    defaults = dump(job.defaults)
    return len(job.tasks) * text_size(defaults) if defaults else 0


def _check_merged(tasks: int, defaults: Mapping[str, Any]) -> None:
    size = tasks * text_size(defaults) if defaults else 0
    if size > MOST_MERGED:
        what = f"come to {size / 1e6:.0f} MB in {tasks} tasks, more than {MOST_MERGED / 1e6:.0f} MB"
        raise InvalidError([Problem(["defaults"], f"{what}; put what is large into a file in the workspace")])


def _renamed(raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Problem]]:
    """Return a job with fields of earlier versions under their new names, and what is wrong about that."""
    if "queue" not in raw:
        return raw, []
    if "pool" in raw:
        return {n: v for n, v in raw.items() if n != "queue"}, [Problem(["queue"], "is the old name of pool; use one")]
    warnings.warn("the job field queue is called pool now, and will be refused later", FutureWarning, stacklevel=4)
    return {("pool" if name == "queue" else name): value for name, value in raw.items()}, []


def read_task(raw: object, defaults: Mapping[str, Any]) -> Task:
    """Return the task that data describes in a job with these `defaults` (as `dump` gives them).

    Raises:
        InvalidError: it describes none.
    """
    if isinstance(raw, Task):
        raw = as_written(raw)
    if not isinstance(raw, Mapping):
        return read(Task, raw)
    name = raw.get("id")
    reserved: list[Problem] = []
    if isinstance(name, str) and is_generated_id(name):
        what = f'"{name}" is what tasks without an id are called (_1, _3-2); choose another, or leave it out'
        reserved.append(Problem(["id"], what))
    shared = {field: defaults[field] for field in _SHARED if field in defaults and field not in raw}
    if shared:
        defaults = {field: value for field, value in defaults.items() if field not in shared}
        raw = {**raw, "command": "-"} if "command" in shared else raw
    try:
        task = read(Task, merged(raw, defaults) if defaults else raw)
    except InvalidError as error:
        raise InvalidError([*error.problems, *reserved]) from None
    if reserved:
        raise InvalidError(reserved)
    for field, value in shared.items():
        setattr(task, field, value)
    return task


def merged(own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's own fields together with its job's defaults: own values win, in env and labels key by key."""
    both = {**defaults, **own}
    for name in MERGED_FIELDS:
        if isinstance(own.get(name), Mapping) and name in defaults:
            both[name] = {**defaults[name], **own[name]}
    for name, other in (("delay", "not_before"), ("not_before", "delay")):
        if own.get(name) is not None and other not in own:
            both.pop(other, None)
    return both


def as_written(record: AsWritten) -> dict[str, Any]:
    """Return the fields of a record that were given in Python, or all of one that was read from data."""
    names = record.given if record.given is not None else [f.name for f in fields(record)]  # type: ignore[arg-type]
    return {name: getattr(record, name) for name in names}


def written(task: Task) -> dict[str, Any]:
    """Return a task as JSON data with the fields that were given, unchecked."""
    found: dict[str, Any] = adapter(Task).dump_python(task, mode="json")
    return found if task.given is None else {name: found[name] for name in found if name in task.given}


def secret_looking(env: Mapping[str, str]) -> list[str]:
    """Return the names in `env` that look as if their values were secrets, which belong into `secrets`."""
    return [name for name in env if _SECRET.search(name.upper())]


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file."""
    schema = adapter(Job).json_schema()
    for found in (schema, *schema["$defs"].values()):
        for about in found["properties"].values():
            about.pop("title", None)
    task = schema["$defs"]["Task"]
    task["properties"] = {name: task["properties"][name] for name in ("id", "command", "after", *TASK_FIELDS)}
    task["properties"]["id"]["not"] = {"pattern": GENERATED_PATTERN}
    del task["required"]  # the command; it may also stand in the defaults
    own = {"properties": {"tasks": {"items": {"required": ["command"]}}}}
    shared = {"properties": {"defaults": {"required": ["command"]}}, "required": ["defaults"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "patternProperties": {f"^{OWN_KEYS}": {}},
        "anyOf": [own, shared],
        "title": "Air-Executor job",
        "description": "A job file: tasks that run on ephemeral runners.",
    }

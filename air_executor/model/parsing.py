"""Records from data and back: the only module that hands them to pydantic.

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

import pydantic_core
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from air_executor.errors import BadInputError
from air_executor.model import strict_json
from air_executor.model.defaults import NO_DEFAULTS, Defaults
from air_executor.model.definition import Declared, Repeated
from air_executor.model.job import TASK_FIELDS, Job, Task
from air_executor.model.names import GENERATED_PATTERN, is_generated_id
from air_executor.model.problems import MISSING, InvalidError, Problem, problems_of
from air_executor.model.quote import quoted
from air_executor.model.record import AsWritten
from air_executor.model.steps import STEP, Steps
from air_executor.model.types import stored_form

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

R = TypeVar("R")
Without = set[str] | dict[str, Any] | None
"""Fields, or fields of fields."""

MOST_KEYS = 1000
"""Keys of one mapping of fields: more are refused unread, for each unknown one would be an error to describe."""

MOST_FOUND = 10_000
"""Problems of one job after which its other tasks are not looked at."""

OWN_KEYS = "x-"
"""How keys of a job begin that are its author's own: anchors of YAML, or notes."""

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
        if not _SURROGATE.search(data):
            return None
    try:  # half a surrogate pair, which JSON allows and pydantic's own parser of it does not; see `dump_json`
        return stored(record).validate_python(strict_json.loads(data))
    except (ValidationError, BadInputError):
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


def dump_json(record: object, without: Without = None) -> bytes:
    """Return a record as JSON text on one line, without what equals the defaults, and without some fields."""
    try:
        return _writer(type(record))(record, exclude_defaults=True, exclude=without)
    except PydanticSerializationError:  # half a surrogate pair, which JSON allows and UTF-8 does not
        found = stored(type(record)).dump_python(record, exclude_defaults=True, exclude=without)
        return to_json(found)


def from_json(text: bytes) -> Any:  # noqa: ANN401 - JSON data
    """Return the data of JSON text that `read_json` has read; faster than `json`."""
    return pydantic_core.from_json(text)


def to_json(data: object) -> bytes:
    """Return JSON data as text on one line. Half a surrogate pair, which UTF-8 cannot hold, is escaped."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace")


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


def reading_job(raw: object) -> Steps[Job]:
    """Read the job that data describes, in steps; its tasks have its `defaults` but for `env` and `labels`.

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
        defaults = NO_DEFAULTS if job is None else Defaults(job.defaults)
        if job is not None and len(tasks) > job.max_tasks:
            raise InvalidError(
                [*problems, Problem(["tasks"], f"are {len(tasks)}, more than max_tasks = {job.max_tasks}")]
            )
        spared = job is None and "defaults" in raw  # what is missing may stand in defaults that are refused
        found, wrong = yield from _reading_tasks(tasks, defaults, spared=spared)
        problems += wrong
        if job is not None:
            job.tasks = found
    if problems or job is None:
        raise InvalidError(problems)
    return job


def _reading_tasks(
    tasks: Iterable[object], defaults: Defaults, *, spared: bool
) -> Steps[tuple[list[Task], list[Problem]]]:
    found: list[Task] = []
    problems: list[Problem] = []
    for number, task in enumerate(tasks):
        if number % STEP == STEP - 1:
            yield
        try:
            found.append(read_task(task, defaults))
        except InvalidError as error:
            problems += [
                Problem(["tasks", number, *at], what) for at, what in error.problems if not (spared and what == MISSING)
            ]
            if len(problems) > MOST_FOUND:
                break
    return found, problems


def _renamed(raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Problem]]:
    """Return a job with fields of earlier versions under their new names, and what is wrong about that."""
    if "queue" not in raw:
        return raw, []
    if "pool" in raw:
        return {n: v for n, v in raw.items() if n != "queue"}, [Problem(["queue"], "is the old name of pool; use one")]
    warnings.warn("the job field queue is called pool now, and will be refused later", FutureWarning, stacklevel=6)
    return {("pool" if name == "queue" else name): value for name, value in raw.items()}, []


def read_task(raw: object, defaults: Defaults = NO_DEFAULTS) -> Task:
    """Return the task that data describes in a job with these defaults; `env` and `labels` are its own alone.

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
    try:
        task = read(Task, raw)
    except InvalidError as error:
        raise InvalidError([*error.problems, *reserved]) from None
    defaults.fill(task, raw)
    if task.command is None and task.approve is None:
        reserved.append(Problem(["command"], MISSING))
    if reserved:
        raise InvalidError(reserved)
    return task


def as_written(record: AsWritten) -> dict[str, Any]:
    """Return the fields of a record that were given in Python, or all of one that was read from data."""
    names = record.given if record.given is not None else [f.name for f in fields(record)]  # type: ignore[arg-type]
    return {name: getattr(record, name) for name in names}


def written(task: Task) -> dict[str, Any]:
    """Return a task as JSON data with the fields that were given, unchecked."""
    found: dict[str, Any] = adapter(Task).dump_python(task, mode="json")
    return found if task.given is None else {name: found[name] for name in found if name in task.given}


def written_job(job: Job) -> dict[str, Any]:
    """Return a job as JSON data with the fields that were given, unchecked; `reading_job` reads it."""
    found: dict[str, Any] = adapter(Job).dump_python(job, mode="json")
    names = found.keys() if job.given is None else job.given
    return {name: found[name] for name in found if name in names} | {"tasks": [written(task) for task in job.tasks]}


def secret_looking(env: Mapping[str, str]) -> list[str]:
    """Return the names in `env` that look as if their values were secrets, which belong into `secrets`."""
    return [name for name in env if _SECRET.search(name.upper())]


def _fields_beyond(schema: dict[str, Any], record: type[Any]) -> dict[str, Any]:
    """Return the fields of a record that a job file has beyond a job; what they refer to is added to the schema."""
    own = adapter(record).json_schema()
    schema["$defs"] |= own.get("$defs", {})
    found: dict[str, Any] = own["properties"]
    for about in found.values():
        about.pop("title", None)
    return found


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file."""
    schema = adapter(Job).json_schema()
    schema["properties"] |= _fields_beyond(schema, Declared)
    repeated = _fields_beyond(schema, Repeated)
    for found in (schema, *schema["$defs"].values()):
        for about in found["properties"].values():
            about.pop("title", None)
    task = schema["$defs"]["Task"]
    task["properties"] = {
        name: task["properties"][name] for name in ("id", "command", "approve", "after", *TASK_FIELDS)
    }
    del task["properties"]["unresolved"], schema["$defs"]["Unresolved"]  # nobody writes those
    del task["properties"]["joins"]
    task["properties"]["id"]["not"] = {"pattern": GENERATED_PATTERN}
    task["properties"] |= repeated
    own = {"properties": {"tasks": {"items": {"anyOf": [{"required": ["command"]}, {"required": ["approve"]}]}}}}
    shared = {"properties": {"defaults": {"required": ["command"]}}, "required": ["defaults"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "patternProperties": {f"^{OWN_KEYS}": {}},
        "allOf": [{"anyOf": [own, shared]}, {"oneOf": [{"required": ["id"]}, {"required": ["name"]}]}],
        "title": "Air-Executor job",
        "description": "A job file: tasks that run on ephemeral runners.",
    }

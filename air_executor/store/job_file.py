"""Job files and command lines → a checked `Job`.

Called by the command line, the client and Airflow's operators. Knows how a file can be wrong before it is a job (not
text, too large, not there); what a job may hold is for `core.submission`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from air_executor.core import submission
from air_executor.core.definition import instantiate
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.job import JOB_FIELDS, Job
from air_executor.model.problems import InvalidError, Problem, bad_input, lines
from air_executor.model.quote import quoted
from air_executor.model.source import Source

MAX_BYTES = 64 << 20
"""Largest job file."""

_JSON, _YAML = ".json", (".yaml", ".yml")


def read_job(path: str | os.PathLike[str], params: Mapping[str, object] | None = None, **fields: object) -> Job:
    """Return the job that a YAML or JSON file describes, with these values of its `params`.

    `fields` stand in place of those of the file.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it cannot be read, or is not a job; each problem with its field and its line.
    """
    name = os.fspath(path)
    return load_job(read_bytes(name), name, params, **fields)


def read_bytes(name: str) -> bytes:
    """Return the content of a job file, as far as one may be long.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it cannot be read.
    """
    try:
        with open(name, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        msg = f"{name}: there is no such file"
        raise NotFoundError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"{quoted(name)}: cannot be read: {getattr(error, 'strerror', None) or error}"
        raise BadInputError(msg) from error


def load_job(data: bytes, name: str, params: Mapping[str, object] | None = None, **fields: object) -> Job:
    """Return the job that the content of a file describes; `name` as for `load_mapping`, the others as for `read_job`.

    Raises:
        BadInputError: it is not a job; each problem with its field and its line.
    """
    raw, source = load_source(data, name)
    for names in (("id", "name"), ("pool", "queue")):  # either in place of either
        if any(one in fields for one in names):
            raw = {key: value for key, value in raw.items() if key not in names}
    instance = None
    try:
        instance = instantiate(raw | fields, params or {}, time.time())
        return submission.read_job(instance.raw)
    except InvalidError as error:
        problems = error.problems if instance is None else instance.placed(error.problems)
        raise bad_input(lines(problems, source.place), name) from None


def load_mapping(data: bytes, name: str) -> dict[str, Any]:
    """Return the fields that the content of a file has; `name` tells the format by its ending, and is for messages.

    Without a known ending, what begins with `{` is JSON.

    Raises:
        BadInputError: it is no mapping.
    """
    return load_source(data, name)[0]


def load_source(data: bytes, name: str) -> tuple[dict[str, Any], Source]:
    """Return the fields that the content of a file has, and its text, which knows where each stands.

    As `load_mapping`, also in what it raises.
    """
    if len(data) > MAX_BYTES:
        msg = f"{name}: is larger than {MAX_BYTES >> 20} MiB; let a task queue the others instead"
        raise BadInputError(msg)
    ending = os.path.splitext(name)[1].lower()
    try:
        text = data.decode("utf-8-sig")
        source = Source(text, is_json=ending == _JSON or (ending not in _YAML and text.lstrip().startswith("{")))
        raw = source.load()
    except UnicodeDecodeError as error:
        msg = f"{name}: is not UTF-8 text (byte {error.start} is 0x{data[error.start]:02x}); save it as UTF-8"
        raise BadInputError(msg) from None
    except BadInputError as error:
        msg = f"{name}: {error}"
        raise BadInputError(msg) from None
    if not isinstance(raw, dict):
        what = "is empty" if raw is None else f"holds {quoted(raw)}"
        msg = f"{name}: {what}; a job file is a mapping with id and tasks"
        raise BadInputError(msg)
    raw.pop("$schema", None)  # for editors
    return raw, source


def from_command(job: str | None, argv: Sequence[str], **options: Any) -> Job:  # noqa: ANN401 - JSON, a type or a record
    """Return a job of one task that executes `argv` as it is.

    `options` are fields of the job or of the task; where both have one of that name, it is the job's. Without an id
    they have the job's `name`.

    Raises:
        BadInputError: a field is wrong; it is named without a path, as on the command line.
    """
    own = {name: value for name, value in options.items() if name in JOB_FIELDS}
    task = {name: value for name, value in options.items() if name not in JOB_FIELDS}
    named = {} if job is None else {"id": job}
    try:
        return submission.read_job({**named, **own, "tasks": [{"command": list(argv), **task}]})
    except InvalidError as error:
        bare = [Problem(p.at[2:] if list(p.at[:2]) == ["tasks", 0] else p.at, p.what) for p in error.problems]
        raise bad_input(lines(bare)) from None

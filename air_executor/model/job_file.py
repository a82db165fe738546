"""Job files and command lines → a checked `Job`.

Called by the command line and the Python client. Knows YAML and JSON and how a file can be wrong before it is a job
(not text, too large, a key twice); what a job may hold is for `model.job`. YAML is loaded only when a file is YAML.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from air_executor.errors import BadInputError, NotFoundError
from air_executor.model import strict_json
from air_executor.model.fields import JOB_FIELDS
from air_executor.model.job import Job, describe, parse_job
from air_executor.model.problems import bad_input
from air_executor.model.quote import quoted

MAX_BYTES = 64 << 20
"""Largest job file."""

_JSON, _YAML = ".json", (".yaml", ".yml")


def read_job(path: str | os.PathLike[str]) -> Job:
    """Return the job that a YAML or JSON file describes.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it cannot be read, or is not a job; one line per problem, with the file's name.
    """
    name = os.fspath(path)
    return load_job(read_bytes(name), name)


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


def load_job(data: bytes, name: str) -> Job:
    """Return the job that the content of a file describes; `name` as for `load_mapping`.

    Raises:
        BadInputError: it is not a job; one line per problem.
    """
    return parse_job(load_mapping(data, name), name)


def load_mapping(data: bytes, name: str) -> dict[str, Any]:
    """Return the fields that the content of a file has; `name` tells the format by its ending, and is for messages.

    Without a known ending, what begins with `{` is JSON.

    Raises:
        BadInputError: it is no mapping.
    """
    if len(data) > MAX_BYTES:
        msg = f"{name}: is larger than {MAX_BYTES >> 20} MiB; let a task queue the others instead"
        raise BadInputError(msg)
    ending = os.path.splitext(name)[1].lower()
    try:
        text = data.decode("utf-8-sig")
        is_json = ending == _JSON or (ending not in _YAML and text.lstrip().startswith("{"))
        raw = strict_json.loads(text) if is_json else _load_yaml(text)
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
    return raw


def from_command(job: str, argv: Sequence[str], **options: Any) -> Job:  # noqa: ANN401 - the fields have their types
    """Return a job of one task that executes `argv` as it is.

    `options` are fields of the job or of the task; where both have one of that name, it is the job's.

    Raises:
        BadInputError: a field is wrong; it is named without a path, as on the command line.
    """
    own = {name: value for name, value in options.items() if name in JOB_FIELDS}
    task = {name: value for name, value in options.items() if name not in JOB_FIELDS}
    try:
        return Job.model_validate({"id": job, **own, "tasks": [{"command": list(argv), **task}]})
    except ValidationError as error:
        raise bad_input([line.removeprefix("tasks[0].") for line in describe(error)]) from None


def _load_yaml(text: str) -> object:
    from ruamel.yaml import YAML  # noqa: PLC0415 - slow to import, and JSON does without
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark is not None else ""
        what = " ".join(str(error.problem or error.context).split())
        msg = f"is not YAML:{where} {what}"
        raise BadInputError(msg) from None
    except YAMLError as error:
        msg = f"is not YAML: {' '.join(str(error).split())}"
        raise BadInputError(msg) from None
    except RecursionError:
        raise BadInputError("is nested too deeply") from None
    except (ValueError, TypeError) as error:  # a date that is none, a key that is a mapping
        msg = f"has a value that cannot be read: {' '.join(str(error).split())}"
        raise BadInputError(msg) from None

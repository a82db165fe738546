"""The job that an operator was given: as fields, as a job file, or as a single command.

Called by operators and triggers, where the job is submitted. Knows nothing of Airflow.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from os import PathLike
from typing import Any, NamedTuple

from air_executor.core.submission import read_definition
from air_executor.errors import BadInputError
from air_executor.model.job import DEFAULT_POOL, Job
from air_executor.model.names import check_id
from air_executor.model.parsing import job_schema
from air_executor.model.problems import InvalidError, bad_input, lines
from air_executor.model.state import JobState
from air_executor.store.job_file import load_mapping, read_bytes

TEMPLATE_ENDING = ".j2"
"""Ending of a job file whose content is a template."""
_ONLY_TASK = "t1"
"""Id of the task of a single command."""
_TYPES: Mapping[str, Any] = {
    "job": Mapping,
    "job_file": str | PathLike,
    "command": str | list,
    "task_options": Mapping,
    "job_params": Mapping,
}
_EXPECTED = {
    "job": "a mapping of a job file's fields",
    "job_file": "a path",
    "command": "a text or a list of texts",
    "task_options": "a mapping of a task's fields",
    "job_params": "a mapping of parameters and their values",
}
_MAPPINGS = ("job", "task_options", "job_params")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


class JobSource(NamedTuple):
    """What the operator was given: exactly one of the first three."""

    job: Mapping[str, Any] | None = None
    """Fields of a job file. An `id` or `name` is not used: each task instance has its own id."""
    job_file: str | None = None
    """Path of a job file, whose `id` or `name` is not used either."""
    command: str | list[str] | None = None
    task_options: Mapping[str, Any] | None = None
    """Other fields of the task with that command."""
    job_params: Mapping[str, Any] | None = None
    """Values of the parameters of a job or job file."""

    def check(self, where: str) -> None:
        """Check what was given, but not the job itself.

        Raises:
            BadInputError: none or several were given, or options without a command, or a value of another type.
        """
        for name, value in zip(self._fields, self, strict=True):
            if value is not None and not isinstance(value, _TYPES[name]):
                native = ", or a template in a DAG with render_template_as_native_obj" if name in _MAPPINGS else ""
                msg = f"{where}: {name}: must be {_EXPECTED[name]}{native}, got {value!r:.100}"
                raise BadInputError(msg)
        if sum(value is not None for value in self[:3]) != 1:
            msg = f"{where}: give one of job, job_file and command"
            raise BadInputError(msg)
        if self.task_options is not None and self.command is None:
            msg = f"{where}: task_options go with command; a job's own tasks have all fields"
            raise BadInputError(msg)
        if self.job_params is not None and self.command is not None:
            msg = f"{where}: job_params go with job and job_file; a command has none"
            raise BadInputError(msg)
        if reserved := (self.task_options or {}).keys() & {"id", "command"}:
            msg = f"{where}: task_options: cannot have {' and '.join(sorted(reserved))}"
            raise BadInputError(msg)

    def read(self, where: str, pool: str | None, render: Callable[[str], object]) -> Job:
        """Return the job, in `pool` if it names none itself; `render` renders a template.

        Raises:
            BadInputError: it is no valid job; the message says where and why.
            NotFoundError: there is no such job file.
        """
        self.check(where)
        if pool:
            check_id(pool, f"{where}: job_pool")
        if self.job_file is not None:
            where, fields = os.fspath(self.job_file), _read_file(self.job_file, render)
        elif self.job is not None:
            fields = dict(self.job)
        else:
            fields = {"tasks": [{**(self.task_options or {}), "id": _ONLY_TASK, "command": self.command}]}
        fields = _with_numbers({**fields, "id": "airflow"}, _schema())
        try:
            job = read_definition({n: v for n, v in fields.items() if n != "name"}, self.job_params or {}, time.time())
        except InvalidError as error:
            raise bad_input(lines(error.problems), where) from None
        return replace(job, pool=pool) if pool and job.pool == DEFAULT_POOL else job

    def result_of(self, state: JobState) -> Any:
        """Return the result of the Airflow task: of a single command its result, of a job all tasks' results by id."""
        return state.results() if self.command is None else state.results().get(_ONLY_TASK)


@cache
def _schema() -> dict[str, Any]:
    return job_schema()


def _read_file(path: str | PathLike[str], render: Callable[[str], object]) -> dict[str, Any]:
    name = os.fspath(path)
    data = read_bytes(name)
    if name.endswith(TEMPLATE_ENDING):
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            msg = f"{name}: is not UTF-8 text: {error}"
            raise BadInputError(msg) from None
        data, name = str(render(text)).encode(), name.removesuffix(TEMPLATE_ENDING)
    return load_mapping(data, name)


def _with_numbers(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return a value with its texts as numbers where only a number can be meant: rendered templates are texts."""
    parts = _alternatives(schema)
    if isinstance(value, Mapping):
        fields = {}
        for name, part in value.items():
            found = [one["properties"][name] for one in parts if name in one.get("properties", ())]
            fields[name] = _with_numbers(part, {"anyOf": found})
        return fields
    if isinstance(value, list):
        items = {"anyOf": [one["items"] for one in parts if "items" in one]}
        return [_with_numbers(part, items) for part in value]
    types = _types(parts)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) and types & {"integer", "number"}:
        return value if "string" in types else float(value) if "." in value else int(value)
    return value


def _types(parts: list[Mapping[str, Any]]) -> set[str]:
    named = [one.get("type", ()) for one in parts]
    return {name for one in named for name in ([one] if isinstance(one, str) else one)}


def _alternatives(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the schemas that may hold for a value: this one, the one it refers to, and each of its alternatives."""
    found = [schema]
    if reference := schema.get("$ref"):
        found += _alternatives(_schema()["$defs"][reference.rpartition("/")[2]])
    for one in schema.get("anyOf", ()):
        found += _alternatives(one)
    return found

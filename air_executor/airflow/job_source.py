"""The job that somebody gave an operator: as fields, as a job file, or as a single command.

Called by operators and triggers, where the job is submitted. Knows nothing of Airflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any, NamedTuple

from air_executor.core.submission import parse_job
from air_executor.errors import BadInputError
from air_executor.model.job import DEFAULT_POOL, Job
from air_executor.model.names import check_id
from air_executor.model.state import JobState
from air_executor.store.job_file import read_job

_ONLY = "t1"
"""The id of a single command's task."""
_TYPES: Mapping[str, Any] = {"job": Mapping, "job_file": str | PathLike, "command": str | list, "task_options": Mapping}
_WORDS = {
    "job": "a mapping of a job file's fields",
    "job_file": "a path",
    "command": "a text or a list of texts",
    "task_options": "a mapping of a task's fields",
}
_MAPPINGS = ("job", "task_options")


class JobSource(NamedTuple):
    """What was given; exactly one of the first three."""

    job: Mapping[str, Any] | None = None
    """Fields of a job file. An `id` in it is not used: each task instance has its own."""
    job_file: str | None = None
    command: str | list[str] | None = None
    task_options: Mapping[str, Any] | None = None
    """Other fields of the task that `command` is."""

    def check(self, where: str) -> None:
        """Refuse what cannot be meant.

        Raises:
            BadInputError: none or several were given, or options without a command, or something of another type.
        """
        for name, value in zip(self._fields, self, strict=True):
            if value is not None and not isinstance(value, _TYPES[name]):
                native = ", or a template in a DAG with render_template_as_native_obj" if name in _MAPPINGS else ""
                msg = f"{where}: {name}: must be {_WORDS[name]}{native}, got {value!r:.100}"
                raise BadInputError(msg)
        if sum(value is not None for value in self[:3]) != 1:
            msg = f"{where}: give one of job, job_file and command"
            raise BadInputError(msg)
        if self.task_options is not None and self.command is None:
            msg = f"{where}: task_options go with command; a job's own tasks have all fields"
            raise BadInputError(msg)
        if taken := (self.task_options or {}).keys() & {"id", "command"}:
            msg = f"{where}: task_options: cannot have {' and '.join(sorted(taken))}"
            raise BadInputError(msg)

    def read(self, where: str, queue: str | None) -> Job:
        """Return the job, in `queue` if it names none itself.

        Raises:
            BadInputError: it is no job; the message says what is wrong where.
        """
        self.check(where)
        if queue:
            check_id(queue, f"{where}: job_queue")
        if self.job_file is not None:
            made = read_job(self.job_file)
        elif self.job is not None:
            made = parse_job({**self.job, "id": "airflow"}, where)
        else:
            task = {**(self.task_options or {}), "command": self.command}
            made = parse_job({"id": "airflow", "tasks": [task]}, where)
        return replace(made, pool=queue) if queue and made.pool == DEFAULT_POOL else made

    def result(self, state: JobState) -> Any:
        """Return what Airflow hands on: of a single command its result, of a job all tasks' results by id."""
        return state.results() if self.command is None else state.results().get(_ONLY)

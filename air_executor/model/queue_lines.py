"""What a running task writes into `$AIR_QUEUE`, and what joins a job later: one task, or a whole job, a line each.

Checked as a job file is, with the job's defaults. Called by the manager's booking and by its requests. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from air_executor.errors import BadInputError
from air_executor.model import strict_json
from air_executor.model.job import Job, Task, check_retries, describe, merged, with_command
from air_executor.model.quote import quoted


class QueuedTask(NamedTuple):
    """A task that a running task queued, or that is added to a job."""

    id: str | None
    fields: dict[str, Any]
    """Normalised, with the job's defaults."""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A whole job that a running task submitted."""

    job: Job


def parse_queue_line(text: str | bytes, defaults: Mapping[str, Any]) -> QueuedTask | QueuedJob:
    """Read one line of `$AIR_QUEUE`: a task, or `{"job": {...}}`. `defaults` are the job's, normalised.

    Raises:
        BadInputError: it is neither; the message is one line.
    """
    raw = strict_json.loads(text)
    if not isinstance(raw, dict):
        msg = f"must be a JSON object, got {quoted(raw)}"
        raise BadInputError(msg)
    if "job" not in raw:
        return task_from_request(raw, defaults)
    if len(raw) > 1:
        raise BadInputError("job: must be the only key of the line")
    try:
        return QueuedJob(Job.model_validate(raw["job"]))
    except ValidationError as error:
        raise BadInputError("; ".join(f"job.{line}" for line in describe(error))) from None


def task_from_request(raw: object, defaults: Mapping[str, Any]) -> QueuedTask:
    """Check one task that joins a job with these normalised `defaults`.

    Raises:
        BadInputError: it is wrong; the message is one line.
    """
    try:
        task = Task.model_validate(with_command(raw, defaults["command"]) if "command" in defaults else raw)
    except ValidationError as error:
        raise BadInputError("; ".join(describe(error))) from None
    fields = merged(task.explicit(), defaults)
    problems = check_retries(fields)
    if problems:
        raise BadInputError("; ".join(f"{where[0]}: {what}" for where, what in problems))
    return QueuedTask(task.id, fields)

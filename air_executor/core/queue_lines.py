"""What a running task writes into `$AIR_QUEUE`, and what joins a job later: one task, or a whole job, a line each.

Checked as a job file is, with the job's defaults. Called when an outcome is committed and when tasks are added.
"""

from __future__ import annotations

from collections.abc import Iterable

from air_executor.core.job_checks import check_retries
from air_executor.core.submission import reading_job
from air_executor.errors import BadInputError
from air_executor.model import parsing, strict_json
from air_executor.model.defaults import NO_DEFAULTS, Defaults
from air_executor.model.job import Job, Task
from air_executor.model.problems import InvalidError, Problem, lines
from air_executor.model.quote import quoted
from air_executor.model.steps import Steps


def parse_queue_line(text: str | bytes, defaults: Defaults = NO_DEFAULTS) -> Steps[Task | Job]:
    """Read one line of `$AIR_QUEUE`, in steps: a task that joins a job with these defaults, or `{"job": {...}}`.

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
        return (yield from reading_job(raw["job"]))
    except InvalidError as error:
        raise _one_line(Problem(["job", *at], what) for at, what in error.problems) from None


def task_from_request(raw: object, defaults: Defaults = NO_DEFAULTS) -> Task:
    """Check one task that joins a job with these `defaults`.

    Raises:
        BadInputError: it is wrong; the message is one line.
    """
    try:
        task = parsing.read_task(raw, defaults)
        problems = check_retries(task)
    except InvalidError as error:
        problems = list(error.problems)
    if problems:
        raise _one_line(problems)
    return task


def _one_line(problems: Iterable[Problem]) -> BadInputError:
    return BadInputError("; ".join(lines(problems)))

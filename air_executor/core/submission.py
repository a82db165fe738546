"""Checks a job as it was written, and makes the state that it starts with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from air_executor.core.instantiation import instantiate
from air_executor.core.job_checks import check_job, task_ids
from air_executor.core.new_task import new_task
from air_executor.errors import BadInputError
from air_executor.model import parsing
from air_executor.model.definition import ScheduleFile
from air_executor.model.job import JOB_FIELDS, Job, JobSpec
from air_executor.model.problems import InvalidError, bad_input, lines
from air_executor.model.state import JobState
from air_executor.model.steps import Steps, at_once


def read_job(raw: object) -> Job:
    """Return the job that data describes, checked as a whole.

    Raises:
        InvalidError: it is wrong; every problem is named.
    """
    return at_once(reading_job(raw))


def reading_job(raw: object) -> Steps[Job]:
    """Do what `read_job` does in steps: a job may have many tasks."""
    job = yield from parsing.reading_job(raw)
    yield from check_job(job)
    return job


def read_definition(raw: Mapping[str, Any], given: Mapping[str, object], now: float) -> Job:
    """Return the job that a definition makes with these values of its parameters; `now` in Unix seconds.

    Raises:
        InvalidError: it is wrong; every problem is named, where the definition has it.
    """
    instance = instantiate(raw, given, now)
    try:
        return read_job(instance.raw)
    except InvalidError as error:
        raise InvalidError(instance.placed(error.problems)) from None


def job_of(schedule: ScheduleFile, given: Mapping[str, object], now: float) -> Job:
    """Return the job that a schedule makes with these values of its parameters; `now` in Unix seconds.

    Raises:
        BadInputError: a value, or its definition, is wrong; one line per problem.
    """
    try:
        return read_definition(schedule.definition, given, now)
    except InvalidError as error:
        raise _refused(error, f"schedule {schedule.name}") from None


def parse_job(raw: object, name: str | None = None) -> Job:
    """Return the job that data, or a `Job` made in Python, describes; `name` is for the message.

    Raises:
        BadInputError: it is wrong; one line per problem.
    """
    try:
        return read_job(raw)
    except InvalidError as error:
        raise _refused(error, name) from None


def _refused(error: InvalidError, name: str | None) -> BadInputError:
    return bad_input(lines(error.problems), name)


def initial_state(
    job: Job,
    *,
    uid: str,
    now: float,
    id: str | None = None,  # noqa: A002 - as the field
    upstream: Iterable[JobState] = (),
) -> JobState:
    """Return the state of a job that nobody has touched yet.

    `now` in Unix seconds; `id` of a run of a definition. `upstream` are the jobs that it waits for (`after`), which are
    fixed to their uids; without them the caller does that.
    """
    spec = JobSpec(**{name: getattr(job, name) for name in JOB_FIELDS})
    upstream = list(upstream)
    if upstream:
        spec.after = [one.id for one in upstream]
    state = JobState(id=id or job.id or "", uid=uid, spec=spec, submitted_at=now)
    state.after_uids = {one.id: one.uid for one in upstream}
    for name, task in zip(task_ids(job), job.tasks, strict=True):
        state.tasks[name] = new_task(replace(task, id=name), queued_by=None, at=now)
    return state

"""Checks a job as it was written, and makes the state that it starts with."""

from __future__ import annotations

from dataclasses import replace

from air_executor.core.job_checks import check_job, task_ids
from air_executor.errors import BadInputError
from air_executor.model import parsing
from air_executor.model.job import JOB_FIELDS, Job, JobSpec
from air_executor.model.problems import InvalidError, bad_input, lines
from air_executor.model.state import JobState, new_task


def read_job(raw: object) -> Job:
    """Return the job that data describes, checked as a whole.

    Raises:
        InvalidError: it is wrong; every problem is named.
    """
    job = parsing.read_job(raw)
    check_job(job)
    return job


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


def initial_state(job: Job, *, uid: str, now: float) -> JobState:
    """Return the state of a job that nobody has touched yet. `now` in Unix seconds.

    The caller fixes the jobs that it waits for (`after`) to their uids.
    """
    spec = JobSpec(**{name: getattr(job, name) for name in JOB_FIELDS})
    state = JobState(id=job.id, uid=uid, spec=spec, submitted_at=now)
    for name, task in zip(task_ids(job), job.tasks, strict=True):
        state.tasks[name] = new_task(replace(task, id=name), queued_by=None, at=now)
    return state

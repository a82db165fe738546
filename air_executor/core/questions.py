"""What the tasks of a job ask people, and how it is answered. Pure."""

from __future__ import annotations

from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.problems import did_you_mean
from air_executor.model.state import QUEUED, JobState, TaskState
from air_executor.model.times import format_duration

QUESTIONS_SHOWN = 3
"""Questions of one job that a sentence has."""


def asking_now(job: JobState) -> list[TaskState]:
    """Return the tasks of a job that ask something now."""
    tasks = () if job.ended else job.tasks.values()
    return [one for one in tasks if one.approve is not None and one.phase == QUEUED and one.ready_at is not None]


def asks(job: JobState, task: TaskState, now: float | None) -> str:
    """Return what a task asks, how it is answered, and for how long; None: without that."""
    question = " ".join((task.approve or "").split())
    until = answer_by(job, task)
    within = "" if until is None or now is None else f", within {format_duration(round(max(0.0, until - now)))}"
    return f'asks "{question}": `air-executor approve {job.id} {task.id}`, or `reject`{within}'


def answer_by(job: JobState, task: TaskState) -> float | None:
    """Return until when a question can be answered; None: for ever."""
    own = None if task.timeout is None or task.ready_at is None else task.ready_at + task.timeout
    limit = job.deadline_at if job.stop is None else job.cleanup_until
    return min((at for at in (own, limit) if at is not None), default=None)


def asking_task(job: JobState, name: str | None) -> str:
    """Return the id of the task that is meant by an answer; it asks something. None: the only one that does.

    Raises:
        NotFoundError: there is none.
        BadInputError: there are several, and none is named.
    """
    asking = [one.id for one in job.tasks.values() if one.approve is not None]
    if name is not None:
        if name not in asking:
            what = "asks nothing" if name in job.tasks else "does not exist"
            msg = f"task {name} of job {job.id} {what}{did_you_mean(name, asking)}"
            raise NotFoundError(msg)
        return name
    waiting = [one for one in asking if job.tasks[one].phase == QUEUED]
    if len(waiting) != 1:
        which = f"name one of {', '.join(waiting)}" if waiting else "no task of it asks anything"
        msg = f"job {job.id}: {which}"
        raise BadInputError(msg) if waiting else NotFoundError(msg)
    return waiting[0]

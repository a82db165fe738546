"""Finds the task of a job that somebody names, and those that ask something."""

from __future__ import annotations

from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.problems import did_you_mean
from air_executor.model.state import QUEUED, JobState, TaskState

NAMES_SHOWN = 5


def task_of(job: JobState, name: str) -> TaskState:
    """Return the task that the user named.

    Raises:
        NotFoundError: the job has no such task.
    """
    if (found := job.task_named(name)) is not None:
        return found
    members = [one.id for one in job.tasks.values() if one.group == name]
    if members:
        shown = ", ".join(members[:NAMES_SHOWN]) + (", …" if len(members) > NAMES_SHOWN else "")
        msg = f"{name} is a group of job {job.id} with {len(members)} tasks; name one of them: {shown}"
        raise NotFoundError(msg)
    groups = dict.fromkeys(one.group for one in job.tasks.values() if one.group is not None)
    guess = did_you_mean(name, [*groups, *job.tasks])
    msg = f"job {job.id} has no task {name}{guess or f'; `air-executor status {job.id}` lists them'}"
    raise NotFoundError(msg)


def asking_now(job: JobState) -> list[TaskState]:
    """Return the tasks of a job that ask something now."""
    tasks = job.tasks.values()
    return [] if job.ended else [one for one in tasks if one.approve is not None and one.ready_at is not None]


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

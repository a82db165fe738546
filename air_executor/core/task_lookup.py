"""Finds the task of a job that somebody names."""

from __future__ import annotations

from air_executor.errors import NotFoundError
from air_executor.model.problems import did_you_mean
from air_executor.model.state import JobState, TaskState

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
        msg += f"; `air-executor status {job.id} --all` lists them" if len(members) > NAMES_SHOWN else ""
        raise NotFoundError(msg)
    groups = dict.fromkeys(one.group for one in job.tasks.values() if one.group is not None)
    guess = did_you_mean(name, [*groups, *job.tasks])
    msg = f"job {job.id} has no task {name}{guess or f'; `air-executor status {job.id}` lists them'}"
    raise NotFoundError(msg)

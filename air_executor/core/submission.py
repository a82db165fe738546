"""From a job as somebody wrote it to the state it starts with."""

from __future__ import annotations

from air_executor.core.transitions import new_task
from air_executor.model.job import Job
from air_executor.model.state import JobState


def initial_state(job: Job, *, uid: str, now: float) -> JobState:
    """Return the state of a job that nobody has touched yet. `now` in Unix seconds.

    The caller fixes the jobs that it waits for (`after`) to their uids.
    """
    state = JobState(job.id, uid, job.normalized(), now)
    for position, raw in enumerate(job.normalized_tasks()):
        state.tasks[raw["id"]] = new_task(raw, position=position, queued_by=None, at=now)
    return state

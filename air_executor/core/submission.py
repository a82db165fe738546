"""From a job as somebody wrote it to the state it starts with."""

from __future__ import annotations

from air_executor.core.spec import Job
from air_executor.core.state import JobState
from air_executor.core.transitions import new_task


def initial_state(job: Job, *, uid: str, now: float) -> JobState:
    """Return the state of a job that nobody has touched yet. `now` in Unix seconds.

    The caller fixes the jobs that it waits for (`after`) to their uids.
    """
    state = JobState(job.id, uid, job.normalized(), now)
    for position, raw in enumerate(job.normalized_tasks()):
        state.tasks[raw["id"]] = new_task(raw, position=position, queued_by=None, at=now)
    return state

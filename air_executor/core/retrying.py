"""What `retry` means: which tasks of a job run again. Pure."""

from __future__ import annotations

from air_executor.model import state as s
from air_executor.model.state import Done, JobState, TaskState


def may_retry(done: Done) -> bool:
    """Tell whether a retry of the whole job runs a task again that ended like this."""
    return done.phase != s.SUCCEEDED and done.reason not in (s.OK, s.SKIP_ON, s.ONLY_IF)


def tasks_to_retry(job: JobState, name: str | None) -> list[TaskState]:
    """Return the tasks of a whole job, or one task with what was skipped because of it, that run again."""
    if name is None:
        return [t for t in job.tasks.values() if isinstance(t.status, Done) and may_retry(t.status)]
    chosen = job.tasks[name]
    done = chosen.status
    assert isinstance(done, Done)  # noqa: S101 - `request_decision` refuses others
    return [t for t in job.tasks.values() if t is chosen or _skipped_since(t.status, done.finished_at)]


def _skipped_since(status: s.Status, since: str) -> bool:
    return (
        isinstance(status, Done)
        and status.phase == s.SKIPPED
        and status.reason == s.UPSTREAM
        and status.finished_at >= since
    )

"""What a clock that was set means for a job: a delay lasts as long as before, a date stays a date."""

from __future__ import annotations

from collections.abc import Iterable

from air_executor.model.state import JobState, Queued, TaskState


def shift_times(job: JobState, queued: Iterable[TaskState], by: float, at: float) -> None:
    """Move the times of a job and its queued tasks by some seconds; `at` is the time now."""
    if job.deadline_from is not None:
        job.deadline_from += by
    if job.cleanup_from is not None:
        job.cleanup_from += by
    for task in queued:
        status = task.status
        if not isinstance(status, Queued):
            continue
        by_date = task.not_before is not None and task.runs == 0
        if status.waits_until is not None and not by_date:
            task.status = Queued(status.waits_until + by, status.retrying)
        if task.ready_at is not None and not (by_date and task.ready_at > at - by):
            task.ready_at += by

"""What follows from times that have passed: deadlines, delays, expired questions, late jobs, a clock that was set.

The loop calls each step once in a cycle. Decisions go through `ManagerState`; the index says which jobs are due.
"""

from __future__ import annotations

import logging

from air_executor.core.transitions import LiveJob
from air_executor.manager.manager_state import ManagerState
from air_executor.model import state as s
from air_executor.model.events import ClockStepped, DeadlinePassed, Late, Requested
from air_executor.model.state import JobState, TaskState
from air_executor.model.times import format_duration

log = logging.getLogger(__name__)


class DueTimes:
    """Decides what time decides, for one manager."""

    def __init__(self, state: ManagerState) -> None:
        self._state = state
        self._late: list[LiveJob] = []
        """Jobs that are late unless this cycle finds their end."""

    def check_clock(self, now: float) -> None:
        """Decide what follows if wall time was set: a delay lasts as long as before, a date stays a date."""
        by = self._state.clock.stepped()
        if by:
            log.warning("wall time was set by %+.1f s, delays last as long as before", by)
            for job in list(self._state.index.open.values()):
                with self._state.guard(job.state.id):
                    if _is_timed(job):
                        self._state.decide(job, ClockStepped(now, round(by, 3)))

    def apply_times(self, now: float) -> None:
        """Decide what follows from deadlines, delays and expected ends that have passed."""
        for job in self._state.index.due(now):
            with self._state.guard(job.state.id):
                deadline = job.state.deadline_at
                if deadline is not None and deadline <= now and job.state.stop != s.TIMEOUT:
                    self._state.decide(job, DeadlinePassed(now))
                until = job.state.cleanup_until
                if until is not None and until <= now and job.state.id in self._state.index.open:
                    self._state.decide(job, DeadlinePassed(now, cleanup=True))
                if _is_late(job.state, now):
                    self._late.append(job)
                if job.state.id in self._state.index.open:  # not ended by that, nor by an earlier one's end
                    self._expire(job, now)
                if job.state.id in self._state.index.open:
                    job.progress.start_order.promote(now)
                    self._state.index.touch(job, clean=True)

    def _expire(self, job: LiveJob, now: float) -> None:
        """End the tasks whose questions nobody has answered in time."""
        for name in sorted(job.progress.asking):
            until = job.progress.expires_at(name)
            if until is not None and until <= now:
                within = format_duration(job.state.tasks[name].timeout or 0)
                self._state.decide(job, Requested(now, "", "expire", name, message=f"nobody answered within {within}"))

    def note_late(self, now: float) -> None:
        """Decide which of the jobs whose time has passed are late: after the outcomes, for those may be their ends."""
        late, self._late = self._late, []
        for job in late:
            with self._state.guard(job.state.id):
                if self._state.index.open.get(job.state.id) is job and _is_late(job.state, now):
                    self._state.decide(job, Late(now))


def _is_late(job: JobState, now: float) -> bool:
    """Tell whether a job ought to have ended, and nobody has noticed yet."""
    expect_by = job.expect_by
    waits = not job.ended and job.phase != s.PENDING
    return waits and job.late_since is None and expect_by is not None and expect_by <= now


def _is_timed(job: LiveJob) -> bool:
    """Tell whether a job has times that a clock which is set must not change."""
    limits = (job.state.deadline_at, job.state.cleanup_until)
    return any(at is not None for at in limits) or any(_has_time(task) for task in job.progress.queued())


def _has_time(task: TaskState) -> bool:
    """Tell whether a queued task has a time: one that is due must not wait for it again, or since when it is ready."""
    return task.ready_at is not None or (isinstance(task.status, s.Queued) and task.status.waits_until is not None)

"""What jobs have cost: runner-seconds, work, idle, and what an always-on pool would have cost. Pure sums over states.

Used by `run` for its bill and by `report`. Seconds; money in whatever currency the price is in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from air_executor.core.state import Attempt, JobState
from air_executor.core.usage import Usage

STAMP_STEP = 0.01
"""Seconds by which two time stamps of a volume may disagree: the kernel gives coarse and fine ones to the same file."""


@dataclass(frozen=True, slots=True)
class Bill:
    """The sums over some jobs."""

    runs: int
    runner_seconds: float
    work_seconds: float
    start_seconds: float
    finish_seconds: float
    cpu_seconds: float
    cost: float
    first_spawned: float | None
    """Unix seconds; None if nothing ran. Of a task with more than 100 runs only the newest 100 are known one by one."""
    last_gone: float | None
    peak_runners: int
    """How many runners existed at once, at most."""

    @property
    def idle_seconds(self) -> float:
        """Runner-seconds without work in them."""
        return self.start_seconds + self.finish_seconds

    @property
    def efficiency(self) -> float | None:
        """Work per runner-second; None if nothing ran."""
        return self.work_seconds / self.runner_seconds if self.runner_seconds > 0 else None

    @property
    def window_seconds(self) -> float:
        """From the first runner's beginning to the last one's end."""
        return 0.0 if self.first_spawned is None or self.last_gone is None else self.last_gone - self.first_spawned

    @property
    def pool_seconds(self) -> float:
        """Runner-seconds of a pool as large as the peak, there for exactly that window."""
        return self.peak_runners * self.window_seconds

    @property
    def pool_cost(self) -> float | None:
        """What that pool would have cost at the same price; None if there is no price."""
        return self.cost / self.runner_seconds * self.pool_seconds if self.cost and self.runner_seconds else None


def bill(jobs: Iterable[JobState]) -> Bill:
    """Add up what these jobs have used so far; runs that are still open are not in it."""
    total = Usage()
    attempts: list[Attempt] = []
    for job in jobs:
        usage = job.usage
        total.runs += usage.runs
        total.start_seconds += usage.start_seconds
        total.work_seconds += usage.work_seconds
        total.finish_seconds += usage.finish_seconds
        total.cpu_seconds += usage.cpu_seconds
        total.cost += usage.cost
        attempts += [attempt for task in job.tasks.values() for attempt in task.attempts]
    return Bill(
        runs=total.runs,
        runner_seconds=total.runner_seconds,
        work_seconds=total.work_seconds,
        start_seconds=total.start_seconds,
        finish_seconds=total.finish_seconds,
        cpu_seconds=total.cpu_seconds,
        cost=total.cost,
        first_spawned=min((a.spawned_at for a in attempts), default=None),
        last_gone=max((_gone(a) for a in attempts), default=None),
        peak_runners=_peak(attempts),
    )


def _gone(attempt: Attempt) -> float:
    return attempt.spawned_at + attempt.start + attempt.work + attempt.finish


def _peak(attempts: Iterable[Attempt]) -> int:
    # Where one ends as another begins, the end comes first: they can have been one place in a pool.
    steps = sorted((at, by) for a in attempts for at, by in ((a.spawned_at, 1), (_gone(a) - STAMP_STEP, -1)))
    now = peak = 0
    for _, by in steps:
        now += by
        peak = max(peak, now)
    return peak

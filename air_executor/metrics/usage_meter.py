"""Runner-seconds and what they cost: of runs that were booked, and of open ones as far as is certain by now.

Of an open run only that counts which its booking can but confirm, so that no sum ever goes down. What a run did before
this manager took it over was for the earlier one to show, and is not counted again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from air_executor.core.memory import resources_of
from air_executor.core.observer import RunSample
from air_executor.core.price import FREE, Prices, hourly
from air_executor.model.state import Running, TaskState
from air_executor.model.usage import Stages

BUSY, IDLE = "busy", "idle"
MARGIN = 0.01
"""Seconds by which a volume's time stamps may be coarser than our clock."""


@dataclass(slots=True)
class MeteredRun:
    """One open run."""

    task: TaskState
    queue: str
    waited: float | None
    before: float = 0.0
    """For how long its runner had existed when this manager took it over."""
    pulled: float = 0.0
    """Seconds that its task has waited for an image before."""
    busy: float = 0.0
    idle: float = 0.0
    price: Mapping[str, float] | None = None
    """Per hour, by component; None while it was not looked at, or if it has none."""


@dataclass(slots=True)
class UsageTotals:
    """What is summed up over runs, by labels."""

    seconds: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    """By queue and state."""
    costs: defaultdict[tuple[str, ...], float] = field(default_factory=lambda: defaultdict(float))
    """By currency, queue and component."""

    def add(self, run: MeteredRun, currency: str | None) -> None:
        """Add what a run has used."""
        self.seconds[run.queue, BUSY] += run.busy
        self.seconds[run.queue, IDLE] += run.idle
        for component, price in (run.price or {}).items():
            self.costs[currency or "", run.queue, component] += price * (run.busy + run.idle) / 3600


class UsageMeter:
    """The runs of one manager."""

    def __init__(self, prices: Prices = FREE) -> None:
        self._prices = prices
        self.open: dict[tuple[str, int], MeteredRun] = {}
        """By job and number."""
        self._booked = UsageTotals()
        self._shown = UsageTotals()

    def begin(self, job: str, seq: int, run: MeteredRun) -> None:
        """Take in an open run."""
        self.open[job, seq] = run

    def see(self, sight: RunSample) -> None:
        """Take in that an open run was seen alive."""
        run = self.open.get((sight.job.state.id, sight.seq))
        if run is None or not isinstance(sight.task.status, Running):
            return
        elapsed = max(0.0, sight.elapsed - MARGIN)
        start = elapsed if sight.start is None else min(sight.start, elapsed)
        seen = beyond(Stages(start, elapsed - start, 0.0), run.before)
        run.busy, run.idle = max(run.busy, seen.work), max(run.idle, seen.start)
        if run.price is None:
            run.price = hourly(self._prices, resources_of(sight.task), sight.task.status.since)

    def book(
        self, job: str, seq: int, spent: Stages, price: Mapping[str, float] | None, currency: str | None
    ) -> MeteredRun | None:
        """Take in how a run ended; return what was known of it while it was open."""
        run = self.open.pop((job, seq), None)
        if run is not None:
            own = beyond(spent, run.before)
            run.busy, run.idle, run.price = own.work, own.start + own.finish, price
            self._booked.add(run, currency)
        return run

    def forget(self, job: str) -> None:
        """Give up the open runs of a job that is no more; what they have used stays counted."""
        for key in [key for key in self.open if key[0] == job]:
            self._booked.add(self.open.pop(key), self._prices.currency)

    def sums(self) -> UsageTotals:
        """Return what all runs have used so far; nothing in it is ever less than the last time."""
        now = UsageTotals(self._booked.seconds.copy(), self._booked.costs.copy())
        for run in self.open.values():
            now.add(run, self._prices.currency)
        # A clock that was set can make a booked run shorter than it was seen to be.
        for state, seconds in self._shown.seconds.items():
            now.seconds[state] = max(seconds, now.seconds[state])
        for component, cost in self._shown.costs.items():
            now.costs[component] = max(cost, now.costs[component])
        self._shown = now
        return now


def beyond(spent: Stages, before: float) -> Stages:
    """Return what is left of a run's stages without their first `before` seconds."""
    left = []
    for stage in (spent.start, spent.work, spent.finish):
        left.append(max(0.0, stage - before))
        before = max(0.0, before - stage)
    return Stages(*left)

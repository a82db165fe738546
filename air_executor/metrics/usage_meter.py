"""Runner-seconds and their cost: of committed runs, and of open ones as far as is certain by now.

Of an open run only that counts which its commit can but confirm, so that no sum ever goes down. What a run used before
this manager adopted it was the earlier manager's to count, and is not counted again.
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
    pool: str
    waited: float | None
    age: float = 0.0
    """Age of its runner when this manager adopted it, in seconds; 0 if this manager started it."""
    pulled: float = 0.0
    """Seconds that its task has waited for an image before."""
    busy: float = 0.0
    idle: float = 0.0
    price: Mapping[str, float] | None = None
    """Per hour, by component; None before the first sample, or if it has none."""


@dataclass(slots=True)
class UsageTotals:
    """Sums over runs, by labels."""

    seconds: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    """By pool and state."""
    costs: defaultdict[tuple[str, ...], float] = field(default_factory=lambda: defaultdict(float))
    """By currency, pool and component."""

    def add(self, run: MeteredRun, currency: str | None) -> None:
        """Add what a run has used."""
        self.seconds[run.pool, BUSY] += run.busy
        self.seconds[run.pool, IDLE] += run.idle
        for component, price in (run.price or {}).items():
            self.costs[currency or "", run.pool, component] += price * (run.busy + run.idle) / 3600


class UsageMeter:
    """The runs of one manager."""

    def __init__(self, prices: Prices = FREE) -> None:
        self._prices = prices
        self.open: dict[tuple[str, int], MeteredRun] = {}
        """By job and number."""
        self._committed = UsageTotals()
        self._reported = UsageTotals()

    def begin(self, job: str, seq: int, run: MeteredRun) -> None:
        """Start to meter a run."""
        self.open[job, seq] = run

    def sample(self, sample: RunSample) -> None:
        """Meter an open run whose runner was seen alive."""
        run = self.open.get((sample.job.state.id, sample.seq))
        if run is None or not isinstance(sample.task.status, Running):
            return
        elapsed = max(0.0, sample.elapsed - MARGIN)
        start = elapsed if sample.start is None else min(sample.start, elapsed)
        used = without(Stages(start, elapsed - start, 0.0), run.age)
        run.busy, run.idle = max(run.busy, used.work), max(run.idle, used.start)
        if run.price is None:
            run.price = hourly(self._prices, resources_of(sample.task), sample.task.status.since)

    def commit(
        self, job: str, seq: int, spent: Stages, price: Mapping[str, float] | None, currency: str | None
    ) -> MeteredRun | None:
        """Replace an open run's samples by its outcome; return it, or None if it was never metered."""
        run = self.open.pop((job, seq), None)
        if run is not None:
            used = without(spent, run.age)
            run.busy, run.idle, run.price = used.work, used.start + used.finish, price
            self._committed.add(run, currency)
        return run

    def drop(self, job: str) -> None:
        """Stop metering the open runs of a job that no longer exists; what they have used stays counted."""
        for key in [key for key in self.open if key[0] == job]:
            self._committed.add(self.open.pop(key), self._prices.currency)

    def totals(self) -> UsageTotals:
        """Return what all runs have used so far; no value is ever lower than the last time."""
        now = UsageTotals(self._committed.seconds.copy(), self._committed.costs.copy())
        for run in self.open.values():
            now.add(run, self._prices.currency)
        # A clock that was set can make a committed run shorter than its samples.
        for state, seconds in self._reported.seconds.items():
            now.seconds[state] = max(seconds, now.seconds[state])
        for component, cost in self._reported.costs.items():
            now.costs[component] = max(cost, now.costs[component])
        self._reported = now
        return now


def without(spent: Stages, seconds: float) -> Stages:
    """Return the rest of a run's stages after its first `seconds`."""
    if not seconds:
        return spent
    left = []
    for stage in (spent.start, spent.work, spent.finish):
        left.append(max(0.0, stage - seconds))
        seconds = max(0.0, seconds - stage)
    return Stages(*left)

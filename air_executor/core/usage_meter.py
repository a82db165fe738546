"""Runner-seconds and their cost, run by run: of open ones as far as is certain by now, of ended ones as committed.

Of an open run only that counts which its commit can but confirm, so that no sum ever goes down. `counters` sums it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from air_executor.core.price import Prices
from air_executor.core.run_price import run_price
from air_executor.core.transitions import LiveJob
from air_executor.model.state import Running, TaskState
from air_executor.model.usage import Stages

BUSY, IDLE = "busy", "idle"
RUNNER_SECONDS, COST = "runner_seconds_total", "cost_total"
MARGIN = 0.01
"""Seconds by which a volume's time stamps may be coarser than our clock."""

Series = tuple[str, ...]
"""One series of a counter: the metric's name without its prefix, then the values of its labels."""


@dataclass(frozen=True, slots=True)
class RunSample:
    """An open run whose runner was just seen alive. Seconds."""

    job: LiveJob
    task: TaskState
    seq: int
    elapsed: float
    """Minimum age of its runner."""
    start: float | None
    """Part of that before its command began; None if it has not begun, as far as is known."""


@dataclass(slots=True)
class MeteredRun:
    """One open run."""

    task: TaskState
    pool: str
    """Label of its job's pool."""
    backend: str
    currency: str
    waited: float | None
    age: float = 0.0
    """Seconds of its runner that are not counted: an earlier manager, whose counters are not known, may have."""
    pulled: float = 0.0
    """Seconds that its task has waited for an image before."""
    busy: float = 0.0
    idle: float = 0.0
    price: Mapping[str, float] | None = None
    """Per hour, by component; None before the first sample, or if it has none."""

    def sample(self, sample: RunSample, prices: Prices) -> None:
        """Meter the run, whose runner was just seen alive."""
        if not isinstance(sample.task.status, Running):
            return
        elapsed = max(0.0, sample.elapsed - MARGIN)
        start = elapsed if sample.start is None else min(sample.start, elapsed)
        begun = start if sample.start is None else max(0.0, start - MARGIN)  # the outcome may say so much less
        used = without(Stages(begun, elapsed - start, 0.0), self.age)
        self.busy, self.idle = max(self.busy, used.work), max(self.idle, used.start)
        if self.price is None:
            since = sample.task.status.since
            self.price, currency = run_price(prices, sample.job.state, sample.task, since)
            self.currency = currency or self.currency

    def commit(self, spent: Stages, price: Mapping[str, float] | None) -> None:
        """Replace the samples by the run's outcome."""
        used = without(spent, self.age)
        self.busy, self.idle, self.price = used.work, used.start + used.finish, price

    def used(self) -> Iterator[tuple[Series, float]]:
        """Yield the amount for each counter."""
        yield (RUNNER_SECONDS, self.backend, self.pool, BUSY), self.busy
        yield (RUNNER_SECONDS, self.backend, self.pool, IDLE), self.idle
        for component, price in (self.price or {}).items():
            yield (COST, self.currency, self.pool, component), price * (self.busy + self.idle) / 3600


def without(spent: Stages, seconds: float) -> Stages:
    """Return the rest of a run's stages after its first `seconds`."""
    if not seconds:
        return spent
    left = []
    for stage in (spent.start, spent.work, spent.finish):
        left.append(max(0.0, stage - seconds))
        seconds = max(0.0, seconds - stage)
    return Stages(*left)

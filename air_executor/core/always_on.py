"""The always-on pool that would have carried the same load: its size, its window, its busy and idle time.

A comparison that must not flatter us, so the pool gets the better of every doubt: its workers start at once and are
never lost, they need the work's seconds alone, any worker takes any run whatever its job's limits say, and runs that
were stopped for the manager's own sake are not even asked of it. Pure; times are Unix seconds.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from air_executor.core.ledger import Ledger
from air_executor.model.state import REQUEUE

TOLERANCE = 0.01
"""Seconds by which waits may differ and count as the same: what time stamps of a volume can tell."""
HIGH = 0.95
"""The quantile of waits, beside their mean, in which a pool must not be worse."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One run as a pool sees it."""

    arrival: float
    """From when a worker could have taken it."""
    work: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long runs waited from when they were ready until their command began; seconds."""

    mean: float
    p95: float

    def no_worse_than(self, other: Waits) -> bool:
        """Tell whether neither is longer, but for what clocks cannot tell."""
        return self.mean <= other.mean + TOLERANCE and self.p95 <= other.p95 + TOLERANCE


@dataclass(frozen=True, slots=True)
class AlwaysOnPool:
    """A pool of workers that exist from `start` to `end`, and what they did with the load."""

    size: int
    start: float
    end: float
    busy_seconds: float
    waits: Waits

    @property
    def window_seconds(self) -> float:
        """How long it exists."""
        return self.end - self.start

    @property
    def runner_seconds(self) -> float:
        """All its workers' seconds, busy or idle."""
        return self.size * self.window_seconds

    @property
    def idle_seconds(self) -> float:
        """Workers' seconds without work in them."""
        return self.runner_seconds - self.busy_seconds


def demands(ledger: Ledger, now: float, begin: float) -> list[Demand]:
    """Return the load in order of arrival. Of an open run, what it has worked until `now` counts as work.

    What was ready before `begin`, when the pool begins to exist, arrives then.
    """
    load = [Demand(e.ready_at, e.attempt.work) for e in ledger.entries if e.attempt.reason != REQUEUE]
    load += [Demand(run.ready_at, max(0.0, now - run.since)) for run in ledger.open]
    return sorted((Demand(max(one.arrival, begin), one.work) for one in load), key=lambda one: one.arrival)


def waits_of(ledger: Ledger) -> Waits:
    """Return how long these runs waited, starting their runners included."""
    waits = [e.waited for e in ledger.entries if e.attempt.reason != REQUEUE]
    return _waits(waits + [run.since - run.ready_at for run in ledger.open])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest of some values that at least this share of them does not exceed; 0 if there are none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def simulate(load: Sequence[Demand], size: int, start: float, end: float) -> AlwaysOnPool:
    """Let `size` workers carry the load, first come, first served; they stay until `end` and their last work's end."""
    free = [start] * min(size, len(load))
    waits: list[float] = []
    for one in load:
        begin = max(one.arrival, free[0])
        heapq.heapreplace(free, begin + one.work)
        waits.append(begin - one.arrival)
    return AlwaysOnPool(size, start, max([end, *free]), sum(one.work for one in load), _waits(waits))


def smallest(load: Sequence[Demand], waits: Waits, start: float, end: float) -> AlwaysOnPool:
    """Return the smallest pool in which the load waits no longer than this."""
    # More workers never make anything wait longer. Double until it is enough, then halve the last step: small pools are
    # tried first, and are the quickest to try.
    low, high = 1, 1
    while not simulate(load, high, start, end).waits.no_worse_than(waits):
        low, high = high + 1, 2 * high
    while low < high:
        middle = (low + high) // 2
        if simulate(load, middle, start, end).waits.no_worse_than(waits):
            high = middle
        else:
            low = middle + 1
    return simulate(load, low, start, end)


def _waits(waits: Iterable[float]) -> Waits:
    found = list(waits)
    return Waits(math.fsum(found) / len(found) if found else 0.0, quantile(found, HIGH))

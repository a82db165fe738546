"""A simulated always-on pool with the same load: its size, its window, its busy and idle time.

The comparison must not favor runners on demand, so each assumption favors the pool: its workers start at once and are
never lost, a run takes only its work's seconds, any worker takes any run whatever the limits of its job, of runs that
wait the one that was first on demand is first, and runs that the manager requeued are left out. Pure; times are Unix
seconds.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from air_executor.core.ledger import Ledger
from air_executor.model.state import REQUEUE

TOLERANCE = 0.01
"""Seconds by which equal waits may differ: the precision of a volume's time stamps."""
HIGH = 0.95
"""The quantile of waits that, like their mean, must not be longer in a pool."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One run as work for a pool."""

    arrival: float
    """When a worker could have taken it."""
    work: float
    """Seconds."""
    turn: tuple[float, int] = (0.0, 0)
    """Its place in the order of starts on demand: when it was started, and its number."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that runs waited from being ready until their command started."""

    mean: float
    p95: float

    def no_worse_than(self, other: Waits) -> bool:
        """Tell whether neither is longer, within the precision of clocks."""
        return self.mean <= other.mean + TOLERANCE and self.p95 <= other.p95 + TOLERANCE


@dataclass(frozen=True, slots=True)
class AlwaysOnPool:
    """A pool of workers that exist from `start` to `end`, and how they handled the load."""

    size: int
    start: float
    end: float
    busy_seconds: float
    waits: Waits

    @property
    def window_seconds(self) -> float:
        """Seconds for which it exists."""
        return self.end - self.start

    @property
    def runner_seconds(self) -> float:
        """Seconds of all its workers, busy and idle."""
        return self.size * self.window_seconds

    @property
    def idle_seconds(self) -> float:
        """Idle seconds of all its workers."""
        return self.runner_seconds - self.busy_seconds


def demands(ledger: Ledger, now: float, begin: float) -> list[Demand]:
    """Return the load in order of arrival; an open run has worked until `now`.

    Runs that were ready before the pool exists, at `begin`, arrive then.
    """
    load = [
        Demand(max(e.ready_at, begin), e.attempt.work, (e.attempt.spawned, e.attempt.seq))
        for e in ledger.entries
        if e.attempt.reason != REQUEUE
    ]
    load += [Demand(max(run.ready_at, begin), run.seconds(now), (run.since, run.seq)) for run in ledger.open]
    return sorted(load, key=lambda one: (one.arrival, one.turn))


def waits_of(ledger: Ledger) -> Waits:
    """Return the waits of these runs, startup included."""
    waits = [e.waited for e in ledger.entries if e.attempt.reason != REQUEUE]
    return _waits(waits + [run.since - run.ready_at for run in ledger.open])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed; 0 if there are none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def simulate(load: Sequence[Demand], size: int, start: float, end: float, latest: float = math.inf) -> AlwaysOnPool:
    """Simulate `size` workers that take runs in their turn; they exist until `end` and until their work is done.

    `load` is in order of arrival. At `latest` the pool ends with what it has done until then.
    """
    free = [start] * min(size, len(load))
    waiting: list[tuple[tuple[float, int], int]] = []
    """Turns and positions of the runs that have arrived."""
    waits: list[float] = []
    arrived, begin, busy = 0, start, 0.0
    for _ in load:
        begin = max(begin, free[0]) if waiting else max(free[0], load[arrived].arrival)
        while arrived < len(load) and load[arrived].arrival <= begin:
            heapq.heappush(waiting, (load[arrived].turn, arrived))
            arrived += 1
        one = load[heapq.heappop(waiting)[1]]
        heapq.heapreplace(free, begin + one.work)
        waits.append(max(0.0, min(begin, latest) - one.arrival))
        busy += max(0.0, min(begin + one.work, latest) - begin)
    return AlwaysOnPool(size, start, min(max([end, *free]), latest), busy, _waits(waits))


def smallest(load: Sequence[Demand], waits: Waits, start: float, end: float) -> AlwaysOnPool:
    """Return the smallest pool with waits no longer than these."""
    # More workers never lengthen a wait. Double the size until it is enough, then bisect: small pools are simulated
    # first, and fastest.
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

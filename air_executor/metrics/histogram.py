"""A histogram that costs a fraction of a microsecond to add to; the manager's thread adds, a scrape reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Upper bounds from what a local start takes to what a long task does."""
SHORT = (0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""The same for what ought to be quick."""


class Histogram:
    """How many values were at most each of some bounds, and their sum."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Add one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return each bound, as Prometheus writes it, with how many values it covers; the last one covers all."""
        found, count = [], 0
        for bound, more in zip((*self._bounds, float("inf")), self._counts, strict=True):
            count += more
            found.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(count)))
        return found

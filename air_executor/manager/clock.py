"""The manager's two clocks, and the notice when they part.

Wall time says when; monotonic time says how long. The latter counts while a machine sleeps (CLOCK_BOOTTIME, where
there is one), so that a suspended laptop does not look like a stepped clock.
"""

from __future__ import annotations

import time

STEP = 1.0
"""Seconds of disagreement that count as a step; slewing stays below."""

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Wall and steady time."""

    def __init__(self) -> None:
        self._offset = self.wall() - self.steady()

    def wall(self) -> float:
        """Return Unix seconds, to the millisecond: what state files hold."""
        return round(time.time(), 3)

    def steady(self) -> float:
        """Return seconds that never jump."""
        return time.clock_gettime(_STEADY)

    def stepped(self) -> float:
        """Return by how many seconds wall time was set since the last call; 0 if it was not."""
        offset = self.wall() - self.steady()
        by = offset - self._offset
        self._offset = offset
        return by if abs(by) >= STEP else 0.0

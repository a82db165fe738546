"""The manager's two clocks, and how it notices that they disagree.

Wall time dates facts; steady time measures durations. The latter counts while a machine sleeps (CLOCK_BOOTTIME where it
exists), so that a suspended laptop doesn't look like a clock that was set. Every part of the manager is handed one
`Clock`; tests hand in another. Knows nothing of what is timed.
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
        """Return Unix seconds, to the millisecond: the resolution of state files."""
        return round(time.time(), 3)

    def steady(self) -> float:
        """Return seconds that never jump."""
        return steady()

    def stepped(self) -> float:
        """Return the seconds by which wall time was set since the last call; 0 if it was not."""
        offset = self.wall() - self.steady()
        by = offset - self._offset
        self._offset = offset
        return by if abs(by) >= STEP else 0.0


def steady() -> float:
    """Return seconds of a clock that nobody sets and that also counts while the machine is suspended."""
    return time.clock_gettime(_STEADY)

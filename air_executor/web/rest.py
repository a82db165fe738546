"""How long something is shown before it is read or rendered again: that takes little of the server's time."""

from __future__ import annotations

import time


class Rest:
    """Of one kind of work, whose first time does not count: it loads modules, too, for seconds on a busy machine."""

    def __init__(self, times: float) -> None:
        self._times = times
        """What took one second is not repeated for that many."""
        self._is_warm = False

    def until(self, begun: float) -> float:
        """Return until when to rest after the work that has begun then; both on the monotonic clock."""
        now = time.monotonic()
        took = now - begun if self._is_warm else 0.0
        self._is_warm = True
        return now + self._times * took

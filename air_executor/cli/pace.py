"""How long a command pauses between two reads of what it follows: the longer a read takes, the longer the pause."""

from __future__ import annotations

SHARE = 10
"""The pause is at least this many times as long as a read."""


class Pace:
    """Pauses that are right for the quicker of the last two reads: the first one also imports modules."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._last = 0.0

    def pause(self, took: float) -> float:
        """Return the pause after a read that took so many seconds."""
        quicker, self._last = min(self._last, took), took
        return max(self._least, SHARE * quicker)

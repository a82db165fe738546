"""How fast requests may follow each other: our own limit, and the pauses that the server asks for.

One `RateLimiter` is shared by all threads that talk to one API server. Knows nothing of requests.
"""

from __future__ import annotations

import threading
import time

BURST_SECONDS = 2.0
"""How many seconds' worth of requests may go out at once after a quiet time."""


class RateLimiter:
    """Lets `rate` requests through per second."""

    def __init__(self, rate: float) -> None:
        self._gap = 1.0 / rate
        self._lock = threading.Lock()
        self._next = 0.0
        """When the request after the present burst would be due, monotonic seconds."""
        self._paused_until = 0.0

    def take(self, now: float) -> float:
        """Take the place of one request and return how many seconds it has to wait for it."""
        with self._lock:
            self._next = max(self._next, now - BURST_SECONDS) + self._gap
            return max(0.0, self._next - now, self._paused_until - now)

    def wait(self, closed: threading.Event) -> None:
        """Wait until a request may go out, or until `closed`."""
        seconds = self.take(time.monotonic())
        if seconds > 0:
            closed.wait(seconds)

    def pause(self, seconds: float, now: float) -> None:
        """Let nothing through for so long: the server asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, now + seconds)

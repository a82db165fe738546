"""Limits the rate of requests: to our own limit, and by the pauses that the server asks for.

One `RateLimiter` is shared by all threads that use one API server. Knows nothing of requests.
"""

from __future__ import annotations

import threading
import time

BURST_SECONDS = 2.0
"""The burst after an idle time, in seconds' worth of requests."""


class RateLimiter:
    """Allows `rate` requests per second."""

    def __init__(self, rate: float) -> None:
        self._gap = 1.0 / rate
        self._lock = threading.Lock()
        self._next = 0.0
        """When the next request after the current burst is due, monotonic seconds."""
        self._paused_until = 0.0

    def take(self, now: float) -> float:
        """Count one request and return how many seconds it has to wait."""
        with self._lock:
            self._next = max(self._next, now - BURST_SECONDS) + self._gap
            return max(0.0, self._next - now, self._paused_until - now)

    def wait(self, closed: threading.Event) -> None:
        """Wait until a request may be sent, or until `closed`."""
        seconds = self.take(time.monotonic())
        if seconds > 0:
            closed.wait(seconds)

    def pause(self, seconds: float, now: float) -> None:
        """Hold all requests back for so long: the server asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, now + seconds)

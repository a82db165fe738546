"""Whether a manager is alive and ready, for probes: the collector writes it, the server reads it.

Single values that one thread writes and another reads; nothing here blocks.
"""

from __future__ import annotations

import time

START_PATIENCE = 10
"""A start may take this many times as long as a cycle: there may be ten thousand jobs to read."""


class Health:
    """The liveness and readiness of one manager."""

    def __init__(self, backend: str, patience: float) -> None:
        """`patience`: seconds without a heartbeat after which the manager counts as hanging."""
        self._backend = backend
        self._patience = patience
        self._heartbeat = time.monotonic()
        self._answers: bool | None = None
        self._stage = "it is starting"
        self.holds = False
        """The manager holds the state directory."""

    def beat(self) -> None:
        """Record a heartbeat."""
        self._heartbeat = time.monotonic()

    def stands_by(self) -> None:
        """Record that the manager waits for another one to leave."""
        self._stage = "it stands by: another manager holds the state directory"
        self.beat()

    def took_over(self) -> None:
        """Record that the manager holds the state directory."""
        self.holds = True
        self.beat()

    def left(self) -> None:
        """Record that the manager has released the state directory."""
        self.holds = False
        self._stage = "it is stopping"
        self.beat()

    def backend_answers(self, *, answers: bool) -> None:
        """Record whether the backend answers."""
        self._answers = answers
        self.beat()

    def hangs(self) -> str | None:
        """Return why the manager should be restarted; None if it is alive."""
        silent = time.monotonic() - self._heartbeat
        limit = self._patience if self.holds else self._patience * START_PATIENCE
        return None if silent <= limit else f"the manager has given no sign of life for {silent:.0f} s"

    def not_ready(self) -> str | None:
        """Return why the manager starts nothing; None if it is ready."""
        if (why := self.hangs()) is not None:
            return why
        if not self.holds:
            return f"the manager is not active: {self._stage}"
        if self._answers is None:
            return "the manager has not checked its runners yet"
        if not self._answers:
            return f"the backend {self._backend} does not answer; see `air-executor status`"
        return None

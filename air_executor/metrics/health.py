"""Whether a manager is alive and whether it can do its work, for probes: read by the server, told by the tally.

Single values that one thread writes and another reads; nothing here waits.
"""

from __future__ import annotations

import time

START_PATIENCE = 10
"""How many times as long a manager may take to come up: it may have ten thousand jobs to read."""


class Health:
    """The signs of life of one manager."""

    def __init__(self, backend: str, patience: float) -> None:
        """`patience`: seconds without a sign of life after which it counts as hanging."""
        self._backend = backend
        self._patience = patience
        self._beat = time.monotonic()
        self._answers: bool | None = None
        self._stage = "it is starting"
        self.holds = False
        """It has the state directory."""

    def beat(self) -> None:
        """Note that it goes on."""
        self._beat = time.monotonic()

    def stands_by(self) -> None:
        """Note that it waits for another manager to leave."""
        self._stage = "it stands by: another manager holds the state directory"
        self.beat()

    def holds_it(self) -> None:
        """Note that it has the state directory."""
        self.holds = True
        self.beat()

    def left(self) -> None:
        """Note that it has let go of the state directory."""
        self.holds = False
        self._stage = "it is leaving"
        self.beat()

    def looked(self, *, answers: bool) -> None:
        """Note whether the backend answers."""
        self._answers = answers
        self.beat()

    def hangs(self) -> str | None:
        """Return how we know that the manager hangs, so that it should be restarted; None if it does not."""
        silent = time.monotonic() - self._beat
        limit = self._patience if self.holds else self._patience * START_PATIENCE
        return None if silent <= limit else f"the manager has shown no sign of life for {silent:.0f} s"

    def hindrance(self) -> str | None:
        """Return what keeps the manager from its work; None if nothing does."""
        if (why := self.hangs()) is not None:
            return why
        if not self.holds:
            return f"the manager manages nothing: {self._stage}"
        if self._answers is None:
            return "the manager has not looked at its runners yet"
        if not self._answers:
            return f"the backend {self._backend} does not answer; `air-executor status` says more"
        return None

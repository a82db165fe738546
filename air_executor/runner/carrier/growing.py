"""Files that are delivered piece by piece: each piece is small enough for what may lie between us and the manager."""

from __future__ import annotations

import math
import time

from .folders import read_file
from .uplink import PIECE, Uplink

CHECK_IN = 600.0
"""Seconds without anything to deliver after which the token is renewed all the same: a task may be silent for days."""


class Growing:
    """A file and how much of it has been delivered; it may grow meanwhile."""

    def __init__(self, manager: Uplink, folder: str, name: str, limit: float = math.inf) -> None:
        """`limit`: bytes that are delivered at most."""
        self._manager = manager
        self._path = f"{folder}/{name}"
        self._name = name
        self._limit = limit
        self._sent = 0
        self._asked = time.monotonic()

    def send(self) -> bool:
        """Deliver what is new, and tell whether anything was."""
        before = self._sent
        while data := read_file(self._path, int(min(PIECE, self._limit - self._sent)), self._sent):
            self._append(data)
        if time.monotonic() - self._asked > CHECK_IN:
            self._append(b"")
        return self._sent > before

    def _append(self, data: bytes) -> None:
        # Its size is where to go on, also where that is less than before: its volume may have been restored.
        self._sent = int(self._manager.ask("PATCH", f"files/{self._name}?offset={self._sent}", data))
        self._asked = time.monotonic()

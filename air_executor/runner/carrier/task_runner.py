"""The runner beside us, which the carrier sees by its files and, where it can, by its processes."""

from __future__ import annotations

import os
import time

from .folders import CLAIM, EXIT, Folders, read_file
from .uplink import PIECE

OUTCOME_LIMIT = 1 << 16
GONE_AFTER = 1.0
"""Seconds without a process of the runner after which it has ended without an outcome."""


class Runner:
    """The runner beside us, as far as its files and processes show it. Times are monotonic seconds."""

    def __init__(self, folders: Folders, *, signaled: bool) -> None:
        """`signaled`: only SIGTERM tells of an end without an outcome."""
        self._out = folders.out
        self._signaled = signaled
        self.stopped = False
        """The pod is to end."""
        self.begun: float | None = None
        """When it was seen first."""
        self._seen = self._looked = 0.0

    def outcome(self) -> bytes | None:
        """Return its outcome; None while that is not complete."""
        data = read_file(f"{self._out}/{EXIT}", OUTCOME_LIMIT)
        return data if b"\n" in data else None

    def has_begun(self) -> bool:
        """Look whether it has begun."""
        if self.begun is None and os.path.lexists(f"{self._out}/{CLAIM}"):
            self.begun = self._seen = time.monotonic()
        return self.begun is not None

    def is_gone(self) -> bool:
        """Look whether it has ended, with or without an outcome; if the pod ends, also whether it will never begin."""
        if not self.has_begun() or self._signaled:
            return self.stopped
        now = time.monotonic()
        if now - self._looked >= GONE_AFTER / 2:
            self._looked = now
            if any(self._is_runner(pid) for pid in os.listdir("/proc") if pid.isdecimal()):
                self._seen = now
        return now - self._seen > GONE_AFTER

    def _is_runner(self, pid: str) -> bool:
        """Tell whether a process is it: the containers of a pod see each other's."""
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read(PIECE).split(b"\0")[:4]
        except OSError:
            return False
        programs = [os.path.basename(word) for word in words[:2]]
        return b"air-runner" in programs and os.fsencode(self._out) in words

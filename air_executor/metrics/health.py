"""Whether a manager is alive and ready, for probes: the collector writes it, the server reads it in another process.

Each value is a number in memory that the processes share, so a probe never asks the manager, and nothing here blocks.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time

START_PATIENCE = 10
"""A start may take this many times as long as a cycle: there may be ten thousand jobs to read."""

_HEARTBEAT, _STAGE, _BACKEND = range(3)
"""Places of the values. The heartbeat is a time of the monotonic clock, which all processes of a machine share."""
_STARTS, _STANDS_BY, _HOLDS, _STOPS = range(4)
_INACTIVE = {
    _STARTS: "it is starting",
    _STANDS_BY: "it stands by: another manager holds the state directory",
    _STOPS: "it is stopping",
}
_UNKNOWN, _SILENT, _ANSWERS = range(3)


def shared_memory() -> int:
    """Return the descriptor of new memory for `Health`, which other processes can inherit."""
    if hasattr(os, "memfd_create"):
        made = os.memfd_create("health")
    else:
        with tempfile.TemporaryFile() as file:
            made = os.dup(file.fileno())
    os.ftruncate(made, mmap.PAGESIZE)
    return made


class Health:
    """The liveness and readiness of one manager."""

    def __init__(self, backend: str, patience: float, memory: int | None = None) -> None:
        """`patience`: seconds without a heartbeat after which the manager counts as hanging.

        `memory` is that of `shared_memory`; None: this process alone uses it.
        """
        self._backend = backend
        self._patience = patience
        self._values = memoryview(mmap.mmap(-1 if memory is None else memory, mmap.PAGESIZE)).cast("d")

    @property
    def holds(self) -> bool:
        """Whether the manager holds the state directory."""
        return self._values[_STAGE] == _HOLDS

    def beat(self) -> None:
        """Record a heartbeat."""
        self._values[_HEARTBEAT] = time.monotonic()

    def stands_by(self) -> None:
        """Record that the manager waits for another one to leave."""
        self._enter(_STANDS_BY)

    def took_over(self) -> None:
        """Record that the manager holds the state directory."""
        self._enter(_HOLDS)

    def left(self) -> None:
        """Record that the manager has released the state directory."""
        self._enter(_STOPS)

    def _enter(self, stage: int) -> None:
        self._values[_STAGE] = stage
        self.beat()

    def backend_answers(self, *, answers: bool) -> None:
        """Record whether the backend answers."""
        self._values[_BACKEND] = _ANSWERS if answers else _SILENT
        self.beat()

    def hangs(self) -> str | None:
        """Return why the manager should be restarted; None if it is alive."""
        silent = time.monotonic() - self._values[_HEARTBEAT]
        limit = self._patience if self.holds else self._patience * START_PATIENCE
        return None if silent <= limit else f"the manager has given no sign of life for {silent:.0f} s"

    def not_ready(self) -> str | None:
        """Return why the manager starts nothing; None if it is ready."""
        if (why := self.hangs()) is not None:
            return why
        stage, backend = int(self._values[_STAGE]), self._values[_BACKEND]
        if stage != _HOLDS:
            return f"the manager is not active: {_INACTIVE[stage]}"
        if backend == _UNKNOWN:
            return "the manager has not checked its runners yet"
        if backend == _SILENT:
            return f"the backend {self._backend} does not answer; see `air-executor status`"
        return None

"""The audit log: who changed what over HTTP, when, and from where. Lines of JSON, in files of a limited size.

A line is on the disk before its change takes effect; where it cannot be written, the change is refused.
"""

from __future__ import annotations

import os
import threading
from itertools import islice

from air_executor.model import parsing
from air_executor.model.callers import AuditLine
from air_executor.store import files
from air_executor.store.append_only import append_lines

MAX_FILE = 8 << 20
"""Bytes after which the next file begins."""
KEPT = 9
"""Earlier files that are kept: `audit.jsonl.1` is the newest of them."""


class AuditLog:
    """The audit log of one state directory. Thread-safe; two processes may append at the same time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()

    def append(self, line: AuditLine) -> None:
        """Add a line durably.

        Raises:
            StoreError: the volume refused.
        """
        data = parsing.dump_json(line) + b"\n"
        with self._lock:
            if files.size(self._path) + len(data) > MAX_FILE:
                self._rotate()
            append_lines(self._path, data, mode=0o600)

    def _rotate(self) -> None:
        for number in range(KEPT, 0, -1):
            source = self._path if number == 1 else f"{self._path}.{number - 1}"
            if os.path.lexists(source):
                files.move(source, f"{self._path}.{number}")

    def newest(self, count: int) -> list[bytes]:
        """Return the newest lines of the newest file, the newest last; what is none, half a line say, is left out."""
        found = files.read(self._path, MAX_FILE + MAX_FILE)
        lines = reversed([] if found is None else found[0].split(b"\n"))
        read = (parsing.read_json(AuditLine, line) for line in lines if line)
        return [parsing.dump_json(line) for line in islice((line for line in read if line is not None), count)][::-1]

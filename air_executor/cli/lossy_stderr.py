"""Stderr that can't fail: a line for people that cannot be written is lost, and nothing depends on it.

A full disk under a log file or a terminal that has closed must not end a manager. `app` installs it for the process.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _LossyFile(io.FileIO):
    """A file whose writes always succeed."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write data; what the file refuses counts as written."""
        try:
            written: int | None = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


def install() -> None:
    """Replace this process's stderr, unless something else has replaced it already."""
    if sys.stderr is not sys.__stderr__ or sys.stderr is None:
        return
    file = io.BufferedWriter(_LossyFile(sys.stderr.fileno(), "wb", closefd=False))
    sys.stderr = io.TextIOWrapper(file, encoding=sys.stderr.encoding, errors="backslashreplace", line_buffering=True)

"""Prints the logs of runs as they grow: bytes for files and pipes, text and colors for a terminal.

`logs` and `run` use it. It remembers the position in each log and keeps no more than one incomplete line of it, so that
a log of any size costs the same memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from air_executor.model.state import JobState
from air_executor.store.layout import Layout
from air_executor.store.run_logs import log_path, open_log

CHUNK = 1 << 16
LONGEST = 1 << 16
"""Maximum size of an incomplete line that is kept; a longer line is printed in pieces as it is read."""


@dataclass(frozen=True, slots=True)
class RunLog:
    """The log of one run."""

    job: JobState
    """Identifies the job; nothing that changes is read from it."""
    task: str
    seq: int
    prefix: str = ""
    """Precedes each line; empty: the log is passed on as it is."""

    @property
    def key(self) -> tuple[str, int]:
        """Tells it from the logs of all other runs."""
        return self.job.uid, self.seq


@dataclass(slots=True)
class _Position:
    """How far a log was printed."""

    read: int
    rest: bytes = b""
    """The incomplete last line."""


class LogPrinter:
    """Prints any number of logs, line by line."""

    def __init__(
        self,
        layout: Layout,
        write: Callable[[bytes], object],
        *,
        clean: Callable[[str], str] | None = None,
        whole_lines: bool = False,
    ) -> None:
        """`clean` makes a line harmless for a terminal; None: bytes are passed on unchanged.

        `whole_lines`: whatever is written ends with a line end.
        """
        self._layout = layout
        self._write = write
        self._clean = clean
        self._whole_lines = whole_lines
        self._positions: dict[tuple[str, int], _Position] = {}
        self._open: tuple[str, int] | None = None
        """The run whose incomplete line was printed last, without its end."""

    def print_new(self, log: RunLog, start: Callable[[BinaryIO], int] | None = None) -> bool | None:
        """Print what a log has beyond what was printed; return whether there was any, or None if there is no log.

        `start` returns where to begin in a log that was not printed yet. Default: its beginning.
        """
        at = self._positions.get(log.key)
        if at is not None and self._size(log) <= at.read:
            return False
        file = open_log(self._layout, log.job, log.task, log.seq)
        if file is None:
            return None
        with file:
            if at is None:
                at = self._positions[log.key] = _Position(0 if start is None else start(file))
            file.seek(at.read)
            before = at.read
            while chunk := file.read(CHUNK):
                at.read += len(chunk)
                self._print(log, at, chunk)
        return at.read > before

    def finish(self, log: RunLog) -> None:
        """Print a last line without a line end; the log is not printed again."""
        at = self._positions.pop(log.key, None)
        if at is not None and (at.rest or self._open == log.key):
            self._block(log, at.rest)

    def _size(self, log: RunLog) -> int:
        try:
            return os.stat(log_path(self._layout, log.job, log.task, log.seq), follow_symlinks=False).st_size
        except OSError:
            return 0

    def _print(self, log: RunLog, at: _Position, chunk: bytes) -> None:
        if not log.prefix and self._clean is None:
            self._write(chunk)
            return
        block, newline, rest = (at.rest + chunk).rpartition(b"\n")
        if newline:
            self._block(log, block)
        if len(rest) > LONGEST:
            end = _last_whole(rest)
            self._block(log, rest[:end], ends=self._whole_lines)
            rest = rest[end:]
        at.rest = rest

    def _block(self, log: RunLog, block: bytes, *, ends: bool = True) -> None:
        """Print lines, or the next piece of one."""
        if self._clean is not None:
            lines = block.decode(errors="replace").split("\n")
            block = "\n".join(map(self._clean, lines)).encode(errors="replace")
        if head := log.prefix.encode():
            block = block.replace(b"\n", b"\n" + head)
            if self._open != log.key:
                block = head + block
        if self._open not in (None, log.key):
            block = b"\n" + block
        self._write(block + b"\n" if ends else block)
        self._open = None if ends else log.key


def tail_start(file: BinaryIO, lines: int) -> int:
    """Return where the last `lines` lines of a log begin; a last line without a line end is one."""
    end = file.seek(0, os.SEEK_END)
    at, wanted = end, lines
    while at > 0 and wanted > 0:
        size = min(CHUNK, at)
        file.seek(at - size)
        chunk = file.read(size)
        if at == end and chunk.endswith(b"\n"):
            wanted += 1
        found = chunk.count(b"\n")
        if found < wanted:
            wanted -= found
            at -= size
            continue
        place = len(chunk)
        for _ in range(wanted):
            place = chunk.rindex(b"\n", 0, place)
        return at - size + place + 1
    return at


def _last_whole(text: bytes) -> int:
    """Return where the last UTF-8 character of a text begins if it may be incomplete, else the text's length."""
    for back in range(1, min(4, len(text)) + 1):
        if text[-back] >= 0xC0:  # noqa: PLR2004 - the first byte of several
            return len(text) - back
    return len(text)

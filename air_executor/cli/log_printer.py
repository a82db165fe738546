"""Prints the logs of runs as they grow: bytes for files and pipes, text and colors for a terminal.

`logs` and `run` use it. It remembers the position in each log and keeps no more than one incomplete line of it, so that
a log of any size costs the same memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from air_executor.model.state import JobState
from air_executor.model.times import to_text

if TYPE_CHECKING:
    from air_executor.client.job_access import LogAccess
    from air_executor.store.log_times import LogTimes

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
    """Precedes each line."""

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
    times: LogTimes | None = None
    """When its lines were written, as far as it is read; None: nobody wants to know."""


class LogPrinter:
    """Prints any number of logs, line by line."""

    def __init__(
        self,
        source: LogAccess,
        write: Callable[[bytes], object],
        *,
        clean: Callable[[str], str] | None = None,
        whole_lines: bool = False,
        timestamps: bool = False,
    ) -> None:
        """`clean` makes a line harmless for a terminal; None: bytes are passed on unchanged.

        `whole_lines`: whatever is written ends with a line end. `timestamps`: each line begins with its time.
        """
        self._source = source
        self._write = write
        self._clean = clean
        self._whole_lines = whole_lines
        self._timestamps = timestamps
        self._positions: dict[tuple[str, int], _Position] = {}
        self._open: tuple[str, int] | None = None
        """The run whose incomplete line was printed last, without its end."""

    def print_new(self, log: RunLog, start: Callable[[RunLog, BinaryIO], int] | None = None) -> bool | None:
        """Print what a log has beyond what was printed; return whether there was any, or None if there is no log.

        `start` returns where to begin in a log that was not printed yet. Default: its beginning.
        """
        at = self._positions.get(log.key)
        if at is not None and self._has_no_more(log, at.read):
            return False
        file = self._source.open(log.job, log.task, log.seq)
        if file is None:
            return None
        with file:
            if at is None:
                at = self._positions[log.key] = _Position(0 if start is None else start(log, file))
            if self._timestamps:
                at.times = self._source.times(log.job, log.task, log.seq, file)
            file.seek(at.read)
            before = at.read
            while chunk := file.read(CHUNK):
                self._print(log, at, chunk)
        return at.read > before

    def finish(self, log: RunLog) -> None:
        """Print a last line without a line end; the log is not printed again."""
        at = self._positions.pop(log.key, None)
        if at is not None and (at.rest or self._open == log.key):
            self._block(log, at, at.rest, at.read - len(at.rest))

    def _has_no_more(self, log: RunLog, read: int) -> bool:
        size = self._source.size(log.job, log.task, log.seq)
        return size is not None and size <= read

    def _print(self, log: RunLog, at: _Position, chunk: bytes) -> None:
        place, at.read = at.read - len(at.rest), at.read + len(chunk)
        if not log.prefix and self._clean is None and at.times is None:
            self._write(chunk)
            return
        block, newline, rest = (at.rest + chunk).rpartition(b"\n")
        if newline:
            self._block(log, at, block, place)
        if len(rest) > LONGEST:
            end = _last_whole(rest)
            self._block(log, at, rest[:end], at.read - len(rest), ends=self._whole_lines)
            rest = rest[end:]
        at.rest = rest

    def _block(self, log: RunLog, at: _Position, block: bytes, place: int, *, ends: bool = True) -> None:
        """Print lines that begin at a place of the log, or the next piece of a line."""
        begins = self._open != log.key
        head = log.prefix.encode()
        if self._clean is None and at.times is None:  # the quick way for large logs
            block = block.replace(b"\n", b"\n" + head)
            block = head + block if begins else block
        else:
            shown = []
            for number, line in enumerate(block.split(b"\n")):
                place += len(line) + 1
                stamp = _stamp(at.times.at(place - 1)) if at.times is not None else b""
                text = line
                if self._clean is not None:
                    text = self._clean(line.decode(errors="replace")).encode(errors="replace")
                shown.append(head + stamp + text if begins or number else text)
            block = b"\n".join(shown)
        if begins and self._open is not None:
            block = b"\n" + block
        self._write(block + b"\n" if ends else block)
        self._open = None if ends else log.key


@lru_cache(maxsize=64)
def _stamp(moment: float) -> bytes:
    return f"{to_text(moment)} ".encode()


def tail_start(file: BinaryIO, lines: int) -> int:
    """Return where the last `lines` lines of a log begin; a last line without a line end is one."""
    end = at = file.seek(0, os.SEEK_END)
    wanted = lines
    while at > 0 and lines > 0:
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


def line_start(file: BinaryIO, place: int) -> int:
    """Return where the line begins that has the byte at this place."""
    while place > 0:
        size = min(CHUNK, place)
        file.seek(place - size)
        newline = file.read(size).rfind(b"\n")
        if newline >= 0:
            return place - size + newline + 1
        place -= size
    return 0


def _last_whole(text: bytes) -> int:
    """Return where the last UTF-8 character of a text begins if it may be incomplete, else the text's length."""
    for back in range(1, min(4, len(text)) + 1):
        if text[-back] >= 0xC0:  # noqa: PLR2004 - the first byte of several
            return len(text) - back
    return len(text)

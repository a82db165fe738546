"""When the lines of a log were written: the manager notes how long the log of an open run was at which time.

A task writes its log itself, so no line has a time. A note is the size of the log and its modification time. Lines
between two notes were written between their times; a run that is over within a second has no notes, because its log's
own modification time is as exact. Used by `logs --timestamps` and `logs --since`.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import stat
from dataclasses import dataclass
from typing import BinaryIO

from air_executor.errors import StoreError
from air_executor.store import files
from air_executor.store.run_files import CLAIM, LOG_TIMES, MAX_CLAIM, MAX_LOG_TIMES

FIRST_AFTER = 1.0
"""Age of a run in seconds from which on its log is noted."""
PRECISION = 1000
"""Notes of a run are at least one part in this many of its age apart, so that their number stays small."""


def note(log: str, known: int) -> int:
    """Note size and time of a log beside it, if it is longer than `known`; return its size.

    What the volume refuses is not noted: only the times of some lines are less exact then.
    """
    try:
        found = os.stat(log, follow_symlinks=False)
    except OSError:
        return known
    if found.st_size <= known or not stat.S_ISREG(found.st_mode):
        return known
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        fd = os.open(_notes(log), flags, 0o644)
        try:
            os.write(fd, f"{found.st_size} {found.st_mtime:.3f}\n".encode())
        finally:
            os.close(fd)
    return found.st_size


@dataclass(frozen=True, slots=True)
class LogTimes:
    """The notes about one log, and its modification time."""

    sizes: list[int]
    times: list[float]
    modified: float

    def at(self, place: int) -> float:
        """Return when the byte at this place was written, or the first moment that is known to be later."""
        n = bisect.bisect_right(self.sizes, place)
        return self.times[n] if n < len(self.times) else self.modified

    def start(self, since: float) -> int | None:
        """Return the place before which everything was written before `since`; None: everything was."""
        if self.modified < since:
            return None
        n = bisect.bisect_left(self.times, since)
        return self.sizes[n - 1] if n else 0


def _notes(log: str) -> str:
    """Return where the notes about a log are. Earlier versions had logs one folder below them, in `out/`."""
    return f"{os.path.dirname(log).removesuffix('/out')}/{LOG_TIMES}"


def _noted(log: str) -> bytes:
    """Return the notes about a log. Once they are packed, they are in the run's claim, below its outcome."""
    with contextlib.suppress(StoreError):
        found = files.read(_notes(log), MAX_LOG_TIMES)
        found = found or files.read(f"{os.path.dirname(log)}/{CLAIM}", MAX_CLAIM)
        return b"" if found is None else found[0]
    return b""


def read(path: str, log: BinaryIO) -> LogTimes:
    """Return what is noted about the log that is open, given its path."""
    modified = os.fstat(log.fileno()).st_mtime
    sizes: list[int] = []
    times: list[float] = []
    for line in _noted(path).split(b"\n"):
        size, _, time = line.partition(b" ")
        with contextlib.suppress(ValueError):
            noted = int(size), float(time)
            if noted[0] > (sizes[-1] if sizes else 0) and noted[1] >= (times[-1] if times else 0.0):
                sizes.append(noted[0])
                times.append(noted[1])
    return LogTimes(sizes, times, modified)


EFFECTS = (note,)
"""What changes the volume; see `files`."""

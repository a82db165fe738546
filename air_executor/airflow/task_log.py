"""What the tasks of a job print, line by line, for the log of an Airflow task: none lost, none twice.

What was shown is noted on the volume line by line, so whoever comes next, another try or another triggerer, goes on
where the last one stopped. Airflow writes what it was handed a moment later, in another process: if both were killed
the last seconds are shown again, and said to be. Called by `job_follower`; knows nothing of Airflow.
"""

from __future__ import annotations

import codecs
import math
import time
from collections import deque
from collections.abc import Generator, Iterator
from typing import BinaryIO, NamedTuple

from air_executor.airflow.notes import JobRef, ShownLogs, notes_on
from air_executor.client import Client
from air_executor.model.plain_text import clean_log
from air_executor.model.state import JobState, Running
from air_executor.store.run_logs import open_log

LONGEST = 1 << 16
"""Bytes of a line; a longer one comes in pieces."""
SETTLES = 5.0
"""Seconds in which Airflow has written for certain what it was handed. Seen with 3.3.2: 0.1 s on a busy machine. Where
its database takes 0.3 s to answer, the lines that `log_drain` lets be unread (75 of 300 bytes) take seven looks, 2 s."""
_TOGETHER = 0.1
"""Seconds whose lines settle together."""


class _ShownLine(NamedTuple):
    since: float
    seq: int
    at: int


class _RunLog(NamedTuple):
    seq: int
    task: str
    ended: bool


class TaskLog:
    """The output of all runs of one job that nobody has shown yet."""

    def __init__(self, client: Client, job: JobRef) -> None:
        self._layout = client.layout
        self._notes = notes_on(client, job)
        self._done: set[int] = set()
        """Runs that have ended and of which everything was shown."""
        self._at: dict[int, int] = {}
        """Bytes of each run's log that we have shown ourselves, should the volume refuse to note it."""
        self._unsettled: deque[_ShownLine] = deque()

    def new_lines(self, state: JobState) -> Generator[str, None, None]:
        """Yield what was printed and not shown, each line with its task's id in front; asking for the next notes it.

        A run that has ended in `state` has written its last line, so read the state first.

        Raises:
            StoreError: the volume refused.
        """
        runs = [run for run in _runs(state) if run.seq not in self._done]
        if not runs and not self._unsettled:
            return
        with self._notes.shown() as shown:
            for run in runs:
                yield from self._lines(state, run, shown)
                if run.ended:
                    self._done.add(run.seq)
            self._settle(shown, time.monotonic() - SETTLES)

    def settle(self) -> None:
        """Note that all lines have arrived.

        Raises:
            StoreError: the volume refused.
        """
        if self._unsettled:
            with self._notes.shown() as shown:
                self._settle(shown, math.inf)

    def _lines(self, state: JobState, run: _RunLog, shown: ShownLogs) -> Iterator[str]:
        if run.seq not in self._at:
            self._at[run.seq], repeated = shown.take_over(run.seq)
            if repeated:
                yield f"Whoever showed this log before was killed; the last {repeated} bytes of {run.task} come again"
        file = open_log(self._layout, state, run.task, run.seq)
        if file is None:
            return
        with file:
            at = max(self._at[run.seq], shown[run.seq].handed)
            file.seek(at)
            for line, size in _split(file, whole=run.ended):
                yield f"{run.task} | {clean_log(line.decode(errors='replace'))}"
                at += size
                self._hand(shown, run.seq, at)

    def _hand(self, shown: ShownLogs, seq: int, at: int) -> None:
        self._at[seq] = at
        now = time.monotonic()
        last = self._unsettled[-1] if self._unsettled else None
        if last and last.seq == seq and now - last.since < _TOGETHER:
            self._unsettled[-1] = last._replace(at=at)
        else:
            self._unsettled.append(_ShownLine(now, seq, at))
            self._settle(shown, now - SETTLES)
        shown.hand(seq, at)

    def _settle(self, shown: ShownLogs, until: float) -> None:
        while self._unsettled and self._unsettled[0].since <= until:
            _, seq, at = self._unsettled[0]
            shown.settle(seq, at)
            self._unsettled.popleft()


def _split(file: BinaryIO, *, whole: bool) -> Iterator[tuple[bytes, int]]:
    """Yield each line of a log, and how many bytes of it that is; the last one without an end only of a whole log."""
    rest = b""
    while chunk := file.read(LONGEST):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line, len(line) + 1
        while len(rest) >= LONGEST:
            cut = _end_of_a_character(rest)
            yield rest[:cut], cut
            rest = rest[cut:]
    if rest and whole:
        yield rest, len(rest)


def _end_of_a_character(text: bytes) -> int:
    """Return where a line that is too long can be cut: not within a character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(text[:LONGEST])
    return LONGEST - len(decoder.getstate()[0])


def _runs(state: JobState) -> list[_RunLog]:
    """Return the runs of a job in their order."""
    tasks = state.tasks.values()
    found = [_RunLog(attempt.seq, task.id, ended=True) for task in tasks for attempt in task.attempts]
    found += [_RunLog(task.status.seq, task.id, ended=False) for task in tasks if isinstance(task.status, Running)]
    return sorted(found)

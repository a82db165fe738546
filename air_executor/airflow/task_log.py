"""The output of a job's tasks, line by line, for the log of an Airflow task: no line lost, none shown twice.

How much was shown is noted on the volume with each line, so the next try or the next triggerer starts where the last
one stopped. Airflow writes a line some time after it was logged, in another process. If both processes were killed, the
last seconds are shown again, after a line that says so. Called by `job_follower`; knows nothing of Airflow.
"""

from __future__ import annotations

import codecs
import math
import time
from collections import deque
from collections.abc import Generator, Iterator
from typing import BinaryIO, NamedTuple

from air_executor.airflow.notes import JobRef, LogPositions, notes_on
from air_executor.client import Client
from air_executor.model.plain_text import clean_log
from air_executor.model.state import JobState, Running
from air_executor.store.run_logs import open_log

MAX_LINE = 1 << 16
"""Bytes of a line; a longer one is shown in pieces."""
WRITTEN_AFTER = 5.0
"""Seconds after which Airflow has certainly written a line that it was sent. Measured with 3.3.2: 0.1 s on a busy
machine. With a database that needs 0.3 s per query, the lines that `log_drain` leaves unread (75 of 300 bytes) need
seven queries, 2 s."""
_BATCH_SECONDS = 0.1
"""Lines sent within this time are noted as written together."""


class _SentLines(NamedTuple):
    since: float
    seq: int
    position: int


class _LoggedRun(NamedTuple):
    seq: int
    task: str
    ended: bool


class TaskLog:
    """The output of all runs of one job that was not shown yet."""

    def __init__(self, client: Client, job: JobRef) -> None:
        self._layout = client.layout
        self._notes = notes_on(client, job)
        self._complete: set[int] = set()
        """Runs that have ended and whose whole log was shown."""
        self._positions: dict[int, int] = {}
        """Bytes of each run's log that this process has shown, in case the volume refuses to note it."""
        self._unwritten: deque[_SentLines] = deque()
        self.in_use = False
        """Another process was showing the log during the last call of `new_lines`, which yielded nothing then."""

    def new_lines(self, state: JobState) -> Generator[str, None, None]:
        """Yield the output that was not shown yet, the task's id before each line; a line is noted by the next `next`.

        A run that has ended in `state` prints nothing more, so read the state before the log.

        Raises:
            StoreError: the volume refused.
        """
        runs = [run for run in _runs(state) if run.seq not in self._complete]
        self.in_use = False
        if not runs and not self._unwritten:
            return
        with self._notes.log_positions() as noted:
            if noted is None:
                self.in_use = True
                return
            for run in runs:
                yield from self._lines(state, run, noted)
                if run.ended:
                    self._complete.add(run.seq)
            self._note_written(noted, time.monotonic() - WRITTEN_AFTER)

    def all_written(self) -> None:
        """Note that Airflow has written every line.

        Raises:
            StoreError: the volume refused.
        """
        if self._unwritten:
            with self._notes.log_positions() as noted:
                if noted is not None:
                    self._note_written(noted, math.inf)

    def _lines(self, state: JobState, run: _LoggedRun, noted: LogPositions) -> Iterator[str]:
        if run.seq not in self._positions:
            self._positions[run.seq], repeated = noted.resume(run.seq)
            if repeated:
                yield (
                    "The process that showed this log before was killed or paused: "
                    f"the last {repeated} bytes of {run.task} are shown again"
                )
        file = open_log(self._layout, state, run.task, run.seq)
        if file is None:
            return
        with file:
            position = max(self._positions[run.seq], noted[run.seq].sent)
            file.seek(position)
            for line, size in _split(file, whole=run.ended):
                yield f"{run.task} | {clean_log(line.decode(errors='replace'))}"
                position += size
                self._note_sent(noted, run.seq, position)

    def _note_sent(self, noted: LogPositions, seq: int, position: int) -> None:
        self._positions[seq] = position
        noted.set_sent(seq, position)  # first: else a kill in between shows this line twice, and no line says so
        now = time.monotonic()
        last = self._unwritten[-1] if self._unwritten else None
        if last and last.seq == seq and now - last.since < _BATCH_SECONDS:
            self._unwritten[-1] = last._replace(position=position)
        else:
            self._unwritten.append(_SentLines(now, seq, position))
            self._note_written(noted, now - WRITTEN_AFTER)

    def _note_written(self, noted: LogPositions, until: float) -> None:
        while self._unwritten and self._unwritten[0].since <= until:
            _, seq, position = self._unwritten[0]
            noted.set_written(seq, position)
            self._unwritten.popleft()


def _split(file: BinaryIO, *, whole: bool) -> Iterator[tuple[bytes, int]]:
    """Yield each line and its size in bytes; a last line without a line end only if the log is whole."""
    rest = b""
    while chunk := file.read(MAX_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line, len(line) + 1
        while len(rest) >= MAX_LINE:
            cut = _cut(rest)
            yield rest[:cut], cut
            rest = rest[cut:]
    if rest and whole:
        yield rest, len(rest)


def _cut(text: bytes) -> int:
    """Return where to cut a line that is too long: not within a character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(text[:MAX_LINE])
    return MAX_LINE - len(decoder.getstate()[0])


def _runs(state: JobState) -> list[_LoggedRun]:
    """Return the runs of a job in the order of their starts."""
    tasks = state.tasks.values()
    found = [_LoggedRun(attempt.seq, task.id, ended=True) for task in tasks for attempt in task.attempts]
    found += [_LoggedRun(task.status.seq, task.id, ended=False) for task in tasks if isinstance(task.status, Running)]
    return sorted(found)

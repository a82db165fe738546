"""What the tasks of a job print, line by line, each line once, for the log of an Airflow task.

Called by the operator. Whoever calls reads the state first: a run that has ended by then has written its last line.
"""

from __future__ import annotations

from collections.abc import Iterator

from air_executor.client import Client
from air_executor.core.plaintext import clean_log
from air_executor.core.state import JobState, Running
from air_executor.store.logs import open_log

LONGEST = 1 << 16
"""Bytes of a line; a longer one comes in pieces."""


class JobLog:
    """The output of all runs of one job, from its beginning."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._read: dict[int, int] = {}
        """Bytes read of each run's log."""
        self._rest: dict[int, bytes] = {}
        """The last line of a run's log, while it has no end."""
        self._done: set[int] = set()

    def new_lines(self, state: JobState) -> Iterator[str]:
        """Yield the lines that came since the last call, each with its task's id in front."""
        for seq, task, ended in _runs(state):
            if seq in self._done:
                continue
            for line in self._lines(state, seq, task):
                yield f"{task} | {clean_log(line.decode(errors='replace'))}"
            if ended:
                self._done.add(seq)
                if rest := self._rest.pop(seq, b""):
                    yield f"{task} | {clean_log(rest.decode(errors='replace'))}"

    def _lines(self, state: JobState, seq: int, task: str) -> Iterator[bytes]:
        file = open_log(self._client.layout, state, task, seq)
        if file is None:
            return
        with file:
            file.seek(self._read.get(seq, 0))
            while chunk := file.read(LONGEST):
                self._read[seq] = self._read.get(seq, 0) + len(chunk)
                *lines, rest = (self._rest.pop(seq, b"") + chunk).split(b"\n")
                if len(rest) >= LONGEST:
                    lines, rest = [*lines, rest], b""
                self._rest[seq] = rest
                yield from lines


def _runs(state: JobState) -> list[tuple[int, str, bool]]:
    """Return the runs of a job in their order: number, task, whether it has ended."""
    found = [(attempt.seq, task.id, True) for task in state.tasks.values() for attempt in task.attempts]
    found += [(task.status.seq, task.id, False) for task in state.tasks.values() if isinstance(task.status, Running)]
    return sorted(found)

"""What the tasks of a job print, line by line, for the log of an Airflow task: none lost, none twice.

What was shown is noted on the volume line by line, so whoever comes next, another try or another triggerer, goes on
where the last one stopped. Called by `follow`; knows nothing of Airflow.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from air_executor.airflow.notes import Shown, notes_on
from air_executor.client import Client
from air_executor.core.plaintext import clean_log
from air_executor.core.state import JobState, Running
from air_executor.store.logs import open_log

LONGEST = 1 << 16
"""Bytes of a line; a longer one comes in pieces."""


class _Run(NamedTuple):
    seq: int
    task: str
    ended: bool


class JobLog:
    """The output of all runs of one job that nobody has shown yet."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._done: set[int] = set()
        """Runs that have ended and of which everything was shown."""
        self._at: dict[int, int] = {}
        """Bytes of each run's log that we have shown ourselves, should the volume refuse to note it."""

    def new_lines(self, state: JobState) -> Generator[str, None, None]:
        """Yield what was printed and not shown, each line with its task's id in front; asking for the next notes it.

        A run that has ended in `state` has written its last line, so read the state first.

        Raises:
            StoreError: the volume refused.
        """
        runs = [run for run in _runs(state) if run.seq not in self._done]
        if not runs:
            return
        with notes_on(self._client, state).shown() as shown:
            for run in runs:
                for line in self._lines(state, run, shown):
                    yield f"{run.task} | {clean_log(line.decode(errors='replace'))}"
                if run.ended:
                    self._done.add(run.seq)

    def _lines(self, state: JobState, run: _Run, shown: Shown) -> Iterator[bytes]:
        file = open_log(self._client.layout, state, run.task, run.seq)
        if file is None:
            return
        with file:
            at = max(shown[run.seq], self._at.get(run.seq, 0))
            file.seek(at)
            rest = b""
            while chunk := file.read(LONGEST):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line
                    at += len(line) + 1
                    self._at[run.seq] = at
                    shown[run.seq] = at
                if len(rest) >= LONGEST:
                    yield rest
                    at += len(rest)
                    self._at[run.seq] = at
                    shown[run.seq] = at
                    rest = b""
            if rest and run.ended:
                yield rest
                self._at[run.seq] = at + len(rest)
                shown[run.seq] = at + len(rest)


def _runs(state: JobState) -> list[_Run]:
    """Return the runs of a job in their order."""
    tasks = state.tasks.values()
    found = [_Run(attempt.seq, task.id, ended=True) for task in tasks for attempt in task.attempts]
    found += [_Run(task.status.seq, task.id, ended=False) for task in tasks if isinstance(task.status, Running)]
    return sorted(found)

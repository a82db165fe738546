"""Reads what running tasks report: progress and usage, as they append it to their queue files.

The supervisor calls `look` for the runs of each poll, and `commit` calls `catch_up` before it commits a run. Reads only
what is new, and of all runs together no more than a cycle has time for. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRun
from air_executor.store.run_dirs import RunDirs
from air_executor.store.run_files import MAX_QUEUE

PIECE = 64 * 1024
"""Bytes of one run's file that are read at once, and per poll while it runs."""
SLICE = 0.02
"""Seconds of each poll for the reports of running tasks."""


class ReportReader:
    """Reads the reports of one manager's open runs."""

    def __init__(self, state: ManagerState, run_dirs: RunDirs) -> None:
        self._state = state
        self._run_dirs = run_dirs
        self._left: list[OpenRun] = []
        """Open runs of which the last poll had no time to read."""

    def look(self, runs: Iterable[OpenRun]) -> None:
        """Read what running tasks have appended, and show it in their jobs.

        What there is no time for comes first next time.

        Raises:
            StoreError: the volume refused; ask again.
        """
        until = self._state.clock.steady() + SLICE
        runs = list(runs)
        current = set(map(id, runs))
        first = [run for run in self._left if id(run) in current]
        behind = set(map(id, first))
        turn = first + [run for run in runs if id(run) not in behind]
        for number, run in enumerate(turn, 1):
            self._read(run)
            if self._state.clock.steady() >= until:
                self._left = turn[number:]
                return
        self._left = []

    def catch_up(self, run: OpenRun, *, has_time: Callable[[], bool]) -> bool:
        """Read all that a run which has ended reported; False if the rest is for the next cycle.

        Raises:
            StoreError: the volume refused; ask again.
        """
        while self._read(run, ended=True):
            if not has_time():
                return False
        run.reports.finish()
        return True

    def _read(self, run: OpenRun, *, ended: bool = False) -> bool:
        """Read one piece; tell whether there may be more."""
        job, reports = run.job.state.id, run.reports
        if reports.offset >= MAX_QUEUE:
            return False
        data = self._run_dirs.appended(job, run.seq, run.task.id, reports.offset, PIECE)
        if data is None:
            return False
        reports.has_file = True
        if data and reports.take(data) and not ended:
            run.job.report(run.seq, reports.progress, reports.reported)
            self._state.index.dirty.setdefault(job)
        return len(data) == PIECE

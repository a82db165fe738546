"""Which ended runs are packed, and when: the supervisor names each run that it commits, and a checkpoint is the signal.

Until a checkpoint holds the outcome, a power failure may take it from the journal, and the next manager reads the run.
"""

from __future__ import annotations

from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRun
from air_executor.model import state as s
from air_executor.model.events import Ended
from air_executor.store import log_times
from air_executor.store.run_dirs import RunDirs


class RunPacker:
    """Packs the ended local runs of one manager."""

    def __init__(self, state: ManagerState, run_dirs: RunDirs) -> None:
        self._state = state
        self._run_dirs = run_dirs
        self._waiting: dict[str, list[tuple[str, int, str]]] = {}
        """By job, its uid, number and task of each run that the next checkpoint of the job holds."""
        state.checkpointed.append(self._pack)
        state.dropped.append(self._forget)

    def add(self, run: OpenRun, ended: Ended) -> None:
        """Have a run packed that is committed now, unless it is sure to have left few files.

        Beside a result there can be what a helper was writing when it was killed.
        """
        outcome = run.exit  # that of the script does not say when it started
        few = outcome is not None and outcome.started is not None and ended.reason == s.OK and ended.result is None
        long = self._state.clock.steady() - run.since >= log_times.FIRST_AFTER
        if long or run.reports.has_file or not few:
            self._waiting.setdefault(run.slot.job, []).append((run.job.state.uid, run.seq, run.task.id))

    def _pack(self, job: str) -> None:
        for uid, seq, task in self._waiting.pop(job, ()):
            if uid == self._state.index.uid_of(job):  # else it was submitted again: such a run of it may be open
                self._run_dirs.pack(job, seq, task)

    def _forget(self, job: str) -> None:
        self._waiting.pop(job, None)

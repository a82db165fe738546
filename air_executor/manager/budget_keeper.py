"""Pauses or stops jobs whose open runs use up their budget, and warns of it before.

The loop calls `keep` at each poll, when the reports of running tasks have been read. What ended runs have used needs no
look: `transitions` does the same with that as soon as it is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from air_executor.core.budget import WARN_AT, spending, used_up
from air_executor.core.transitions import LiveJob
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRuns
from air_executor.model import state as s
from air_executor.model.events import OverBudget

log = logging.getLogger(__name__)


class BudgetKeeper:
    """Keeps the budgets of one manager's jobs."""

    def __init__(self, state: ManagerState, open_runs: OpenRuns, wake: Callable[[], None]) -> None:
        """`wake`: have the next cycle at once, which stops runners."""
        self._state = state
        self._open_runs = open_runs
        self._wake = wake
        self._warned: set[tuple[str, str, float]] = set()
        """By job's uid, name and limit: what was warned of, of jobs with open runs."""

    def keep(self, now: float) -> None:
        """Look at the jobs that have open runs."""
        jobs = {run.slot.job: run.job for run in self._open_runs.by_slot.values() if run.job.state.spec.budget}
        if not jobs:
            self._warned.clear()
        for name, job in jobs.items():
            with self._state.guard(name):
                self._warn(job, now)
                spent = used_up(job.state, now)
                if spent is not None and job.state.phase == s.RUNNING and job.state.stop is None:
                    self._state.decide(job, OverBudget(now, spent.name, spent.used))
                    self._wake()

    def _warn(self, job: LiveJob, now: float) -> None:
        for one in spending(job.state, now):
            key = (job.state.uid, one.name, one.limit)
            if one.share >= WARN_AT and key not in self._warned:
                self._warned.add(key)
                log.warning("job=%s has used %s of its budget", job.state.id, one.text)

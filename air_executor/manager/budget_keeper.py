"""Pauses or stops jobs whose open runs use up their budget, and warns of it before.

The loop calls `keep` at each poll, when the reports of running tasks have been read, and when runner-seconds that are
left have passed. What ended runs have used needs no look: `transitions` does the same with that as soon as it is
committed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from air_executor.core.budget import RUNNER_SECONDS, WARN_AT, spending, used_up
from air_executor.core.transitions import LiveJob
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRuns
from air_executor.model import state as s
from air_executor.model.events import OverBudget

log = logging.getLogger(__name__)

_LEAST = 0.01
"""Seconds until the next look at a budget that is all but used up."""


class BudgetKeeper:
    """Keeps the budgets of one manager's jobs."""

    def __init__(self, state: ManagerState, open_runs: OpenRuns, wake: Callable[[], None]) -> None:
        """`wake`: have the next cycle at once, which stops runners."""
        self._state = state
        self._open_runs = open_runs
        self._wake = wake
        self._warned: set[tuple[str, str, float]] = set()
        """By job's uid, name and limit: what was warned of, of jobs with open runs."""
        self._metered: Counter[str] = Counter()
        """Open runs by job, of jobs with a budget of runner-seconds."""
        self._next: float | None = None

    def next_time(self, now: float) -> float | None:
        """Return when the open runs of a job will have used up its runner-seconds, in Unix seconds, or None."""
        metered = Counter(
            run.slot.job for run in self._open_runs.by_slot.values() if RUNNER_SECONDS in run.job.state.spec.budget
        )
        if metered != self._metered:
            self._metered, self._next = metered, self._foresee(metered, now)
        return self._next

    def _foresee(self, metered: Counter[str], now: float) -> float | None:
        times: list[float] = []
        for name, runs in metered.items():
            job = self._state.index.open.get(name)
            if job is not None and job.state.phase == s.RUNNING and job.state.stop is None:
                found = next(one for one in spending(job.state, now) if one.name == RUNNER_SECONDS)
                times.append(now + max(_LEAST, (found.limit - found.used) / runs))
        return min(times, default=None)

    def is_due(self, now: float) -> bool:
        """Tell whether that time has come."""
        return self._next is not None and self._next <= now

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
        self._next = self._foresee(self._metered, now)

    def _warn(self, job: LiveJob, now: float) -> None:
        for one in spending(job.state, now):
            key = (job.state.uid, one.name, one.limit)
            if one.share >= WARN_AT and key not in self._warned:
                self._warned.add(key)
                log.warning("job=%s has used %s of its budget", job.state.id, one.text)

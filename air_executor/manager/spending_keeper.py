"""Keeps the budgets of pools, DAGs and labels: warns of them, and says which tasks must not start.

`core.spending_limits` has the sums. The loop calls `begin` once all jobs are known, and `keep` at each poll; the
scheduler asks `refusal` before each start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from air_executor.core.ledger import UnfinishedRun, open_run, origin_of
from air_executor.core.spending_limits import WARN_AT, Spending
from air_executor.errors import StoreError
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRuns
from air_executor.model.ledger_line import LedgerLine
from air_executor.model.state import JobState, Running, TaskState
from air_executor.store import files
from air_executor.store.all_runs import whole_ledger
from air_executor.store.deleted_runs import DeletedRuns

log = logging.getLogger(__name__)

LONGEST = 32 * 86_400.0
"""Seconds; no period is longer."""


class SpendingKeeper:
    """The budgets of one manager's state directory."""

    def __init__(self, state: ManagerState, open_runs: OpenRuns) -> None:
        self._state = state
        self._open_runs = open_runs
        self._meter = state.spending
        self._warned: dict[tuple[str, str], tuple[float, bool]] = {}
        """By name and period of a limit: the period in which it was warned of last, and whether it was used up."""

    def begin(self, now: float) -> None:
        """Sum what the runs of the present periods have cost.

        Raises:
            StoreError: the volume refused.
        """
        if self._meter.limits:
            self._meter.begin(whole_ledger(self._jobs(now - LONGEST), self._deleted()), now)

    def _deleted(self) -> Iterator[LedgerLine]:
        for line in DeletedRuns(self._state.jobs.layout).lines():
            if isinstance(line, tuple):
                log.warning("%s is in no budget: %s", *line)
            else:
                yield line

    def _jobs(self, since: float) -> Iterator[JobState]:
        jobs, known = self._state.jobs, self._state.index.open
        for name in jobs.ids():
            if name in known:
                yield known[name].state
            elif files.changed_at(jobs.layout.state(name)) >= since:
                try:
                    yield jobs.load(name)
                except StoreError as error:
                    log.warning("job=%s is in no budget: %s", name, error)
        for found in jobs.all_archived(since):
            if isinstance(found, JobState):
                yield found
            else:
                log.warning("%s is in no budget: %s", *found)

    def look(self, now: float) -> Sequence[Spending]:
        """Return what is used of the limits, open runs included."""
        return self._meter.used(self._opened(), now) if self._meter.limits else ()

    def _opened(self) -> Iterator[UnfinishedRun]:
        for run in self._open_runs.by_slot.values():
            status = run.task.status
            if isinstance(status, Running):
                yield open_run(run.job.state, run.task, status)
        for one in self._state.kept.by_slot.values():
            kept = one.kept
            yield UnfinishedRun(one.origin, kept.since, kept.since, kept.seq, kept.price, kept.currency)

    def keep(self, now: float) -> Sequence[Spending]:
        """Warn of limits that are nearly or wholly used up, once in each period; return what is used."""
        found = self.look(now)
        for one in found:
            over, key = one.share >= 1, (one.limit.name, one.limit.period)
            if one.share >= WARN_AT and self._warned.get(key) not in {(one.since, over), (one.since, True)}:
                self._warned[key] = one.since, over
                then = "; tasks wait" if one.refusal() else ""
                log.warning("budget %s: used %s%s", one.limit.name, one.text, then)
        return found


def refusal(spendings: Sequence[Spending], job: JobState, task: TaskState) -> str | None:
    """Return why a budget keeps a task from starting; None: none does."""
    stopping = [(one, why) for one in spendings if (why := one.refusal()) is not None]
    if not stopping:
        return None
    origin = origin_of(job, task)
    return next((why for one, why in stopping if one.limit.covers(origin)), None)

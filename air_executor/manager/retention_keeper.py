"""Archives the ended runs of a name that are beyond its `retention`.

The loop calls `keep` at the end of each cycle; it takes a small share of the manager's time, and costs nothing while no
run ends and none becomes too old. What something still needs stays, and is looked at again later.
"""

from __future__ import annotations

import heapq
import logging

from air_executor.errors import AirExecutorError, NotFoundError
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRuns
from air_executor.manager.run_index import EndedNamedRun

log = logging.getLogger(__name__)

SLICE = 0.02
"""Seconds of one cycle for archiving."""
REST = 0.2
"""Seconds until the next slice if there is more to do."""
AGAIN_AFTER = 60.0
"""Seconds until what could not be archived is looked at again."""


class RetentionKeeper:
    """Applies the retention of names for one manager."""

    def __init__(self, state: ManagerState, open_runs: OpenRuns) -> None:
        self._state = state
        self._open_runs = open_runs
        self._later: list[tuple[float, str]] = []
        """When a name is looked at again, in Unix seconds."""
        self._rests_until = 0.0

    def keep(self, now: float) -> None:
        """Archive what is to go, as much as a cycle has time for."""
        changed = self._state.index.runs.changed
        while self._later and self._later[0][0] <= now:
            changed.setdefault(heapq.heappop(self._later)[1])
        steady = self._state.clock.steady
        if not changed or steady() < self._rests_until:
            return
        until = steady() + SLICE
        while changed:
            if steady() >= until:
                self._rests_until = steady() + REST
                return
            name = next(iter(changed))
            if self._keep_one(name, now, until):
                del changed[name]

    def due_in(self) -> float | None:
        """Return the seconds until there is more to do, or None."""
        if self._state.index.runs.changed:
            return max(0.0, self._rests_until - self._state.clock.steady())
        return None

    def _keep_one(self, name: str, now: float, until: float) -> bool:
        """Archive what is beyond the retention of one name; False if time ran out."""
        going, upcoming = self._state.index.runs.beyond(name, now)
        again = now + AGAIN_AFTER
        times = [] if upcoming is None else [upcoming]
        for run in going:
            if self._state.clock.steady() >= until:
                return False
            try:
                if not self._archive(run):
                    times.append(again)
            except NotFoundError:
                self._state.drop(run.id)  # somebody else took it away
            except AirExecutorError as error:
                log.error("job=%s cannot be archived: %s", run.id, error)  # noqa: TRY400 - a sick volume is no bug
                times.append(again)
        if times:
            heapq.heappush(self._later, (min(times), name))
        return True

    def _archive(self, run: EndedNamedRun) -> bool:
        """Archive one run; False if something still needs it."""
        state = self._state
        ended = state.index.ended.get(run.id)
        alive = self._open_runs.observed
        if ended is None or ended.uid != run.uid or run.id in state.unsaved:
            return False  # reopened, or not written yet
        if state.index.is_named(run.uid) or state.outbox.has(run.id):
            return False
        if alive is None or any(slot.job == run.id for slot in alive):
            return False
        job = state.jobs.load(run.id)
        if job.uid != run.uid or not job.ended:
            return False  # another job by now, or a rewound one: the next scan or the next start finds it
        state.jobs.archive(job)
        state.drop(run.id)
        log.info("job=%s archived: beyond the retention of its name", run.id)
        return True

"""How a manager was asked to stop, and what that needs first.

The loop carries it out once in a cycle. Signals' handlers give it, at any moment.
"""

from __future__ import annotations

from air_executor.core.transitions import LiveJob
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRuns
from air_executor.manager.supervisor import Supervisor
from air_executor.model import state as s
from air_executor.model.events import Requested

_STARTS = (s.QUEUED, s.RUNNING)
"""Phases of jobs whose tasks may start."""


class StopOrder:
    """The order to stop of one manager."""

    def __init__(self) -> None:
        self._kind: str | None = None

    @property
    def given(self) -> bool:
        """Whether the manager was asked to stop: it starts nothing more."""
        return self._kind is not None

    def give(self, *, runners: bool, pause: bool) -> None:
        """Order a stop. `runners`: stop those first; `pause`: pause its jobs too. Thread-safe."""
        self._kind = "pause" if pause else "runners" if runners else self._kind or "leave"

    def carry_out(self, now: float, state: ManagerState, supervisor: Supervisor) -> None:
        """Decide what it needs: the stop of all runs, and the pause of all jobs."""
        if self._kind in ("runners", "pause"):
            supervisor.stop_all(now)
        if self._kind == "runners":
            supervisor.keeper.let_go()
        if self._kind == "pause":
            for job in _startable(state):
                with state.guard(job.state.id):
                    state.decide(job, Requested(now, "", "pause"))

    def is_done(self, state: ManagerState, open_runs: OpenRuns) -> bool:
        """Tell whether nothing is left of what it needs."""
        if self._kind == "pause" and _startable(state):
            return False  # asked to stop while nothing ran
        runners = open_runs.by_slot or (self._kind == "runners" and state.kept.by_slot)
        return self._kind == "leave" or (not runners and not state.journal.pending)


def _startable(state: ManagerState) -> list[LiveJob]:
    return [job for job in state.index.open.values() if job.state.phase in _STARTS]

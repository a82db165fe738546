"""Hands the jobs that recovery found to the parts of a manager that starts; the loop calls it once."""

from __future__ import annotations

from air_executor.manager.manager_state import ManagerState
from air_executor.manager.notifier import Notifier
from air_executor.manager.open_runs import OpenRuns
from air_executor.manager.recovery import Recovered


def admit(found: Recovered, state: ManagerState, open_runs: OpenRuns, notifier: Notifier) -> None:
    """Index the jobs that recovery found, take up what they have to tell, and adopt their open runs."""
    state.index.unmanaged.update(found.unmanaged)
    for name, head in found.ended:
        state.index.add_ended(name, head)
    for holder in found.holders:
        state.index.hold_lock(holder)
    state.problems += found.problems
    for keeping in found.keeping:
        state.kept.note(keeping)
    for ended in found.undelivered:
        if state.manages(ended.id):
            notifier.take(ended)
    for name, job in found.jobs.items():
        with state.guard(name):
            notifier.take(job.state)
            state.counters.recovered(job)
            state.admit(job)
    for name in [name for name in found.jobs if name in state.index.open]:
        with state.guard(name):
            for task, run in found.jobs[name].progress.open_runs():
                open_runs.adopt(found.jobs[name], task, run)

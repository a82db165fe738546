"""Keeps the runners of failed runs for people to look around in, as long as their tasks and the operator want.

The supervisor asks `keep_until` before it commits a failed run whose runner stays, and calls `look` each cycle: runners
whose time has come are removed, and what they used since is committed once they are gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from air_executor.backends.base import RunnerStatus
from air_executor.core.price import cost_of
from air_executor.errors import CorruptFileError, NotFoundError, StoreError
from air_executor.manager.kept_runners import KeptSlot
from air_executor.manager.manager_state import ManagerOptions, ManagerState
from air_executor.manager.open_runs import OpenRun, OpenRuns
from air_executor.model import state as s
from air_executor.model.events import Ended, KeepEnded
from air_executor.model.names import Slot, run_id
from air_executor.model.state import TaskState
from air_executor.store.run_dirs import RunDirs

log = logging.getLogger(__name__)

KEPT_AFTER = frozenset({s.ERROR, s.TIMEOUT, s.OOM})
"""Reasons of the failures after which a runner is kept."""


def keep_time(task: TaskState, options: ManagerOptions) -> float:
    """Return for how many seconds a runner of a task stays after a failure; 0: it does not."""
    if task.keep is None or not options.keep_runners:
        return 0.0
    return min(float(task.keep.on_failure), options.keep_runners_for)


class RunnerKeeper:
    """The runners that one manager keeps."""

    def __init__(self, state: ManagerState, open_runs: OpenRuns, run_dirs: RunDirs) -> None:
        self._state = state
        self._open_runs = open_runs
        self._run_dirs = run_dirs
        self._lets_go = False

    def let_go(self) -> None:
        """Remove all of them, whatever their time."""
        self._lets_go = True

    def keep_until(self, run: OpenRun, ended: Ended) -> float | None:
        """Return until when the runner of a failed run stays; None: it is removed before the run is committed.

        It is if the task runs again, or if as many runners are kept already as the operator allows. One of the same
        task may still be on its way out, after a retry by hand; a task keeps one at a time.
        """
        if ended.reason not in KEPT_AFTER or ended.retry_at is not None or ended.moments.ended is None:
            return None
        options = self._state.options
        if len(self._state.kept.by_slot) >= options.keep_runners or run.task.id in run.job.state.kept:
            return None
        age = max(0.0, ended.moments.gone - ended.moments.ended)
        left = keep_time(run.task, options) - age
        return round(ended.at + left, 3) if left > 0 else None

    def look(self, now: float, acts: list[Callable[[], None]], remover: Callable[[Slot], Callable[[], None]]) -> None:
        """Remove the runners whose time has come, and commit what those used that are gone."""
        observed = self._open_runs.observed or {}
        for one in list(self._state.kept.by_slot.values()):
            status = observed.get(one.slot)
            if status is not None and status.run == one.run and status.alive:
                one.seen = True
                if now >= one.kept.until or self._lets_go:
                    acts.append(remover(one.slot))
                continue
            with self._state.guard(one.slot.job):
                self._end(one, status, now, acts)

    def _end(self, one: KeptSlot, status: RunnerStatus | None, now: float, acts: list[Callable[[], None]]) -> None:
        job = one.slot.job
        try:
            found = self._state.find(job)
        except (NotFoundError, CorruptFileError) as error:
            log.warning("job=%s task=%s its kept runner is gone, and cannot be counted: %s", job, one.task, error)
            self._state.kept.forget(job)
            return
        except StoreError:  # a sick volume: the next cycle tries again
            return
        known = found.state.kept.get(one.task)
        if known is None or run_id(found.state.uid, known.seq) != one.run:  # its job was replaced
            self._state.kept.forget(job)
            return
        mine = status if status is not None and status.run == one.run else None
        gone = self._state.volume_time() if one.seen else one.kept.since
        if mine is not None and mine.finished_at is not None and not one.seen:
            gone = mine.finished_at
        seconds = round(max(0.0, gone - one.kept.since), 6)
        cost = cost_of(one.kept.price, seconds)
        self._state.decide(found, KeepEnded(now, one.task, one.kept.seq, seconds, cost))
        acts.append(partial(self._run_dirs.drop_inputs, job, one.kept.seq, one.task))

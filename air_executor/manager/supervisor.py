"""Applies the contract's table to every slot that is taken: waits, stops and removes runners, commits what has ended.

The loop calls `reconcile` each cycle, after `OpenRuns.observe`. Looks at run directories; `core.plan` decides, `commit`
makes the outcomes, and decisions go through `ManagerState`. Whatever must wait for the journal goes into `acts`. Starts
nothing, and knows no platform.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Container
from dataclasses import replace
from functools import partial

from air_executor.backends.base import Backend, RunnerStatus
from air_executor.core.plan import Action, SlotView, reconcile
from air_executor.errors import BackendUnavailableError, StoreError
from air_executor.manager.commit import Committer
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRun, OpenRuns
from air_executor.manager.pending_jobs import PendingJobs
from air_executor.manager.report_reader import ReportReader
from air_executor.manager.run_packer import RunPacker
from air_executor.manager.runner_keeper import RunnerKeeper, keep_time
from air_executor.model import state as s
from air_executor.model.events import Ended, StopRequested
from air_executor.model.names import Slot
from air_executor.model.times import format_duration
from air_executor.model.types import fit
from air_executor.store import log_times
from air_executor.store.run_dirs import RunDirs

log = logging.getLogger(__name__)

OVERDUE = 5.0
"""Seconds beyond timeout and grace until the manager stops a run; the runner's own watchdog comes first."""
HELD_FOR = 5.0
"""Seconds after its end from which on it is logged what keeps a runner's slot."""
OUTCOME_OF_SUCCESS = 60.0
"""Seconds that an outcome may take to appear on a network volume if the platform reports exit code 0."""

_TOLD = frozenset({s.START_FAILED, s.ERROR, s.EVICTED})
"""Reasons to stop a run that its backend gives, with a message."""


class Supervisor:
    """Supervises the open runs of one manager."""

    def __init__(
        self, state: ManagerState, open_runs: OpenRuns, backend: Backend, run_dirs: RunDirs, chance: random.Random
    ) -> None:
        self._state = state
        self._open_runs = open_runs
        self._backend = backend
        self._run_dirs = run_dirs
        self.pending = PendingJobs(state)
        self._reports = ReportReader(state, run_dirs)
        self._committer = Committer(state, backend, run_dirs, self.pending, chance, reports=self._reports)
        self._packer = RunPacker(state, run_dirs)
        self.keeper = RunnerKeeper(state, open_runs, run_dirs)
        self._orphans: dict[Slot, bool] = {}
        """Slots whose runner is not that of their open run, and whether it still runs."""

    def reconcile(self, now: float, acts: list[Callable[[], None]], *, poll: bool) -> None:
        """Do for every taken slot what the table says. With `poll`, also read the outcome of runs that seem alive."""
        if self._open_runs.observed is None:
            return
        steady = self._state.clock.steady()
        self._committer.begin_cycle()
        for run in list(self._open_runs.by_slot.values()):
            if self._open_runs.by_slot.get(run.slot) is not run:
                continue  # its job was quarantined for the sake of another run
            runner = self._open_runs.observed.get(run.slot)
            try:
                with self._state.guard(run.slot.job):
                    view = self._view(run, runner, steady, poll=poll)
                    action, why = reconcile(view, self._patience(run), remote=self._backend.remote)
                    self._do(action, why, run, now, acts)
            except StoreError as error:
                log.warning(
                    "job=%s task=%s run=%s cannot be committed now: %s", run.slot.job, run.task.id, run.run, error
                )
            if poll:
                self._note_log(run, steady)
        if poll:
            self._read_reports()
        self.keeper.look(now, acts, self._remover)
        self._remove_orphans(acts)

    def _read_reports(self) -> None:
        try:
            self._reports.look(run for run in self._open_runs.by_slot.values() if run.exit is None)
        except StoreError as error:
            log.warning("reports of running tasks cannot be read now: %s", error)

    def _note_log(self, run: OpenRun, steady: float) -> None:
        """Note when the log of a run grew: often at first, then less and less often."""
        age = steady - run.since
        if age >= log_times.FIRST_AFTER and steady - run.log_noted >= age / log_times.PRECISION:
            run.log_noted = steady
            run.log_size = self._run_dirs.note_log(run.slot.job, run.seq, run.task.id, run.log_size)

    @property
    def busy(self) -> bool:
        """Whether something is left that needs no more than time."""
        return self._committer.busy or self.pending.busy

    def unusable(self) -> Container[Slot]:
        """Return the slots in which nothing may start now: those that have a runner.

        A job with a live orphan gets no slot at all: after a rewind, the orphan may run the very task.
        """
        observed = self._open_runs.observed or {}
        jobs = {slot.job for slot, alive in self._orphans.items() if alive}
        if not jobs:
            return observed
        unfinished = self._state.index.open
        known = {job: unfinished[job].state.slots for job in jobs & unfinished.keys()}
        return {*observed, *(Slot(job, number) for job, most in known.items() for number in range(most))}

    def stop_all(self, now: float) -> None:
        """Request the stop of every run for the manager's own sake: its task is queued again at no charge."""
        for run in list(self._open_runs.by_slot.values()):
            with self._state.guard(run.slot.job):
                if self._open_runs.by_slot.get(run.slot) is run and run.status.stop is None:
                    self._state.decide(run.job, StopRequested(now, run.seq, s.REQUEUE))

    def _remove_orphans(self, acts: list[Callable[[], None]]) -> None:
        """Remove runners that belong to no open run; their jobs may start again once they are gone."""
        index, before = self._state.index, self._orphans
        orphans = {
            slot: not runner.finished
            for slot, runner in (self._open_runs.observed or {}).items()
            if slot.job not in index.unmanaged
            and slot not in self._state.kept.by_slot
            and self._is_orphan(slot, runner)
        }
        for slot, alive in orphans.items():
            if slot in self._open_runs.by_slot:
                continue  # the table removes it, for the sake of the open run
            if slot not in before:
                self._state.observer.removed_orphan()
            if alive and not before.get(slot):
                log.warning("job=%s slot=%d removing an orphaned runner", slot.job, slot.number)
            acts.append(self._remover(slot))
        for slot in before.keys() - orphans.keys():
            if slot.job in index.open:
                index.touch(index.open[slot.job], clean=True)
        self._orphans = orphans

    def _is_orphan(self, slot: Slot, runner: RunnerStatus) -> bool:
        run = self._open_runs.by_slot.get(slot)
        return run is None or (runner.run != run.run and not runner.finished)

    def _patience(self, run: OpenRun) -> float:
        """Return how many seconds a run's outcome may take to appear after its runner has gone."""
        grace = self._state.options.visibility
        succeeded = run.platform is not None and run.platform.exit_code == 0
        return max(grace, OUTCOME_OF_SUCCESS) if self._backend.remote and succeeded else grace

    def _view(self, run: OpenRun, runner: RunnerStatus | None, steady: float, *, poll: bool) -> SlotView:
        alive = runner is not None and runner.alive
        mine = runner is not None and runner.run == run.run
        if mine and runner is not None and (alive or runner.node_wait is not None):
            run.node_wait = runner.node_wait
            if run.status.node_wait != runner.node_wait:
                run.job.note_node_wait(run.seq, runner.node_wait)
                self._state.index.dirty.setdefault(run.slot.job)
        if mine and runner is not None and runner.image is not None:
            run.image = runner.image
        if mine and alive:
            run.unseen = False
            run.gone_since = run.gone_at = None
        elif run.gone_since is None:
            run.gone_since = steady
        if run.gone_at is None and (runner is None or (mine and runner.finished)):
            run.gone_at = self._state.volume_time()
        if mine and not alive:
            run.platform = runner
            self._warn_of_holder(run, steady)
        if run.exit is None and run.lost is None and (poll or not (mine and alive)):
            run.exit = self._run_dirs.exit(run.job.state.id, run.seq, run.task.id)
            run.exit_since = steady
        return SlotView(
            open_run=run.run,
            exited=run.exit is not None,
            exited_for=steady - run.exit_since,
            runner=None if runner is None else (runner.run or ""),
            alive=alive,
            finished=mine and runner is not None and runner.finished,
            absent_for=0.0 if run.gone_since is None else steady - run.gone_since,
            stop_requested=run.status.stop is not None,
            given_up=runner.reason if mine and alive and runner is not None else None,
            overdue=self._is_overdue(run, steady),
            stalled=poll and mine and alive and self._is_stalled(run, steady),
            stays=mine and alive and self._stays(run),
        )

    def _stays(self, run: OpenRun) -> bool:
        """Tell whether the runner of a run that has ended goes on by itself."""
        left = run.exit
        failed = left is not None and left.exit_code != 0 and not left.stopped and run.status.stop is None
        return failed and self._backend.keeps and keep_time(run.task, self._state.options) > 0

    def _warn_of_holder(self, run: OpenRun, steady: float) -> None:
        """Log what keeps the slot of an ended run, if it does so for longer than a stop takes."""
        words = None if run.platform is None else run.platform.held_by
        if words is None or words == run.held_by or run.gone_since is None:
            return
        if steady - run.gone_since > HELD_FOR:
            run.held_by = words
            log.warning("job=%s task=%s run=%s is still open: %s", run.slot.job, run.task.id, run.run, words)

    def _is_overdue(self, run: OpenRun, steady: float) -> bool:
        """Tell whether a run is past its timeout; how long it may take to begin is the platform's business."""
        timeout = run.task.timeout
        if timeout is None:
            return False
        limit = float(timeout) + run.task.grace + OVERDUE
        if steady - run.since <= limit:
            return False
        if not self._backend.remote and not run.task.services:
            return True
        begun = self._run_dirs.started(run.job.state.id, run.seq, run.task.id)
        return begun is not None and self._state.volume_time() - begun > limit

    def _is_stalled(self, run: OpenRun, steady: float) -> bool:
        """Tell whether a run has written nothing for too long: as seen at the polls of this manager, by no clock."""
        limit = run.task.stall_timeout
        if limit is None or run.exit is not None:
            return False
        activity = self._run_dirs.activity(run.job.state.id, run.seq, run.task.id)
        if activity is None or activity != run.activity:
            run.activity, run.active_at = activity, steady
        return steady - run.active_at >= limit + self._state.options.visibility

    def _do(
        self,
        action: Action,
        why: str | None,
        run: OpenRun,
        now: float,
        acts: list[Callable[[], None]],
    ) -> None:
        match action:
            case Action.WAIT:
                return
            case Action.STOP if why is not None:
                told = (self._open_runs.observed or {}).get(run.slot) if why in _TOLD else None
                message, permanent = (told.message, told.permanent) if told else (None, False)
                if why == s.STALLED:
                    message = f"no output for {format_duration(run.task.stall_timeout or 0)}"
                self._state.decide(run.job, StopRequested(now, run.seq, why, fit(message), permanent))
                acts.append(self._remover(run.slot))
            case Action.REMOVE:
                acts.append(self._remover(run.slot))
            case Action.KEEP if run.exit is not None:
                if (ended := self._committer.ended_with_exit(run, run.exit, now)) is not None:
                    self._keep(run, ended, acts)
            case Action.COMMIT if run.exit is not None:
                if (ended := self._committer.ended_with_exit(run, run.exit, now)) is not None:
                    self._commit(run, ended, acts)
            case Action.LOST if (ended := self._committer.ended_without_exit(run, now)) is not None:
                self._commit(run, ended, acts)

    def _remover(self, slot: Slot) -> Callable[[], None]:
        def remove() -> None:
            try:
                self._backend.remove(slot)
            except BackendUnavailableError as error:
                self._open_runs.note_unavailable(str(error))

        return remove

    def _keep(self, run: OpenRun, ended: Ended, acts: list[Callable[[], None]]) -> None:
        """Commit a failed run whose runner stays, or remove that runner first."""
        until = self.keeper.keep_until(run, ended)
        if until is None:
            acts.append(self._remover(run.slot))
        else:
            self._commit(run, replace(ended, keep_until=until), acts)

    def _commit(self, run: OpenRun, ended: Ended, acts: list[Callable[[], None]]) -> None:
        del self._open_runs.by_slot[run.slot]
        self._state.decide(run.job, ended)
        if ended.keep_until is None:
            acts.append(partial(self._run_dirs.drop_inputs, run.job.state.id, run.seq, run.task.id))
        if not self._backend.remote:
            self._packer.add(run, ended)
        if ended.reason in s.COMMITTED:
            self.pending.release(run.run)
        if names := self.pending.take(run.run):
            acts.append(partial(self.pending.doom, names))

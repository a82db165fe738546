"""The open runs: what is known of each, and what the table of the contract says to do about it.

Looks at runners and run directories; `booking` judges what ended. The decisions go through the desk; what must wait for
the journal (stopping a runner, removing a job) goes into `acts`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial

from air_executor.backends.base import Backend, RunnerStatus
from air_executor.core.observer import Observer, RunSample, Snapshot
from air_executor.core.plan import Action, SlotView, reconcile
from air_executor.core.price import Prices
from air_executor.core.transitions import LiveJob
from air_executor.errors import BackendUnavailableError, StoreError
from air_executor.manager.clock import Clock
from air_executor.manager.committer import Committer
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_run import OpenRun
from air_executor.manager.pending_jobs import PendingJobs
from air_executor.model import state as s
from air_executor.model.events import Ended, StopRequested
from air_executor.model.fields import DEFAULT_GRACE
from air_executor.model.names import Host, Slot, run_id
from air_executor.model.state import Running, TaskState
from air_executor.store.run_dirs import RunDirs

log = logging.getLogger(__name__)

LONGEST_SILENCE = 5.0
"""Seconds between two questions to a backend that cannot answer; it spares its platform by itself."""
OVERDUE = 5.0
"""Seconds beyond timeout and grace after which the manager stops a run; the runner's own watchdog comes first."""

OUTCOME_OF_SUCCESS = 60.0
"""Seconds that the outcome of a run may take to appear on a network volume where the platform says that it exited 0."""


class Supervisor:
    """Watches over the open runs of one manager."""

    def __init__(
        self,
        desk: ManagerState,
        backend: Backend,
        runs: RunDirs,
        clock: Clock,
        host: Host,
        *,
        volume_time: Callable[[], float],
        platform_retries: int,
        prices: Mapping[str, Prices],
        grace: float,
        observer: Observer,
    ) -> None:
        self.desk = desk
        self.held = PendingJobs(desk)
        self.backend = backend
        self.runs = runs
        self.clock = clock
        self._host = host
        self._grace = grace
        self._observer = observer
        self._chance = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self.open: dict[Slot, OpenRun] = {}
        self.observed: Mapping[Slot, RunnerStatus] | None = {}
        """What the backend shows; None while it cannot answer."""
        self._needless: set[Slot] = set()
        """Slots with a runner that no open run needs."""
        self._strangers: set[Slot] = set()
        """Slots in which something runs that is not their open run."""
        self.backend_problem: str | None = None
        self._ask_again = 0.0
        self._backoff = 0.0
        self.volume_time = volume_time
        self._booking = Committer(
            backend,
            runs,
            self.held,
            clock,
            volume_time=volume_time,
            platform_retries=platform_retries,
            prices=prices,
            chance=self._chance,
        )

    # Knowing

    def adopt(self, job: LiveJob, task: TaskState, status: Running) -> None:
        """Take over an open run that an earlier manager started."""
        state = job.state
        run = OpenRun(
            job,
            task,
            status.seq,
            Slot(state.id, status.slot),
            run_id(state.uid, status.seq),
            self.clock.steady(),
            status.since,
        )
        run.unseen = True
        offset = self.clock.wall() - run.since
        found = self.runs.record(state.id, status.seq, task.id)
        if found is not None:
            record, run.spawned = found
            run.since -= max(0.0, self.clock.wall() - run.spawned)
            if record.get("boot") == self._host.boot and isinstance(clock := record.get("clock"), float):
                offset = clock
            if record.get("backend") != self.backend.name:
                run.backend = str(record.get("backend"))
                run.elsewhere = f"the backend {run.backend}"
            elif self.backend.name == "local":
                if record.get("host") != self._host.name:
                    run.elsewhere = str(record.get("host"))
                elif record.get("boot") != self._host.boot:
                    run.lost = "the machine was restarted while it ran"
        run.wall_since = run.since + offset
        self.open[run.slot] = run
        self._observer.adopted(job, task, status.seq, max(0.0, self.clock.steady() - run.since))

    def forget(self, job: str) -> None:
        """Give up the open runs of a job that is no more; their runners are strangers from now on."""
        for slot in [slot for slot in self.open if slot.job == job]:
            del self.open[slot]

    def confirm_gone(self, job: str) -> None:
        """Believe an operator that the job's runners on another host are gone."""
        for slot, run in self.open.items():
            if slot.job == job:
                run.confirmed_gone = True
        for slot in self.observed or ():
            if slot.job == job:
                self.backend.confirm_gone(slot)

    def observe(self) -> None:
        """Ask the backend for its runners. When it cannot answer, nothing is concluded until it can."""
        now = self.clock.steady()
        if self.backend_problem is not None and now < self._ask_again:
            return
        try:
            self.observed = self.backend.observe()
        except BackendUnavailableError as error:
            self.unavailable(str(error))
        else:
            self.backend_problem = None
            self._backoff = 0.0

    def unavailable(self, why: str) -> None:
        """Note that the backend cannot answer; ask again later and later, at most every 5 s."""
        if self.backend_problem is None:
            log.warning("backend %s cannot answer: %s", self.backend.name, why)
        self.observed = None
        for run in self.open.values():
            run.unseen = True
        self.backend_problem = why
        self._backoff = min(LONGEST_SILENCE, self._backoff * 2 or 0.5)
        self._ask_again = self.clock.steady() + self._backoff * self._chance.uniform(0.8, 1.2)

    def taken(self) -> int:
        """Return how many slots are taken: by an open run, or by any runner that the backend shows."""
        observed = (self.observed or {}).items()
        return len(self.open) + sum(1 for slot, status in observed if slot not in self.open and not status.finished)

    def unusable(self) -> Container[Slot]:
        """Return the slots in which nothing may start now: those that have a runner.

        A job that has a runner which it does not know gets no slot at all: that one may run the very task.
        """
        observed = self.observed or {}
        if not self._strangers:
            return observed
        jobs = {slot.job for slot in self._strangers}
        known = {job: self.desk.catalog.open[job].state.max_runners for job in jobs & self.desk.catalog.open.keys()}
        return {*observed, *(Slot(job, number) for job, most in known.items() for number in range(most))}

    # Deciding

    def reconcile(self, now: float, acts: list[Callable[[], None]], *, look: bool) -> None:
        """Do for every taken slot what the table says. With `look`, also read the outcome of runs that seem alive."""
        if self.observed is None:
            return
        steady = self.clock.steady()
        for run in list(self.open.values()):
            runner = self.observed.get(run.slot)
            try:
                view = self._view(run, runner, steady, look=look)
                action, why = reconcile(view, self._patience(run), remote=self.backend.remote)
                self._do(action, why, run, now, acts)
            except StoreError as error:
                log.warning("job=%s run=%s cannot be booked now: %s", run.job.state.id, run.run, error)
        self._remove_strangers(acts)

    def _remove_strangers(self, acts: list[Callable[[], None]]) -> None:
        """Ask for the end of runners that no open run needs; their job may start when they are gone."""
        catalog = self.desk.catalog
        observed = {slot: one for slot, one in (self.observed or {}).items() if slot.job not in catalog.left_alone}
        needless = observed.keys() - self.open.keys()
        strangers = {slot for slot, one in observed.items() if not one.finished and self._is_strange(slot, one)}
        for slot in needless:
            if slot not in self._needless | self._strangers:
                self._observer.removed_orphan()
            if slot in strangers and slot not in self._strangers:
                log.warning("job=%s slot=%d removing a runner that no open run needs", slot.job, slot.number)
            acts.append(self._remover(slot))
        for slot in (self._needless | self._strangers) - (needless | strangers):
            if slot.job in catalog.open:
                catalog.touch(catalog.open[slot.job], clean=True)
        self._needless, self._strangers = needless, strangers

    def _is_strange(self, slot: Slot, runner: RunnerStatus) -> bool:
        """Tell whether a slot's runner is not that of its open run: after a rewind it may run any task of the job."""
        return slot not in self.open or runner.run != self.open[slot].run

    def _patience(self, run: OpenRun) -> float:
        """Return how many seconds a run's outcome may take to appear after its runner has gone."""
        succeeded = run.platform is not None and run.platform.exit_code == 0
        return max(self._grace, OUTCOME_OF_SUCCESS) if self.backend.remote and succeeded else self._grace

    def _view(self, run: OpenRun, runner: RunnerStatus | None, steady: float, *, look: bool) -> SlotView:
        alive = runner is not None and runner.alive
        mine = runner is not None and runner.run == run.run
        if mine and alive:
            run.unseen = False
            run.gone_since = run.gone_at = None
        elif run.gone_since is None:
            run.gone_since = steady
        if run.gone_at is None and (runner is None or (mine and runner.finished)):
            run.gone_at = self.volume_time()
        if mine and not alive:
            run.platform = runner
        if run.exit is None and run.lost is None and (look or not (mine and alive)):
            run.exit = self.runs.exit(run.job.state.id, run.seq, run.task.id)
            run.exit_since = steady
        return SlotView(
            open_run=run.run,
            exited=run.exit is not None,
            exited_for=steady - run.exit_since,
            runner=None if runner is None else (runner.run or ""),
            alive=alive,
            finished=mine and runner is not None and runner.finished,
            absent_for=0.0 if run.gone_since is None else steady - run.gone_since,
            stop_asked=run.status.stop is not None,
            never_starts=mine and alive and runner is not None and runner.reason is not None,
            overdue=self._is_overdue(run, steady),
        )

    def _is_overdue(self, run: OpenRun, steady: float) -> bool:
        """Tell whether a run has had its timeout; how long it may take to begin is for the platform to say."""
        timeout = run.task.spec.get("timeout")
        if timeout is None:
            return False
        limit = float(timeout) + float(run.task.spec.get("grace", DEFAULT_GRACE)) + OVERDUE
        if steady - run.since <= limit:
            return False
        if not self.backend.remote:
            return True
        begun = self.runs.started(run.job.state.id, run.seq, run.task.id)
        return begun is not None and self.volume_time() - begun > limit

    def look(self) -> Snapshot:
        """Return what was seen when the open runs were last settled."""
        observed = self.observed or {}
        going = [slot for slot in observed if self._is_to_go(slot)]
        return Snapshot(self.backend_problem is None, self.backend.last_contact(), self._sights(observed), going)

    def _is_to_go(self, slot: Slot) -> bool:
        run = self.open.get(slot)
        return run is None or run.exit is not None or run.status.stop is not None

    def _sights(self, observed: Mapping[Slot, RunnerStatus]) -> Iterator[RunSample]:
        now = self.clock.steady() - self._grace
        for slot, run in self.open.items():
            status = observed.get(slot)
            if run.spawned is None or run.exit is not None or status is None:
                continue
            if not status.alive or status.run != run.run:
                continue
            if run.begun is None:
                run.begun = self.runs.started(slot.job, run.seq, run.task.id)
            start = None if run.begun is None else max(0.0, run.begun - run.spawned)
            yield RunSample(run.job, run.task, run.seq, now - run.since, start)

    @property
    def waiting(self) -> dict[str, str]:
        """By job: what one of its runners has to wait for, in the platform's words."""
        observed = self.observed or {}
        found = ((run, observed.get(slot)) for slot, run in self.open.items())
        return {
            run.slot.job: f"task {run.task.id}: {status.message}"
            for run, status in found
            if status is not None and status.alive and status.run == run.run and status.message
        }

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
                never = (self.observed or {}).get(run.slot) if why == s.START_FAILED else None
                message, permanent = (never.message, never.permanent or None) if never else (None, None)
                self.desk.decide(run.job, StopRequested(now, run.seq, why, message, permanent))
                acts.append(self._remover(run.slot))
            case Action.REMOVE:
                acts.append(self._remover(run.slot))
            case Action.BOOK if run.exit is not None:
                self._end(run, self._booking.of_exit(run, run.exit, now), acts)
            case Action.LOST if (ended := self._booking.of_loss(run, now)) is not None:
                self._end(run, ended, acts)

    def _remover(self, slot: Slot) -> Callable[[], None]:
        def remove() -> None:
            try:
                self.backend.remove(slot)
            except BackendUnavailableError as error:
                self.unavailable(str(error))

        return remove

    def _end(self, run: OpenRun, ended: Ended, acts: list[Callable[[], None]]) -> None:
        del self.open[run.slot]
        self.desk.decide(run.job, ended)
        if ended.reason == s.OK:
            self.held.release(run.run)
        acts.extend(partial(self.held.remove, name) for name in self.held.take(run.run))

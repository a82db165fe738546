"""The manager of one state directory: its start, its cycle and its stop.

`cycle` is the table of contents of this package: each step is a call into the module that owns it. One thread owns all
state; watchers, signals and backends' threads can only wake it. `wiring` makes a `Manager`, `air-executor manager` and
`air-executor run` run it. Knows no platform and no settings.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from air_executor.backends.base import Backend
from air_executor.core.observer import Observer
from air_executor.errors import DirectoryLostError, DirectoryMovedError, ManagerHeldError, NotFoundError, StoreError
from air_executor.manager import recovery
from air_executor.manager.act_queue import ActQueue
from air_executor.manager.admission import admit
from air_executor.manager.budget_keeper import BudgetKeeper
from air_executor.manager.checkpointer import Checkpointer
from air_executor.manager.clock import Clock
from air_executor.manager.counter_keeper import CounterKeeper, counters_of
from air_executor.manager.due_times import DueTimes
from air_executor.manager.held_directory import HeldDirectory
from air_executor.manager.lease import FileLease, Lease
from air_executor.manager.manager_state import ManagerOptions, ManagerState
from air_executor.manager.notifier import Notifier
from air_executor.manager.open_runs import OpenRuns
from air_executor.manager.possession import Possession
from air_executor.manager.recovery import Recovered
from air_executor.manager.request_handler import RequestHandler
from air_executor.manager.retention_keeper import RetentionKeeper
from air_executor.manager.run_trimmer import RunTrimmer
from air_executor.manager.runner_files import RunnerFiles
from air_executor.manager.schedule_runner import ScheduleRunner
from air_executor.manager.scheduler import Scheduler
from air_executor.manager.side_work import LINGER_STOPPED
from air_executor.manager.spending_keeper import SpendingKeeper
from air_executor.manager.start_preparation import StartPreparation
from air_executor.manager.status_writer import StatusWriter
from air_executor.manager.stop_order import StopOrder
from air_executor.manager.supervisor import Supervisor
from air_executor.manager.wakeups import Wakeups
from air_executor.model.names import Host
from air_executor.store import trees
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.presence import read_record
from air_executor.store.run_dirs import RunDirs

log = logging.getLogger(__name__)


class Manager:
    """Manages one state directory, from `start` to `stop`."""

    def __init__(
        self,
        layout: Layout,
        backend: Backend,
        host: Host,
        options: ManagerOptions,
        clock: Clock | None = None,
        *,
        lease: Lease | None = None,
        observer: Observer | None = None,
        directory: HeldDirectory | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """`lease`: proof that no other manager is running; None: a lock file. `directory`: held before all else.

        `chance` spreads retries; None: differently in each manager.
        """
        self.directory = directory or HeldDirectory(layout.root)
        self.layout = layout
        self.backend = backend
        self.host = host
        self.options = options
        self.clock = clock or Clock()
        self.observer = observer or Observer()
        self.jobs = Jobs(layout)
        self.run_dirs = RunDirs(layout)
        self.runner_files = RunnerFiles(layout, options.runner_files, self.directory)
        self.inbox = Inbox(layout)
        self.lease = lease or FileLease(layout, host, options.scope)
        self.wakeups = Wakeups()
        self._chance = chance or random.Random()  # noqa: S311 - guards nothing
        self._stop_order = StopOrder()
        self._next_poll = 0.0

    # Start

    def start(self) -> bool:
        """Acquire the state directory, bring it up to date, and adopt its runners.

        Returns: False if it had to stop while another manager had the directory; it has not begun then.

        Raises:
            ManagerHeldError: another manager has it.
            DirectoryMovedError: it was moved meanwhile.
            StoreError: the volume refused.
        """
        with self.directory.explaining():
            if not self._acquire():
                return False
            while not self._begin():
                log.warning("starting again: the lock was removed meanwhile")
        return True

    def _begin(self) -> bool:
        """Do all that follows the lock; False if that was lost meanwhile, and is ours again."""
        try:
            self._bring_up_to_date()
        except (StoreError, NotFoundError, DirectoryLostError) as error:
            self.lease.reacquire()  # not if another manager has replaced this one: that is why then
            if isinstance(error, DirectoryLostError):
                return False
            raise
        return True

    def _bring_up_to_date(self) -> None:
        self.runner_files.install()
        found = self._recover()
        self._assemble(found)
        self._admit(found)
        self.status_writer.publish()
        self._watch()
        for problem in found.problems:
            log.error("%s", problem)
        self.observer.found_corrupt(found.corrupt)
        self.observer.can_count(self.counter_keeper.request)
        self.observer.holds()

    def _acquire(self) -> bool:
        acquired = False
        try:
            self.directory.check()
            self.jobs.prepare()
            self.directory.renew()
            acquired = self.lease.acquire(self._stand_by)
        finally:
            if not acquired:
                self.wakeups.close()
                self.backend.close()
        return acquired

    def _stand_by(self, seconds: float) -> bool:
        self.observer.stands_by()
        self._sleep(seconds)
        return not self._stop_order.given

    def _recover(self) -> Recovered:
        return recovery.recover(
            self.jobs,
            self.run_dirs,
            self.inbox,
            check=self.lease.check,
            at_least=int(read_record(self.layout).get("epoch") or 0),
            from_files=self.options.from_files,
            scope=self.options.scope,
            packs=not self.backend.remote,
        )

    def _assemble(self, found: Recovered) -> None:
        """Make the parts; from here on, data flows through them in the order of `cycle`."""
        counters = counters_of(self.backend.name, self.options, found.counters, self.observer)
        state = ManagerState(self.jobs, found.journal, self.clock, self.observer, self.options, counters=counters)
        self.state = state
        self.due_times = DueTimes(state)
        self.open_runs = OpenRuns(state, self.backend, self.run_dirs, self.host, self._chance)
        self.supervisor = Supervisor(state, self.open_runs, self.backend, self.run_dirs, self._chance)
        self.preparation = StartPreparation(state, self.backend, self.run_dirs, self.wakeups.wake)
        self.spending_keeper = SpendingKeeper(state, self.open_runs)
        self.scheduler = Scheduler(
            state,
            self.open_runs,
            self.supervisor,
            self.backend,
            self.run_dirs,
            preparation=self.preparation,
            runner_files=self.runner_files,
            host=self.host,
            spending=self.spending_keeper,
        )
        # One that manages some jobs only leaves the other runs of a name, and the schedules, to another manager.
        alone = self.options.scope is not None
        self.retention_keeper = None if alone else RetentionKeeper(state, self.open_runs)
        self.budget_keeper = BudgetKeeper(state, self.open_runs, self.wakeups.wake)
        self.counter_keeper = CounterKeeper(state, self.open_runs, self.wakeups.wake)
        self.checkpointer = Checkpointer(state, self.directory)
        self.notifier = Notifier(state, self.checkpointer, self.wakeups.wake)
        self.schedule_runner = None if alone else ScheduleRunner(state, self.inbox, self.options.jobs_dir)
        self.run_trimmer = RunTrimmer(state, self.layout)
        self.status_writer = StatusWriter(
            self.lease.record, state, self.open_runs, self.scheduler, backend=self.backend.name
        )
        self.request_handler = RequestHandler(
            state, self.open_runs, self.run_dirs, self.checkpointer, self.inbox, stateless=found.stateless
        )
        self.possession = Possession(
            self.directory,
            self.lease,
            state,
            runner_files=self.runner_files,
            checkpointer=self.checkpointer,
            status_writer=self.status_writer,
            watch=self._watch_inbox,
        )
        self.act_queue = ActQueue(self.lease, state, self.request_handler, self.possession)

    def _admit(self, found: Recovered) -> None:
        admit(found, self.state, self.open_runs, self.notifier)
        self.supervisor.pending.resolve()
        self.preparation.worktrees.find()
        self.spending_keeper.begin(self.clock.wall())

    def _watch(self) -> None:
        self.wakeups.also(self.backend.on_change(self.wakeups.wake))
        self._watch_inbox()

    def _watch_inbox(self) -> None:
        if self.options.events:
            self.wakeups.watch(self.layout.inbox)

    @property
    def epoch(self) -> int:
        """The number of this manager's life."""
        return self.state.journal.epoch

    # Run

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Cycle until asked to stop (and, with `until`, until that is true), then close.

        Raises:
            ManagerHeldError: another manager has taken over.
            DirectoryMovedError: the directory was moved or unmounted. Runners go on.
        """

        def is_over() -> bool:
            done = until is not None and until()
            return self.may_leave() or (done and not (self.notifier.lingers() or self.preparation.side_work.lingers()))

        while not is_over():
            try:
                self.cycle()
            except (StoreError, NotFoundError, DirectoryLostError) as error:
                if not isinstance(error, StoreError):
                    self.possession.doubt(error)
                log.error("trying again: %s", error)  # noqa: TRY400 - a sick volume is no bug
                self._sleep(self.options.poll_interval)
            except (ManagerHeldError, DirectoryMovedError):
                raise
            except Exception:
                # No job to blame, or `guard` would have: whatever it was, jobs whose steps work go on.
                log.exception("a bug in Air-Executor; report it. Trying again")
                self._sleep(self.options.poll_interval)
            if not is_over():
                self.sleep()
        self.close()

    def cycle(self) -> None:
        """Do everything that can be done now."""
        poll = self.clock.steady() >= self._next_poll
        if not self._is_able(poll=poll):
            return
        now = self.clock.wall()
        self.due_times.check_clock(now)
        self._take_requests(now, poll=poll)
        self.notifier.settle(now)
        self.preparation.side_work.take_results()
        self.due_times.apply_times(now)
        self._stop_order.carry_out(now, self.state, self.supervisor)
        self.open_runs.observe()
        self._commit_outcomes(now, poll=poll)
        if poll or self.budget_keeper.is_due(now):
            self.budget_keeper.keep(now)
        self.due_times.note_late(now)
        self.request_handler.rescan_if_due()
        self._fire_schedules(now)
        self._plan(now)
        self.counter_keeper.note()
        if self._write_journal():
            self.counter_keeper.report()
            self.preparation.settle()
            self.act_queue.carry_out()
            self._clean_up(poll=poll)
            self._checkpoint()
            self.notifier.send()
            self._keep_retention(now)

    def sleep(self) -> None:
        """Sleep until something happens, a time comes, or the next poll is due."""
        scheduled = None if self.schedule_runner is None else self.schedule_runner.next_time()
        budget = self.budget_keeper.next_time(self.clock.wall())
        upcoming = min((at for at in (self.state.index.next_time(), scheduled, budget) if at is not None), default=None)
        times = [
            max(0.0, self._next_poll - self.clock.steady()),
            None if upcoming is None else upcoming - self.clock.wall() + 0.001,
            self.checkpointer.due_in(),
            self.state.outbox.due_in(),
            None if self.retention_keeper is None else self.retention_keeper.due_in(),
            0.0 if self.supervisor.busy or self.request_handler.busy else None,
        ]
        self._sleep(min(seconds for seconds in times if seconds is not None))

    def _sleep(self, seconds: float) -> None:
        self.observer.sleeps()
        self.wakeups.sleep(seconds)
        self.observer.wakes()

    # Steps of a cycle

    def _is_able(self, *, poll: bool) -> bool:
        """Tell whether anything may be done: the directory is ours, and the journal has no backlog."""
        if self.possession.doubted or poll:  # even idle: a manager that was replaced must not answer requests
            self.possession.verify()
        # After a failed append nothing is decided or done until one works.
        return not self.state.journal.pending or self._write_journal()

    def _take_requests(self, now: float, *, poll: bool) -> None:
        if self.wakeups.news() or poll or self.request_handler.busy:
            self.request_handler.take_requests(now, self.possession.verify)

    def _commit_outcomes(self, now: float, *, poll: bool) -> None:
        if poll:
            self._next_poll = self.clock.steady() + self.options.poll_interval
        self.supervisor.reconcile(now, self.act_queue.acts, poll=poll)
        if poll:
            self.observer.polled(self.open_runs.snapshot(self.spending_keeper.keep(now)))

    def _fire_schedules(self, now: float) -> None:
        if self.schedule_runner is not None and not self._stop_order.given:
            self.schedule_runner.fire(now)

    def _plan(self, now: float) -> None:
        if not self._stop_order.given:
            self.scheduler.plan(now, self.act_queue.acts)

    def _write_journal(self) -> bool:
        """Append all decisions to the journal; False if the volume refused, and then nothing may act on them."""
        written = self.act_queue.write_journal()
        if not written:
            self._sleep(self.options.poll_interval)
        return written

    def _clean_up(self, *, poll: bool) -> None:
        self.supervisor.pending.remove_some()
        if poll:
            self.run_trimmer.trim_some()

    def _checkpoint(self) -> None:
        self.checkpointer.save()
        self.status_writer.publish_news()
        self.scheduler.prepare()

    def _keep_retention(self, now: float) -> None:
        waits = self.request_handler.busy or self.request_handler.answers  # a request may be about any run
        if self.retention_keeper is not None and not waits:
            self.retention_keeper.keep(now)

    # Stop

    def stop(self, *, runners: bool = False, pause: bool = False) -> None:
        """Ask it to stop. `runners`: stop those first; `pause`: pause its jobs too. Thread-safe."""
        self._stop_order.give(runners=runners, pause=pause)
        self.wakeups.wake()

    def may_leave(self) -> bool:
        """Tell whether it was asked to stop, and has done what it has to do before."""
        stopped = self._stop_order.given and self._stop_order.is_done(self.state, self.open_runs)
        return stopped and not self.preparation.side_work.lingers(LINGER_STOPPED)

    def close(self) -> None:
        """Checkpoint everything, empty the journal, release the directory. Runners go on.

        Raises:
            ManagerHeldError: another manager has taken over; nothing was written.
            StoreError: the volume refused; the journal keeps what could not be written.
        """
        try:
            self.possession.verify()
            self.counter_keeper.note()
            self._write_journal()
            self.checkpointer.save_all()
            self.counter_keeper.save()
            self.state.journal.close()
            self.status_writer.publish(until=True)
            trees.remove_tree(self.layout.epoch_tmp(self.epoch))
        finally:
            self.notifier.close()
            self.preparation.side_work.close()
            self.wakeups.close()
            self.backend.close()
            self.lease.release()
            self.possession.close()
            self.observer.left()

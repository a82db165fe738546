"""The manager of one state directory: its life, and the cycle that is its table of contents.

One thread owns all state. Everything else (watchers, signals, backends' threads) can only ring. `wiring` makes one;
`air-executor manager` and `air-executor run` run it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from air_executor.backends.base import Backend
from air_executor.core.observer import Observer
from air_executor.core.plan import ReadyQueue
from air_executor.errors import AirExecutorError, DirectoryLostError, NotFoundError, StoreError
from air_executor.manager import recovery
from air_executor.manager.checkpointer import Checkpointer
from air_executor.manager.clock import Clock
from air_executor.manager.job_index import JobIndex
from air_executor.manager.lease import FileLease, Lease
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.options import ManagerOptions
from air_executor.manager.request_handler import RequestHandler
from air_executor.manager.scheduler import LaunchConfig, Scheduler
from air_executor.manager.status_writer import StatusWriter
from air_executor.manager.supervisor import Supervisor
from air_executor.manager.wakeups import Wakeups
from air_executor.model import state as s
from air_executor.model.events import ClockStepped, DeadlinePassed, Requested, StopRequested
from air_executor.model.names import Host
from air_executor.store import files
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.presence import read_record
from air_executor.store.run_dirs import RunDirs

log = logging.getLogger(__name__)

RESCAN_EVERY = 60.0
"""Seconds between full looks at `jobs/`."""
_STARTS = (s.QUEUED, s.RUNNING)
"""Phases of jobs whose tasks may start."""


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
    ) -> None:
        """`lease` is what proves that no other manager is at work; None: a lock file, for managers of one host."""
        self.layout = layout
        self.backend = backend
        self.host = host
        self.options = options
        self.clock = clock or Clock()
        self.observer = observer or Observer()
        self.jobs = Jobs(layout)
        self.runs = RunDirs(layout)
        self.inbox = Inbox(layout)
        self.lease = lease or FileLease(layout, host, options.scope)
        self.wakeups = Wakeups()
        self._stopping: str | None = None
        self._lost: AirExecutorError | None = None
        """How we know that the directory was taken from under us; until it is taken anew, nothing else is done."""
        self._acts: list[Callable[[], None]] = []
        self._next_look = 0.0
        self._next_rescan = 0.0

    # Its life

    def start(self) -> bool:
        """Take the state directory, bring it up to date, and adopt the runners that are there.

        Returns: False if it was told to stop while another manager had the directory; it has not begun then.

        Raises:
            ManagerHeldError: another manager holds it.
            StoreError: the volume refused.
        """
        self.jobs.prepare()
        taken = False
        try:
            taken = self.lease.acquire(self._stand_by)
        finally:
            if not taken:
                self.wakeups.close()
                self.backend.close()
        if not taken:
            return False
        self._install()
        found = recovery.recover(
            self.jobs,
            self.runs,
            self.inbox,
            at_least=int(read_record(self.layout).get("epoch") or 0),
            from_files=self.options.from_files,
            scope=self.options.scope,
        )
        self.catalog = JobIndex(ReadyQueue(self.options.queues), self.observer)
        self.desk = ManagerState(self.jobs, found.journal, self.catalog, self.clock, self.options.scope)
        self.supervisor = Supervisor(
            self.desk,
            self.backend,
            self.runs,
            self.clock,
            self.host,
            volume_time=self._volume_time,
            platform_retries=self.options.platform_retries,
            prices=self.options.prices,
            grace=self.options.visibility,
            observer=self.observer,
        )
        self.saver = Checkpointer(self.desk)
        place = LaunchConfig(
            self.layout,
            self.host,
            self.options.project,
            self.options.secrets_dir,
            self.options.max_runners,
            self.options.name_prefix,
            self.options.secrets_by_name,
        )
        self.starter = Scheduler(self.desk, self.supervisor, self.backend, self.runs, place, observer=self.observer)
        self.notice = StatusWriter(
            self.desk,
            self.lease,
            self.supervisor,
            self.starter,
            self.observer,
            backend=self.backend.name,
            version=self.options.version,
            page=self.options.page,
            problems=found.problems,
        )
        self.intake = RequestHandler(self.desk, self.supervisor, self.saver, self.inbox, self.notice.report)
        self.intake.stateless = found.stateless
        self.desk.listeners += [self.starter.notice, self.observer.decided]
        self.catalog.left_alone.update(found.left_alone)
        for name, uid, phase in found.ended:
            self.catalog.found_ended(name, uid, phase)
        for job in found.jobs.values():
            self.desk.admit(job)
        for job in list(found.jobs.values()):
            for task, run in job.progress.open_runs():
                self.supervisor.adopt(job, task, run)
        self.supervisor.held.resolve()
        self.notice.announce()
        self.wakeups.also(self.backend.on_change(self.wakeups.wake))
        if self.options.events:
            self.wakeups.watch(self.layout.inbox)
        for problem in found.problems:
            log.error("%s", problem)
        self.observer.found_corrupt(found.corrupt)
        self.observer.holds()
        return True

    def _stand_by(self, seconds: float) -> bool:
        self.observer.stands_by()
        self._sleep(seconds)
        return self._stopping is None

    def _sleep(self, seconds: float) -> None:
        self.observer.sleeps()
        self.wakeups.sleep(seconds)
        self.observer.wakes()

    @property
    def epoch(self) -> int:
        """The number of this manager's life."""
        return self.desk.journal.epoch

    def _install(self) -> None:
        files.make_dir(self.layout.bin)
        files.let_read(self.layout.bin)
        for name, content in self.options.runner_files.items():
            files.replace(f"{self.layout.bin}/{name}", content, self.layout.tmp, sync=False)
            files.let_read(f"{self.layout.bin}/{name}")

    def _volume_time(self) -> float:
        """Return what time it is by the volume's clock."""
        return files.touch(f"{self.layout.epoch_tmp(self.epoch)}/clock")

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Cycle until told to stop (and, with `until`, until that is true), then leave everything tidy.

        Raises:
            ManagerHeldError: another manager has taken over.
        """
        while not self._may_leave() and not (until is not None and until()):
            try:
                self.cycle()
            except (StoreError, NotFoundError, DirectoryLostError) as error:
                if not isinstance(error, StoreError):
                    self._lost = self._lost or error
                log.error("trying again: %s", error)  # noqa: TRY400 - a sick volume is no bug
                self._sleep(self.options.poll_interval)
            self.sleep()
        self.close()

    def stop(self, *, runners: bool = False, pause: bool = False) -> None:
        """Ask it to stop: with `runners` after stopping those, with `pause` pausing its jobs too. Thread-safe."""
        self._stopping = "pause" if pause else "runners" if runners else self._stopping or "leave"
        self.wakeups.wake()

    def _may_leave(self) -> bool:
        if self._stopping is None:
            return False
        if self._stopping == "pause" and any(job.state.phase in _STARTS for job in self.catalog.open.values()):
            return False  # told to stop while nothing ran
        return self._stopping == "leave" or (not self.supervisor.open and not self.desk.journal.pending)

    def close(self) -> None:
        """Checkpoint everything, empty the journal, let go of the directory. Runners go on.

        Raises:
            ManagerHeldError: another manager has taken over; nothing was written.
            StoreError: the volume refused; the journal keeps what could not be written.
        """
        try:
            self._make_sure()
            self._flush()
            self.saver.save_all()
            self.desk.journal.close()
            self.notice.announce(until=True)
            files.remove_tree(self.layout.epoch_tmp(self.epoch))
        finally:
            self.wakeups.close()
            self.backend.close()
            self.lease.release()
            self.observer.left()

    # One cycle

    def cycle(self) -> None:
        """Do everything that can be done now."""
        # Even idle: one that was replaced must not answer requests.
        if self._lost is not None or self.clock.steady() >= self._next_look:
            self._make_sure()
        if not self._flushed_earlier():
            return
        now = self.clock.wall()
        self._notice_clock(now)
        if self.wakeups.news() or self.clock.steady() >= self._next_look:
            self.intake.take_requests(now, self._make_sure)
        self.supervisor.observe()
        self._book(now)
        self._let_time_pass(now)
        if self._stopping is None:
            self.starter.plan(now, self._acts)
        if self._flush():
            self._act()
            self.saver.save()
            self.notice.tell_news(self.options.poll_interval)
            self.starter.prepare()

    def sleep(self) -> None:
        """Sleep until something happens, a time comes, or it is time to poll."""
        upcoming = self.catalog.next_time()
        times = [
            self.options.poll_interval,
            None if upcoming is None else upcoming - self.clock.wall() + 0.001,
            self.saver.due_in(),
        ]
        self._sleep(min(seconds for seconds in times if seconds is not None))

    def _flushed_earlier(self) -> bool:
        """After a failed append nothing is decided or done until one works."""
        return not self.desk.journal.pending or self._flush()

    def _notice_clock(self, now: float) -> None:
        by = self.clock.stepped()
        if by:
            log.warning("wall time was set by %+.1f s; delays go on as before", by)
            for job in list(self.catalog.open.values()):
                if job.state.deadline_at is not None or any(_has_time(task) for task in job.progress.queued()):
                    self.desk.decide(job, ClockStepped(now, round(by, 3)))

    def _book(self, now: float) -> None:
        steady = self.clock.steady()
        look = steady >= self._next_look
        if look:
            self._next_look = steady + self.options.poll_interval
        self.supervisor.reconcile(now, self._acts, look=look)
        if look:
            self.observer.looked(self.supervisor.look())

    def _let_time_pass(self, now: float) -> None:
        for job in self.catalog.due(now):
            deadline = job.state.deadline_at
            if deadline is not None and deadline <= now and job.state.stop != s.TIMEOUT:
                self.desk.decide(job, DeadlinePassed(now))
            if job.state.id in self.catalog.open:  # not ended by that, nor by an earlier one's end
                job.progress.promote(now)
                self.catalog.touch(job, clean=True)
        if self._stopping in ("runners", "pause"):
            self._stop_runners(now)
        if self.clock.steady() >= self._next_rescan:
            self._next_rescan = self.clock.steady() + RESCAN_EVERY
            self.intake.rescan()
        elif self.intake.stateless:
            self.intake.set_stateless_aside()

    def _stop_runners(self, now: float) -> None:
        for run in self.supervisor.open.values():
            if run.status.stop is None:
                self.desk.decide(run.job, StopRequested(now, run.seq, s.REQUEUE))
        if self._stopping == "pause":
            for job in list(self.catalog.open.values()):
                if job.state.phase in _STARTS:
                    self.desk.decide(job, Requested(now, "", "pause"))

    def _flush(self) -> bool:
        """Make all decisions part of the journal; False if the volume refused, and then nothing may act on them."""
        journal = self.desk.journal
        if not journal.pending and not self.intake.answers and not self._acts:
            return True
        # Acts without a decision are checked too: a manager that was replaced must leave the new one's runners alone.
        try:
            self.lease.check()
            journal.flush()
            if self.intake.answers:
                journal.sync()
            # If we were paused and replaced in between, nobody will ever read what was written, so nothing may follow.
            self.lease.check()
        except DirectoryLostError as error:
            self._take_anew(error)
        except StoreError as error:
            log.error("nothing is done until the journal can be written: %s", error)  # noqa: TRY400 - a full disk is no bug
            self._sleep(self.options.poll_interval)
            return False
        self.intake.answered()
        return True

    def _make_sure(self) -> None:
        """See to it that the directory is ours; raises as `_take_anew`."""
        try:
            self.lease.check()
            self.desk.journal.check()
        except DirectoryLostError as error:
            self._lost = error
        if self._lost is not None:
            self._take_anew(self._lost)

    def _take_anew(self, why: AirExecutorError) -> None:
        """Our lock or journal was removed (`git clean`): take the directory again and write every job anew, or leave.

        Raises:
            ManagerHeldError: another manager has it.
            StoreError, NotFoundError: it could not be done now; the next cycle begins with it.
        """
        log.warning("%s; taking the state directory anew", why)
        self._lost = why
        self.lease.retake()
        self.jobs.prepare()
        self._install()
        old = self.desk.journal
        self.desk.journal = recovery.take_epoch(self.jobs, self.epoch)
        old.close()
        self.saver.rewrite()
        self.notice.announce()
        if self.options.events:
            self.wakeups.watch(self.layout.inbox)
        self._lost = None

    def _act(self) -> None:
        """Do what was decided."""
        while self._acts:  # one at a time: where one raises, the rest is done after the next flush
            self.lease.check()
            self.observer.alive()
            self._acts.pop(0)()


def _has_time(task: s.TaskState) -> bool:
    """Tell whether a task waits, or has waited, for a time: one that is due already must not wait for it again."""
    return isinstance(task.status, s.Queued) and task.status.waits_until is not None

"""The manager of one state directory: its life, and the cycle that is its table of contents.

One thread owns all state. Everything else (watchers, signals, backends' threads) can only ring. `wiring` makes one;
`air-executor manager` and `air-executor run` run it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from air_executor.backends.base import Backend
from air_executor.core import state as s
from air_executor.core.events import ClockStepped, DeadlinePassed, Requested, Started, StopAsked
from air_executor.core.fields import DEFAULT_GRACE
from air_executor.core.names import Host, parse_run_id, run_id
from air_executor.core.plan import Roster, Start
from air_executor.core.state import Running
from air_executor.core.transitions import Job
from air_executor.errors import (
    AirExecutorError,
    BackendUnavailableError,
    CorruptFileError,
    DirectoryLostError,
    DuplicateRunnerError,
    NotFoundError,
    SpawnRejectedError,
    StoreError,
)
from air_executor.manager import recover, requests
from air_executor.manager.catalog import Catalog, EndedJob
from air_executor.manager.clock import Clock
from air_executor.manager.desk import Desk
from air_executor.manager.launch import Inputs, launch_of
from air_executor.manager.lease import FileLease, read_record
from air_executor.manager.supervise import OpenRun, Supervisor
from air_executor.manager.watch import Wakeups
from air_executor.store import files
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.runs import Runs

log = logging.getLogger(__name__)

RESCAN_EVERY = 60.0
CHECKPOINT_AFTER = 0.2
"""Seconds that a changed job may wait for its checkpoint while that costs little."""
CHECKPOINT_SHARE = 0.05
"""Share of the manager's time that checkpoints of unfinished jobs may take."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a manager behaves. Seconds."""

    version: str
    max_runners: int
    runner_files: Mapping[str, bytes]
    """What to put into `bin/`, by name."""
    project: str
    """The folder that relative work directories start from."""
    poll_interval: float = 1.0
    queues: Mapping[str, int] = field(default_factory=dict)
    platform_retries: int = 3
    price: float = 0.0
    """Per runner-hour."""
    secrets_dir: str | None = None
    events: bool = True
    """False: poll only."""
    from_files: bool = False
    scope: set[str] | None = None
    """The jobs to manage; None means all."""
    visibility: float = 0.0
    """How long a file may take to appear after its writer has gone (network volumes)."""


class Manager:
    """Manages one state directory, from `start` to `stop`."""

    def __init__(
        self, layout: Layout, backend: Backend, host: Host, options: Options, clock: Clock | None = None
    ) -> None:
        self.layout = layout
        self.backend = backend
        self.host = host
        self.options = options
        self.clock = clock or Clock()
        self.jobs = Jobs(layout)
        self.runs = Runs(layout)
        self.inbox = Inbox(layout)
        self.lease = FileLease(layout, host)
        self.wakeups = Wakeups()
        self.problems: list[str] = []
        self._stopping: str | None = None
        self._acts: list[Callable[[], None]] = []
        self._answers: list[str] = []
        """Requests that the journal will name; answered once that is durable."""
        self._stateless: list[str] = []
        self._inputs = Inputs()
        self._next_look = 0.0
        self._next_rescan = 0.0
        self._next_checkpoint = 0.0
        self._hold_starts = 0.0
        self._start_backoff = 0.0

    # Its life

    def start(self) -> None:
        """Take the state directory, bring it up to date, and adopt the runners that are there.

        Raises:
            ManagerHeldError: another manager holds it.
            StoreError: the volume refused.
        """
        self.jobs.prepare()
        self.lease.acquire()
        self._install()
        found = recover.recover(
            self.jobs,
            self.runs,
            self.inbox,
            at_least=int(read_record(self.layout).get("epoch") or 0),
            from_files=self.options.from_files,
            scope=self.options.scope,
        )
        self.problems = found.problems
        self._stateless = found.stateless
        self.catalog = Catalog(Roster(self.options.queues))
        self.desk = Desk(self.jobs, found.journal, self.catalog, self.clock, self.options.scope)
        self.supervisor = Supervisor(
            self.desk,
            self.backend,
            self.runs,
            self.clock,
            self.host,
            platform_retries=self.options.platform_retries,
            price=self.options.price,
            grace=self.options.visibility,
        )
        self.supervisor.volume_time = self._volume_time
        self.catalog.left_alone.update(found.left_alone)
        for name, uid, phase in found.ended:
            self.catalog.ended[name] = EndedJob(uid, phase)
        for job in found.jobs.values():
            self.desk.admit(job)
        for job in list(found.jobs.values()):
            for task, run in job.progress.open_runs():
                self.supervisor.adopt(job, task, run)
        self._resolve_held()
        self.lease.announce(self.epoch, self.options.version, self.clock.wall(), self.problems)
        self.backend.on_change(self.wakeups.wake)
        if self.options.events:
            self.wakeups.watch(self.layout.inbox)
        for problem in self.problems:
            log.error("%s", problem)

    @property
    def epoch(self) -> int:
        """The number of this manager's life."""
        return self.desk.journal.epoch

    def _install(self) -> None:
        files.make_dir(self.layout.bin)
        for name, content in self.options.runner_files.items():
            files.replace(f"{self.layout.bin}/{name}", content, self.layout.tmp, sync=False)

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
            except (NotFoundError, DirectoryLostError) as error:
                self._take_anew(error)
            except StoreError as error:
                log.error("trying again: %s", error)  # noqa: TRY400 - a sick volume is no bug
                self.wakeups.sleep(self.options.poll_interval)
            self.sleep()
        self.close()

    def stop(self, *, runners: bool = False, pause: bool = False) -> None:
        """Ask it to stop: with `runners` after stopping those, with `pause` pausing its jobs too. Thread-safe."""
        self._stopping = "pause" if pause else "runners" if runners else self._stopping or "leave"
        self.wakeups.wake()

    def _may_leave(self) -> bool:
        if self._stopping is None:
            return False
        return self._stopping == "leave" or (not self.supervisor.open and not self.desk.journal.pending)

    def close(self) -> None:
        """Checkpoint everything, empty the journal, let go of the directory. Runners go on.

        Raises:
            StoreError: the volume refused; the journal keeps what could not be written.
        """
        try:
            self._flush()
            for name in list(self.catalog.dirty):
                self._save(self.catalog.open[name])
            self._save_ended()
            self.desk.journal.close()
            files.remove_tree(self.layout.epoch_tmp(self.epoch))
            self.lease.announce(self.epoch, self.options.version, self.clock.wall(), self.problems, until=True)
        finally:
            self.wakeups.close()
            self.backend.close()
            self.lease.release()

    # One cycle

    def cycle(self) -> None:
        """Do everything that can be done now."""
        if not self._flushed_earlier():
            return
        now = self.clock.wall()
        self._notice_clock(now)
        self._take_requests(now)
        self.supervisor.observe()
        self._book(now)
        self._let_time_pass(now)
        self._plan(now)
        if self._flush():
            self._act()
            self._checkpoint()

    def sleep(self) -> None:
        """Sleep until something happens, a time comes, or it is time to poll."""
        seconds = self.options.poll_interval
        upcoming = self.catalog.next_time()
        if upcoming is not None:
            seconds = min(seconds, upcoming - self.clock.wall() + 0.001)
        if self.catalog.dirty:
            seconds = min(seconds, self._next_checkpoint - self.clock.steady())
        self.wakeups.sleep(seconds)

    def _flushed_earlier(self) -> bool:
        """After a failed append nothing is decided or done until one works."""
        return not self.desk.journal.pending or self._flush()

    def _notice_clock(self, now: float) -> None:
        by = self.clock.stepped()
        if by:
            log.warning("wall time was set by %+.1f s; delays go on as before", by)
            for job in list(self.catalog.open.values()):
                if job.progress.next_time() is not None or job.state.deadline_at is not None:
                    self.desk.decide(job, ClockStepped(now, round(by, 3)))

    def _take_requests(self, now: float) -> None:
        for name in self.inbox.pending():
            if name in self._answers:
                continue
            try:
                request = self.inbox.read(name)
            except CorruptFileError as error:
                self.inbox.refuse(name, str(error))
                continue
            if request is None or (self.desk.scope is not None and request.job not in self.desk.scope):
                continue
            try:
                self._take(request.job)
                if request.op == "wake":
                    self.inbox.done(name)
                    continue
                job = self.desk.find(request.job)
                decision = requests.decide(request, job.state, now)
            except requests.NothingToDoError:
                self.inbox.done(name)
            except AirExecutorError as error:
                self.inbox.refuse(name, str(error))
            else:
                self._apply(job, decision)

    def _apply(self, job: Job, decision: Requested) -> None:
        self._answers.append(decision.request)
        self.desk.decide(job, decision)
        for slot, run in self.supervisor.open.items():
            if decision.op == "confirm-gone" and slot.job == job.state.id:
                run.confirmed_gone = True

    def _take(self, name: str) -> None:
        """Take in a job that was submitted, if it is new.

        Raises:
            CorruptFileError: it was unreadable, and has been set aside.
        """
        if self.catalog.knows(name) or name in self.desk.unsaved:
            return
        try:
            state = self.jobs.load(name)
        except NotFoundError:
            return
        except CorruptFileError as error:
            where = files.quarantine(self.layout.state(name))
            self.catalog.left_alone[name] = f"{error}; moved to {where}"
            self._report(f"job {name}: {self.catalog.left_alone[name]}")
            raise
        self.desk.admit(Job(state))

    def _report(self, problem: str) -> None:
        log.error("%s", problem)
        self.problems.append(problem)
        self.lease.announce(self.epoch, self.options.version, self.clock.wall(), self.problems)

    def _book(self, now: float) -> None:
        steady = self.clock.steady()
        look = steady >= self._next_look
        if look:
            self._next_look = steady + self.options.poll_interval
        self.supervisor.settle(now, self._acts, look=look)

    def _let_time_pass(self, now: float) -> None:
        for job in self.catalog.due(now):
            deadline = job.state.deadline_at
            if deadline is not None and deadline <= now and job.state.stop != s.TIMEOUT:
                self.desk.decide(job, DeadlinePassed(now))
            job.progress.promote(now)
            self.catalog.touch(job, clean=True)
        if self._stopping in ("runners", "pause"):
            self._stop_runners(now)
        if self.clock.steady() >= self._next_rescan:
            self._next_rescan = self.clock.steady() + RESCAN_EVERY
            self._rescan()

    def _stop_runners(self, now: float) -> None:
        for run in self.supervisor.open.values():
            if run.status.stop is None:
                self.desk.decide(run.job, StopAsked(now, run.seq, s.REQUEUE))
        if self._stopping == "pause":
            for job in list(self.catalog.open.values()):
                if job.state.phase in (s.QUEUED, s.RUNNING):
                    self.desk.decide(job, Requested(now, "", "pause"))

    def _rescan(self) -> None:
        """Heal what no wake-up told: new jobs, jobs whose directory has gone, directories without a state."""
        there = set(self.jobs.ids())
        scope = self.desk.scope
        for name in sorted(there):
            if not self.catalog.knows(name) and (scope is None or name in scope):
                try:
                    self._take(name)
                except StoreError as error:
                    log.warning("job=%s cannot be read: %s", name, error)
        for name in [name for name in self.catalog.open if name not in there]:
            log.warning("job=%s its directory is gone; writing it anew", name)
            self.jobs.recreate(self.catalog.open[name].state, self.layout.epoch_tmp(self.epoch))
        for name in [name for name in self.catalog.ended if name not in there and name not in self.desk.unsaved]:
            self.catalog.drop(name)
        for name in list(self._stateless):
            if not any(slot.job == name for slot in self.supervisor.observed or {}):
                log.warning("job=%s has no state.json; set aside as %s", name, self.jobs.set_aside(name))
                self._stateless.remove(name)

    def _plan(self, now: float) -> None:
        """Decide which tasks start."""
        supervisor = self.supervisor
        if supervisor.observed is None or self._stopping or self.clock.steady() < self._hold_starts:
            return
        room = self.options.max_runners - supervisor.taken()
        if room <= 0:
            return
        queues = Counter(run.job.state.queue for run in supervisor.open.values())
        while (start := self.catalog.roster.next_start(now, supervisor.observed, room, queues.__getitem__)) is not None:
            self._start(start, now)
            queues[start.job.state.queue] += 1
            room -= 1

    def _start(self, start: Start, now: float) -> None:
        state = start.job.state
        seq = state.seq + 1
        self.desk.decide(start.job, Started(now, start.task.id, seq, start.slot.number))
        run = OpenRun(
            start.job, start.task, seq, start.slot, run_id(state.uid, seq), self.clock.steady(), self.clock.wall()
        )
        self.supervisor.open[start.slot] = run
        self._acts.append(lambda: self._spawn(run))

    def _flush(self) -> bool:
        """Make all decisions part of the journal; False if the volume refused, and then nothing may act on them."""
        journal = self.desk.journal
        if not journal.pending and not self._answers:
            return True
        try:
            self.lease.check()
            journal.flush()
            if self._answers:
                journal.sync()
        except DirectoryLostError as error:
            self._take_anew(error)
        except StoreError as error:
            log.error("nothing is done until the journal can be written: %s", error)  # noqa: TRY400 - a full disk is no bug
            self.wakeups.sleep(self.options.poll_interval)
            return False
        for name in self._answers:
            self.inbox.done(name)
        self.desk.journal.answered(self._answers)
        self._answers.clear()
        return True

    def _take_anew(self, why: AirExecutorError) -> None:
        """Our lock or journal was removed (`git clean`): take the directory again and write every job anew, or leave.

        Raises:
            ManagerHeldError: another manager has it.
        """
        log.warning("%s; taking the state directory anew", why)
        self.lease.retake()
        self.jobs.prepare()
        self._install()
        self.desk.journal = recover.take_epoch(self.jobs, self.epoch)
        for job in [*self.catalog.open.values(), *self.desk.unsaved.values()]:
            self.jobs.recreate(job.state, self.layout.epoch_tmp(self.epoch))
        self.catalog.dirty.clear()
        self.lease.announce(self.epoch, self.options.version, self.clock.wall(), self.problems)
        if self.options.events:
            self.wakeups.watch(self.layout.inbox)

    def _act(self) -> None:
        """Do what was decided."""
        acts, self._acts = self._acts, []
        for act in acts:
            act()

    def _spawn(self, run: OpenRun) -> None:
        state = run.job.state
        if run.slot not in self.supervisor.open or not isinstance(run.task.status, Running):
            return
        try:
            launch = launch_of(self.layout, self.options.project, state, run.task, run.status, self.options.secrets_dir)
            record = {
                "run": run.run,
                "job": state.id,
                "task": run.task.id,
                "attempt": run.task.runs,
                "slot": run.slot.number,
                "epoch": self.epoch,
                "backend": self.backend.name,
                "host": self.host.name,
                "boot": self.host.boot,
                "timeout": launch.timeout,
                "grace": run.task.spec.get("grace", DEFAULT_GRACE),
            }
            run.spawned = self.runs.create(
                state.id,
                run.seq,
                run.task.id,
                record,
                self._inputs.text(run.job),
                self.layout.epoch_tmp(self.epoch),
                remote=self.backend.remote,
            )
            run.since, run.wall_since = self.clock.steady(), self.clock.wall()
            self.backend.spawn(launch)
        except SpawnRejectedError as error:
            run.refused = str(error)
            self.wakeups.wake()
        except DuplicateRunnerError as error:
            log.warning("job=%s run=%s its slot is taken: %s", state.id, run.run, error)
        except BackendUnavailableError as error:
            self.supervisor.unavailable(str(error))
        except StoreError as error:
            log.error("job=%s run=%s cannot be started: %s", state.id, run.run, error)  # noqa: TRY400 - a full disk is no bug
            self._start_backoff = min(30.0, self._start_backoff * 2 or 0.5)
            self._hold_starts = self.clock.steady() + self._start_backoff
        else:
            run.ours = True
            self._start_backoff = 0.0

    def _checkpoint(self) -> None:
        """Write ended jobs at once, and the others so that it takes no more than its share of the time."""
        try:
            self._save_ended()
            while self.catalog.dirty and self.clock.steady() >= self._next_checkpoint:
                begun = self.clock.steady()
                self._save(self.catalog.open[next(iter(self.catalog.dirty))])
                took = self.clock.steady() - begun
                self._next_checkpoint = begun + took / CHECKPOINT_SHARE
            if not self.catalog.dirty:
                self._next_checkpoint = max(self._next_checkpoint, self.clock.steady() + CHECKPOINT_AFTER)
        except StoreError as error:
            log.error("checkpoints wait: %s", error)  # noqa: TRY400 - the journal holds what they would
            self._next_checkpoint = self.clock.steady() + 1.0

    def _save_ended(self) -> None:
        for job in list(self.desk.unsaved.values()):
            self._save(job)
            self._inputs.forget(job.state.uid)

    def _save(self, job: Job) -> None:
        state = job.state
        self.jobs.checkpoint(state, self.layout.epoch_tmp(self.epoch))
        self.catalog.dirty.pop(state.id, None)
        self.desk.unsaved.pop(state.id, None)
        self.desk.journal.checkpointed(state.id, state.version)

    # Whole jobs left held by a crash

    def _resolve_held(self) -> None:
        """Release or remove held jobs whose submitting run was booked before a crash; the rest waits for that."""
        for job in [job for job in self.catalog.open.values() if job.state.phase == s.HELD]:
            run = parse_run_id(job.state.submitted_by or "")
            parent = self._parent(run[0]) if run is not None else None
            if run is None or parent is None:
                self.desk.remove_held(job.state.id)
                continue
            if run[1] in parent.progress.runs:
                continue
            booked = any(a.seq == run[1] and a.reason == s.OK for t in parent.state.tasks.values() for a in t.attempts)
            if booked:
                self.desk.release_held(job.state.submitted_by or "")
            else:
                self.desk.take_held(job.state.submitted_by or "")
                self.desk.remove_held(job.state.id)

    def _parent(self, uid: str) -> Job | None:
        for job in self.catalog.open.values():
            if job.state.uid == uid:
                return job
        for name, ended in self.catalog.ended.items():
            if ended.uid == uid:
                return Job(self.jobs.load(name))
        return None

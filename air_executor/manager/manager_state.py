"""What all parts of the manager share: its options, the jobs in memory, the journal, and the way from decision to both.

Everything that changes a job goes through `decide`: it applies the event, notes it for the journal and updates the
indexes. The loop makes one `ManagerState` and hands it to every part. Touches no runner, and doesn't know who decides.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from air_executor.core.counters import Counters
from air_executor.core.ledger import origin_of
from air_executor.core.notices import notices_of, occasions_of
from air_executor.core.observer import Observer
from air_executor.core.plan import ReadyQueue
from air_executor.core.price import Prices
from air_executor.core.spending_limits import SpendingLimit, SpendingMeter
from air_executor.core.transitions import LiveJob
from air_executor.errors import AirExecutorError, AlreadyExistsError, BadInputError, NotFoundError, StoreError
from air_executor.manager.clock import Clock
from air_executor.manager.job_index import JobIndex
from air_executor.manager.joined_jobs import JoinedJobs
from air_executor.manager.kept_runners import KeptRunners
from air_executor.manager.outbox import Outbox
from air_executor.model import state as s
from air_executor.model.events import (
    Asked,
    Ended,
    Event,
    KeepEnded,
    Late,
    Requested,
    Started,
    StopRequested,
    UpstreamFailed,
)
from air_executor.model.job import NotifyRule
from air_executor.model.names import run_id
from air_executor.model.notice import Notice
from air_executor.model.state import JobState
from air_executor.store import files
from air_executor.store.jobs import Jobs
from air_executor.store.journal import Journal
from air_executor.store.run_retention import RunLimits

log = logging.getLogger(__name__)

MOST_SAID = 300
"""Characters of an unexpected error in a message."""


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """How a manager behaves; `wiring` fills it in from the settings. Seconds."""

    version: str
    max_runners: int
    runner_files: Mapping[str, bytes]
    """Content of `bin/`, by file name."""
    project: str
    """Project folder: relative work directories start there."""
    stored_workspaces: bool = False
    """Whether workspaces are in an object store, where the manager has no files of theirs."""
    poll_interval: float = 1.0
    pools: Mapping[str, int] = field(default_factory=dict)
    """Maximum number of runners by pool."""
    platform_retries: int = 3
    keep_runners: int = 10
    """Maximum number of runners that stay after a failure."""
    keep_runners_for: float = 86_400.0
    """Maximum time for which each of them does."""
    prices: Mapping[str, Prices] = field(default_factory=dict)
    """By backend; a backend without an entry has no price."""
    budgets: Sequence[SpendingLimit] = ()
    cost_labels: Sequence[str] = ()
    """Labels by whose values a counter divides the cost."""
    secrets_dir: str | None = None
    jobs_dir: str | None = None
    """Folder of job files whose schedules are applied when the files change."""
    kept_runs: RunLimits = field(default_factory=RunLimits)
    """Which run directories of jobs are kept."""
    notify: Sequence[NotifyRule] = ()
    """Notifications of jobs that say nothing of it."""
    secrets_by_name: bool = False
    """The platform resolves secrets, so the manager passes on their names alone."""
    name_prefix: str | None = None
    """Prefix of runners' names on the platform; None where they have no names."""
    events: bool = True
    """False: poll only."""
    from_files: bool = False
    """State files win over the journal at the start."""
    scope: set[str] | None = None
    """Ids of the jobs to manage; None means all. Grows with the child jobs of those."""
    page: str | None = None
    """Address of the page that the manager's process serves; None: there is none."""
    visibility: float = 0.0
    """Seconds that a file may take to appear after its writer has gone (network volumes)."""


class ManagerState:
    """The state of one manager."""

    def __init__(
        self,
        jobs: Jobs,
        journal: Journal,
        clock: Clock,
        observer: Observer,
        options: ManagerOptions,
        *,
        counters: Counters,
    ) -> None:
        self.jobs = jobs
        self.journal = journal
        self.clock = clock
        self.observer = observer
        self.options = options
        self.counters = counters
        self.spending = SpendingMeter(options.budgets)
        self.index = JobIndex(ReadyQueue(options.pools), observer)
        self.children = JoinedJobs(self)
        self.outbox = Outbox(clock)
        self.kept = KeptRunners()
        self.unsaved: dict[str, LiveJob] = {}
        """Ended jobs whose last checkpoint is not written yet."""
        self._behind: dict[str, int] = {}
        """Bytes of each job's journal lines that its checkpoint does not hold yet."""
        self._checkpoint_sizes: dict[str, int] = {}
        """Bytes of these jobs' checkpoints, as they are until the next one."""
        self.pending_children: dict[str, list[str]] = {}
        """Pending child jobs, by the run that submitted them."""
        self.problems: list[str] = []
        """What users should know of: files that cannot be read, jobs that were quarantined."""
        self.rejected_files: Mapping[str, str] = {}
        """What is wrong with which job files of the folder that is followed, until they are mended."""
        # What each calls with the id of a job, for parts that keep something of it:
        self.checkpointed: list[Callable[[str], None]] = []  # its checkpoint holds everything that was decided
        self.dropped: list[Callable[[str], None]] = []  # it is quarantined

    @property
    def staging(self) -> str:
        """Where this manager builds files before it renames them into place."""
        return self.jobs.layout.epoch_tmp(self.journal.epoch)

    def volume_time(self) -> float:
        """Return the time by the volume's clock, in Unix seconds."""
        return files.touch(f"{self.staging}/clock")

    def manages(self, job: str) -> bool:
        """Tell whether a job is in the scope of this manager."""
        return self.options.scope is None or job in self.options.scope

    # One job's trouble

    @contextlib.contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """Let a bug that shows itself in one job cost that job alone; expected failures pass."""
        try:
            yield
        except (BadInputError, AlreadyExistsError) as error:  # whoever could refuse it should have
            log.exception("job=%s is quarantined", name)
            self.quarantine(name, bug_text(error))
        except AirExecutorError:
            raise
        except Exception as error:
            log.exception("job=%s is quarantined", name)
            self.quarantine(name, bug_text(error))

    def drop(self, name: str) -> None:
        """Forget a job: its directory is gone, or it is quarantined."""
        self.index.drop(name)
        self.kept.forget(name)
        self.counters.drop(name)

    def quarantine(self, name: str, why: str) -> None:
        """Leave a job alone until the next start: its files and runners stay as they are, and the journal with them."""
        job = self.index.open.get(name)
        self.drop(name)
        if job is not None:  # its runners may live
            self.index.hold_lock(job.state)
        self.unsaved.pop(name, None)
        self._behind.pop(name, None)
        self._checkpoint_sizes.pop(name, None)
        for drop in self.dropped:
            drop(name)
        self.index.unmanaged[name] = why
        self.report(f"job {name}: {why}")

    def report(self, problem: str) -> None:
        """Note a problem for the status writer."""
        log.error("%s", problem)
        self.problems.append(problem)
        self.observer.found_corrupt(1)

    # Decisions

    def decide(self, job: LiveJob, event: Event) -> None:
        """Carry out one decision in memory; it counts once the journal is flushed."""
        state = job.state
        self.children.reach(job, event)
        before = (state.epoch, state.version)
        kept = state.kept.get(event.task) if isinstance(event, KeepEnded) else None
        task = job.progress.runs.get(event.seq) if isinstance(event, StopRequested | Ended) else None
        known = set() if state.phase == s.PENDING or isinstance(event, Asked) else job.progress.asking_now()
        had = state.over_budget
        ended = job.apply(event, self.journal.epoch)
        self.kept.note(state)
        over = had is None and state.over_budget is not None
        asks = bool(job.progress.asking_now() - known)
        notices = self._queue_notices(state, event, ended=ended, asks=asks, overspent=over)
        size = self.journal.append(state, event, before, notices)
        self._behind[state.id] = self._behind.get(state.id, 0) + size
        if log.isEnabledFor(logging.INFO):
            log.info("%s", _line_of(state, event, task))
        failed = None
        if state.ended:  # also one that was reopened and ended at once
            self.unsaved[state.id] = job
            self._tell_waiting(state, self.index.close(state))
            self.children.ended(state)
        else:
            self.unsaved.pop(state.id, None)
            if state.id not in self.index.open:
                failed = self._gate(job)
                self.index.add(job)
            self.index.touch(job)
        self.counters.decided(job, event, self.clock.steady())
        if isinstance(event, Ended) and task is not None:
            self.spending.ended(
                origin_of(state, state.tasks[task]), event.moments, event.cost, event.currency, event.at
            )
        if isinstance(event, KeepEnded) and kept is not None:
            origin = origin_of(state, state.tasks[event.task])
            self.spending.spent(origin, kept.since, event.seconds, event.cost, kept.currency, now=event.at)
        self.observer.decided(job, event)
        self.children.watch(job)
        if notices:
            self.outbox.add(state, notices)
        if failed is not None:
            self.decide(job, UpstreamFailed(self.clock.wall(), failed))
        elif not state.ended:
            self._ask(job)

    def _ask(self, job: LiveJob) -> None:
        """Begin with the questions of a job that waited for other jobs, once those have ended."""
        state = job.state
        if not state.waits_for_jobs or state.phase == s.PENDING or self.index.blocked(state.id):
            return
        if job.progress.asking != job.progress.asking_now():
            self.decide(job, Asked(self.clock.wall()))

    def _queue_notices(
        self, state: JobState, event: Event, *, ended: bool, asks: bool, overspent: bool
    ) -> list[Notice]:
        """Queue the notifications that a decision means; they are in the same line of the journal."""
        name = state.spec.name
        occasions = occasions_of(
            state,
            ended=ended,
            became_late=isinstance(event, Late),
            asks=asks,
            overspent=overspent,
            before=lambda: None if name is None else self.index.runs.last_phase(name),
        )
        notices = notices_of(state, occasions, self.options.notify, event.at) if occasions else []
        state.queue_notices(notices)
        return notices

    def _tell_waiting(self, state: JobState, waiting: list[str]) -> None:
        for name in waiting:
            job = self.index.open.get(name)
            if job is None:
                continue
            with self.guard(name):
                if state.phase == s.SUCCEEDED or state.uid not in job.state.after_uids.values():
                    self.index.unblock(name, state.uid)
                    self.index.touch(job, clean=True)
                    self._ask(job)
                else:
                    self.decide(job, UpstreamFailed(self.clock.wall(), state.id))

    def size_of(self, job: str) -> int:
        """Return about how many bytes a job's state has."""
        size = self._checkpoint_sizes.get(job)
        if size is None:
            size = self._checkpoint_sizes[job] = self.jobs.size(job)
        return size + self._behind.get(job, 0)

    def saved(self, job: str) -> None:
        """Note that a job's checkpoint holds everything that was decided."""
        self._behind.pop(job, None)
        self._checkpoint_sizes.pop(job, None)
        for tell in self.checkpointed:
            tell(job)

    # Jobs

    def admit(self, job: LiveJob) -> None:
        """Add a job from the volume: index it, and find the jobs that it waits for."""
        state = job.state
        if state.ended:
            self.index.close(state)
            return
        if state.phase == s.PENDING and state.submitted_by is not None:
            self.pending_children.setdefault(state.submitted_by, []).append(state.id)
        failed = self._gate(job)
        self.index.add(job)
        self.kept.note(state)
        if failed is not None:
            self.decide(job, UpstreamFailed(self.clock.wall(), failed))
        elif state.version == 0 and state.phase != s.PENDING and job.progress.asking_now():
            self.decide(job, Asked(self.clock.wall()))
        else:
            self._ask(job)
        self.children.watch(job)

    def _gate(self, job: LiveJob) -> str | None:
        """Block a job until the jobs that it waits for have ended; return one that should succeed, and will not."""
        state = job.state
        failed = None
        upstream = state.after_uids if state.started_at is None else {}  # else they had succeeded then
        for name, uid in upstream.items():
            phase = self._phase_of(name, uid)
            if phase in s.ENDED_PHASES | {None} and phase != s.SUCCEEDED:
                failed = name
            elif phase != s.SUCCEEDED:
                self.index.block(state.id, [uid])
        for name, uid in state.earlier_runs.items():
            if self._phase_of(name, uid) not in s.ENDED_PHASES | {None}:
                self.index.block(state.id, [uid])
        return failed

    def _phase_of(self, name: str, uid: str) -> str | None:
        """Return the phase of a job by id and uid; None if it exists nowhere."""
        known = self.index.open.get(name)
        if known is not None and known.state.uid == uid:
            return known.state.phase
        ended = self.index.ended.get(name)
        if ended is not None and ended.uid == uid:
            return ended.phase
        try:
            state = self.load(name, uid)
        except StoreError:
            return s.QUEUED  # unknown is not gone: the job keeps waiting for it
        return None if state is None else state.phase

    def load(self, name: str, uid: str) -> JobState | None:
        """Read a job by id and uid from `jobs/` or the archive; None if it exists nowhere. Raises StoreError."""
        try:
            state: JobState | None = self.jobs.load(name)
        except NotFoundError as error:
            if name in self.index.unmanaged:
                raise StoreError(self.index.unmanaged[name]) from error
            state = None
        return state if state is not None and state.uid == uid else self.jobs.archived(name, uid)

    def find(self, name: str) -> LiveJob:
        """Return a job, ended or not, to be changed.

        Raises:
            NotFoundError: it does not exist.
            BadInputError: this manager must not change it.
            StoreError: it cannot be read.
        """
        job = self.index.open.get(name) or self.unsaved.get(name)
        if job is not None:
            return job
        if name in self.index.unmanaged:
            msg = f"job {name} cannot be changed: {self.index.unmanaged[name]}"
            raise BadInputError(msg)
        try:
            return LiveJob(self.jobs.load(name))
        except NotFoundError as error:
            msg = f"there is no job {name}"
            raise NotFoundError(msg) from error


def bug_text(error: Exception) -> str:
    """Return why a job is quarantined that ran into an error which nobody expected."""
    what = f"{type(error).__name__}: {error}"[:MOST_SAID]
    return f"quarantined after a bug in Air-Executor ({what}); report it, then restart the manager to try again"


def _line_of(state: JobState, event: Event, task: str | None) -> str:
    """Return the log line of a decision: job, task and run if there is one, event, and where that leaves the job."""
    run = detail = ""
    if isinstance(event, Started | StopRequested | Ended | KeepEnded):
        run = f" run={run_id(state.uid, event.seq)}"
    if isinstance(event, Started):
        task, detail = event.task, f" slot={event.slot}"
    elif isinstance(event, KeepEnded):
        task, detail = event.task, f" seconds={event.seconds:.3f}"
    elif isinstance(event, StopRequested | Ended):
        detail = f" reason={event.reason}"
    elif isinstance(event, Requested):
        detail = f" op={event.op}"
    who = f"job={state.id}{f' task={task}' if task else ''}{run}"
    return f"{who} event={type(event).__name__}{detail} phase={state.phase} version={state.version}"

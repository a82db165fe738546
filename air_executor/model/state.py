"""A job and its tasks as they stand: the records of `state.json`.

Changed only by `transitions`; read by the planner, the store and whatever shows a job. Times are Unix seconds in memory
and UTC text on the volume. What follows from other fields is not kept here: `progress` works it out.
"""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, get_args

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.attempt import MAX_ATTEMPTS_KEPT, Attempt, Price
from air_executor.model.job import (
    HasAfter,
    HasCommand,
    HasDescription,
    JobSpec,
    MayBelong,
    TaskOptions,
)
from air_executor.model.keep import KeptRunner
from air_executor.model.memo import Reused
from air_executor.model.names import renamed_id
from air_executor.model.notice import HasNotices
from air_executor.model.record import Record
from air_executor.model.reports import ProgressReport, Reported
from air_executor.model.usage import Usage

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core.core_schema import CoreSchema

FORMAT: Final = 3
"""Version of the format of `state.json`. 2: each task has the `defaults` of its job, too. 1: and `queue` for `pool`."""

PENDING: Final = "pending"
"""Submitted by a run that is not committed yet: released by its success, removed by any other end."""
QUEUED: Final = "queued"
RUNNING: Final = "running"
PAUSED: Final = "paused"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
SKIPPED: Final = "skipped"
ENDED_PHASES = frozenset({SUCCEEDED, FAILED, CANCELLED})

OK, ERROR, TIMEOUT, OOM, LOST, EVICTED = "ok", "error", "timeout", "oom", "lost", "evicted"
START_FAILED, REJECTED, BUDGET, UPSTREAM, REQUEUE = "start-failed", "rejected", "budget", "upstream", "requeue"
AGAIN: Final = "again"
"""The run asked for another one, later: its task is queued again, and no retry is charged."""
DECLINED: Final = "declined"
"""Somebody rejected what the task asked."""
SKIP_ON: Final = "skip_on"
"""The exit code of a skipped task is one of its `skip_on`."""
ONLY_IF: Final = "only_if"
"""The condition of a skipped task, its `only_if`, was not met."""

STALLED: Final = "stalled"
"""The run wrote nothing for its `stall_timeout`."""

USERS_FAULT = frozenset({ERROR, TIMEOUT, STALLED, OOM})
"""Reasons that the user's own `retries` cover."""
PLATFORMS_FAULT = frozenset({LOST, EVICTED, START_FAILED})
"""Reasons that have a budget of their own."""

COMMITTED = frozenset({OK, AGAIN})
"""Reasons of runs whose result and queued tasks take effect."""

JobPhase = Literal["pending", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
TaskPhase = Literal["queued", "running", "succeeded", "failed", "cancelled", "skipped"]


class Queued(NamedTuple):
    """Waits for its turn, or until `waits_until`."""

    waits_until: float | None = None
    retrying: bool = False
    """It ran already, and waits for its next run: in a job with one runner it keeps its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOrigin:
    """Where the runner of an open run was started, and when: for a manager that did not start it.

    `run.json` of earlier versions is read as one.
    """

    __pydantic_config__ = {"extra": "ignore"}  # noqa: RUF012 - pydantic's own name

    backend: Annotated[t.Word | None, t.Lenient()] = None
    host: Annotated[t.Word | None, t.Lenient()] = None
    """Host name of the manager."""
    boot: Annotated[t.Word | None, t.Lenient()] = None
    machine: Annotated[t.Word | None, t.Lenient()] = None
    """See `Host.machine`."""
    runner: Annotated[t.Word | None, t.Lenient()] = None
    """Name of the runner on its platform; None where runners have none."""
    spawned: Annotated[t.Moment | None, t.Lenient()] = None
    """When the start was decided, by the volume's clock."""
    clock: Annotated[t.ClockOffset | None, t.Lenient()] = None
    """Wall time less the steady clock's, in seconds: tells whether the wall clock was set since."""


@dataclass(frozen=True, slots=True)
class Running(Record):
    """Has an open run."""

    seq: t.Seq
    slot: t.SlotNumber
    since: t.Time
    stop: t.Word | None = None
    """Reason for stopping the run, once that is decided."""
    stop_message: t.Text | None = None
    """The platform's words about its runner, where those are the reason."""
    hopeless: bool = False
    """It is being stopped because neither it nor another run can ever start."""
    ready_at: t.Time | None = None
    """When only a free runner was missing; None if unknown."""
    waited: t.Amount | None = None
    """Seconds from then until the run was decided; None if unknown."""
    memory_limit: t.Bytes | None = None
    """None if the task names no memory."""
    price: Price | None = None
    """Per hour of this runner, by component, as in force when the run was decided; its commit decides what it costs."""
    currency: t.Word | None = None
    origin: RunnerOrigin | None = None
    """None: an earlier version started it."""
    progress: ProgressReport | None = None
    """What it reported last; not in the journal."""
    reported: Reported = field(default_factory=dict)
    """What it says it has used so far; its end decides. Not in the journal."""
    node_wait: t.Amount | None = 0.0
    """Seconds for which its runner had no node, and did not exist; None while it has none. Not in the journal."""


class Done(NamedTuple):
    """Ended; only a `retry` leaves this, and never from `succeeded`."""

    phase: "TaskPhase"
    reason: str
    finished_at: str
    """UTC text; sorts by time."""
    exit_code: int | None = None
    message: str | None = None
    result: Any = None


Status = Queued | Running | Done


@dataclass(kw_only=True, init=False, repr=False, eq=False)
class _Head:
    __slots__ = ()
    # Without defaults, for these are written whatever they are.
    id: t.Id
    phase: Annotated[TaskPhase, *t.one_of(*get_args(TaskPhase))]
    reason: t.Word | None
    exit_code: t.ExitCode | None
    runs: t.Total
    queued_by: t.Id | None
    """Id of the task that queued it."""


@dataclass(kw_only=True, init=False, repr=False, eq=False)
class _Tail:
    __slots__ = ()
    result: Any = None
    """What it handed over: any JSON value."""
    message: t.Text | None = None
    finished_at: t.TimeText | None = None
    run: Running | None = None
    """Its open run."""
    waits_until: t.Time | None = None
    retrying: bool = False
    ready_at: t.Time | None = None
    """Of a queued task: since when only a free runner is missing; None while it waits for other tasks."""
    charged: t.Total = 0
    """Retries taken from the user's budget since it was last queued afresh."""
    faults: t.Total = 0
    """The same, from the platform's budget."""
    resolved: bool = False
    """Fields that refer to results have their values."""
    superseded: bool = False
    """What queued it ran again since: it is no part of the job any more, and its id may be taken again."""
    again: t.Total = 0
    """How often it asked to run again since then."""
    again_since: t.Time | None = None
    """When it first did."""
    cached: Reused | None = None
    """Whose result it has, instead of a run of its own."""
    rerun: bool = False
    """Somebody wants it to run again, whatever is in the cache."""
    attempts: Annotated[list[Attempt], MaxLen(MAX_ATTEMPTS_KEPT)] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, repr=False, eq=False)
class TaskState(_Tail, MayBelong, HasAfter, TaskOptions, HasDescription, HasCommand, _Head, Record):
    """One task of a job: its fields, those of the job's `defaults` among them (see `defaults`), and how it stands."""

    extra: dict[str, Any] = field(default_factory=dict, init=False)
    """Keys that a later version wrote; kept as they are."""

    @property
    def must_resolve(self) -> bool:
        """Whether its fields have to be resolved before it starts."""
        return self.unresolved is not None and not self.resolved

    @property
    def has_failed(self) -> bool:
        """Whether it failed or was cancelled, and this counts: its failure is not one that the job allows."""
        if self.phase == FAILED:
            allowed = self.allow_failure
            return self.exit_code not in allowed if isinstance(allowed, list) else not allowed
        return self.phase == CANCELLED

    @property
    def status(self) -> Status:
        """How the task stands; each kind of status owns its data."""
        if self.phase == QUEUED:
            return Queued(self.waits_until, self.retrying)
        if self.run is not None:
            return self.run
        return Done(self.phase, self.reason or OK, self.finished_at or "", self.exit_code, self.message, self.result)

    @status.setter
    def status(self, status: Status) -> None:
        self.reason = self.exit_code = self.message = self.result = self.finished_at = None
        self.run = self.waits_until = None
        self.retrying = False
        match status:
            case Queued():
                self.phase, self.waits_until, self.retrying = "queued", status.waits_until, status.retrying
            case Running():
                self.phase, self.run = "running", status
            case Done():
                self.phase = status.phase
                self.reason, self.finished_at, self.exit_code = status.reason, status.finished_at, status.exit_code
                self.message, self.result = status.message, status.result
                self.ready_at = None


_Listed = Annotated[list[TaskState], MaxLen(t.MAX_TASKS)]


class _ListedById:
    """A list of tasks on the volume, a mapping by id in memory."""

    def __get_pydantic_core_schema__(self, source: object, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        from pydantic_core import core_schema  # noqa: PLC0415 - see the module

        return core_schema.no_info_after_validator_function(by_id, handler.generate_schema(_Listed))


def by_id(tasks: Iterable[TaskState]) -> dict[str, TaskState]:
    """Return tasks by their ids. Raises ValueError where two have the same."""
    found: dict[str, TaskState] = {}
    for task in tasks:
        if found.setdefault(task.id, task) is not task:
            msg = f"task id {task.id} appears twice"
            raise ValueError(msg)
    return found


@dataclass(slots=True, kw_only=True, repr=False, eq=False)
class JobState(HasNotices, Record):
    """One job."""

    format: Literal[3] = FORMAT
    id: t.Id
    uid: t.Uid
    phase: Annotated[JobPhase, *t.one_of(*get_args(JobPhase))] = "queued"
    reason: t.Word | None = None
    spec: JobSpec = field(default_factory=JobSpec)
    """The job's own fields; tasks are apart."""
    submitted_at: t.Time
    started_at: t.Time | None = None
    finished_at: t.Time | None = None
    seq: t.LastSeq = 0
    """Number of the newest run; never reused."""
    epoch: t.Count = 0
    version: t.Total = 0
    usage: Usage = field(default_factory=Usage)
    message: t.Text | None = None
    deadline_from: t.Time | None = None
    """From when the job's `deadline` counts."""
    cleanup_from: t.Time | None = None
    """From when its `cleanup_time` counts; None while clean-up tasks may take as long as they want."""
    cleanup_over: bool = False
    """That time has passed, or the job was cancelled once more: clean-up tasks are ended, too."""
    stop: t.Word | None = None
    """Why nothing new starts: `failed`, `cancelled`, `timeout`, `budget` or `upstream`. None after a reopening."""
    locked_since: t.Time | None = None
    """Since when it has held its `lock`; None: it does not."""
    over_budget: t.Word | None = None
    """Name of the amount of its `budget` that was used up: it was paused or stopped for that."""
    after_uids: Annotated[dict[t.Id, t.Uid], MaxLen(10_000)] = field(default_factory=dict)
    """The jobs that this one waits for, by id, with the uids they had when it was submitted."""
    earlier_runs: t.EarlierRuns = field(default_factory=dict)
    """The runs of its name, by id with their uids, that must have ended before it starts, or before its retry."""
    scheduled_at: t.Time | None = None
    """The time of its schedule for which it runs."""
    backfill: bool = False
    """A backfill made it, after its scheduled time, or has retried it."""
    submitted_by: t.Word | None = None
    """Run id of the run that submitted it."""
    joined_by: t.Id | None = None
    """The job that waits for its end: a run of that one has submitted it with `join`."""
    owner: t.Word | None = None
    """Name of the token with which it, or the job whose run submitted it, was submitted over HTTP."""
    kept: Annotated[dict[t.Id, KeptRunner], MaxLen(10_000)] = field(default_factory=dict)
    """By task: runners that stay after their run has failed."""
    tasks: Annotated[dict[str, TaskState], _ListedById()] = field(default_factory=dict)
    """In the order of the queue; a list on the volume."""
    extra: dict[str, Any] = field(default_factory=dict, init=False)
    """Keys that a later version wrote; kept as they are."""

    @property
    def max_runners(self) -> int:
        """How many of its tasks may run at once."""
        return self.spec.max_runners

    @property
    def slots(self) -> int:
        """How many slots it has: one more for each runner that stays after its run."""
        return self.max_runners + len(self.kept)

    @property
    def pool(self) -> str:
        """The pool whose limit it shares."""
        return self.spec.pool

    def pools_of(self, task: TaskOptions) -> dict[str, int]:
        """Return what a task takes of which pools while it runs."""
        return {self.spec.pool: 1, **task.weights}

    @property
    def priority(self) -> int:
        """Jobs with a higher one start first."""
        return self.spec.priority

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.phase in ENDED_PHASES

    @property
    def deadline_at(self) -> float | None:
        """When its deadline passes, or None."""
        deadline = self.spec.deadline
        return None if deadline is None or self.deadline_from is None else self.deadline_from + deadline

    @property
    def cleanup_until(self) -> float | None:
        """Until when clean-up tasks may run, or None if they have no limit, or must not run any more."""
        return None if self.cleanup_from is None or self.cleanup_over else self.cleanup_from + self.spec.cleanup_time

    @property
    def waits_for_jobs(self) -> bool:
        """Whether it has jobs to wait for before its next start; they may have ended."""
        return bool(self.earlier_runs or (self.after_uids and self.started_at is None))

    @property
    def expect_by(self) -> float | None:
        """When it is late if it has not ended, or None."""
        begin = self.submitted_at if self.scheduled_at is None or self.backfill else self.scheduled_at
        return None if self.spec.late_after is None else begin + self.spec.late_after

    def task_named(self, name: str) -> TaskState | None:
        """Return the task with an id, or else the one whose generated id an earlier version wrote like this."""
        return self.tasks.get(name) or self.tasks.get(renamed_id(name))

    def env_of(self, task: TaskState) -> Mapping[str, str]:
        """Return the variables of a task: its own before those that all tasks have."""
        return _both(self.spec.defaults.env, task.env)

    def labels_of(self, task: TaskState) -> Mapping[str, str]:
        """Return the labels of a task: its own before those that all tasks have."""
        return _both(self.spec.defaults.labels, task.labels)

    def results(self) -> dict[str, Any]:
        """Return the results of all tasks that have succeeded, by task id."""
        return {task.id: task.result for task in self.tasks.values() if task.phase == SUCCEEDED}

    def ancestors(self, task: TaskState) -> Iterable[str]:
        """Yield the ids of the task that queued it, of the one that queued that, and so on."""
        parent = task.queued_by
        while parent is not None:
            yield parent
            above = self.tasks.get(parent)
            parent = above.queued_by if above is not None else None


def _both(shared: dict[str, str], own: dict[str, str]) -> dict[str, str]:
    return {**shared, **own} if shared and own else own or shared

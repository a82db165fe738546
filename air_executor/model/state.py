"""A job and its tasks as they stand: the records of `state.json`.

Changed only by `transitions`; read by the planner, the store and whatever shows a job. Times are Unix seconds in memory
and UTC text on the volume. What follows from other fields is not kept here: `progress` works it out.
"""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.job import TASK_FIELDS, HasAfter, HasCommand, HasDescription, JobSpec, Record, Task, TaskOptions
from air_executor.model.names import renamed_id
from air_executor.model.times import from_text
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

USERS_FAULT = frozenset({ERROR, TIMEOUT, OOM})
"""Reasons that the user's own `retries` cover."""
PLATFORMS_FAULT = frozenset({LOST, EVICTED, START_FAILED})
"""Reasons that have a budget of their own."""

MAX_ATTEMPTS_KEPT = 100
"""Per task; the job's usage counts every run."""

JobPhase = Literal["pending", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
TaskPhase = Literal["queued", "running", "succeeded", "failed", "cancelled", "skipped"]


Price = Annotated[dict[t.Word, t.Money], MaxLen(100)]
"""Money per hour, by component."""


@dataclass(frozen=True, slots=True)
class Queued:
    """Waits for its turn, or until `waits_until`."""

    waits_until: float | None = None
    retrying: bool = False
    """It ran already, and waits for its next run: in a job with one runner it keeps its place."""


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


@dataclass(frozen=True, slots=True)
class Done:
    """Ended; only a `retry` leaves this, and never from `succeeded`."""

    phase: "TaskPhase"
    reason: str
    finished_at: str
    """UTC text; sorts by time."""
    exit_code: int | None = None
    message: str | None = None
    result: Any = None


Status = Queued | Running | Done


@dataclass(frozen=True, slots=True)
class Attempt(Record):
    """One ended run of a task, for the ledger; stages in seconds."""

    seq: t.Seq
    slot: t.SlotNumber
    spawned_at: t.TimeText
    start: t.Amount
    work: t.Amount
    finish: t.Amount
    reason: t.Word
    exit_code: t.ExitCode | None = None
    message: t.Text | None = None
    """Why it ended so, where there is more to say than the reason."""
    cpu: t.Amount | None = None
    memory: t.Bytes | None = None
    """Peak."""
    memory_limit: t.Bytes | None = None
    """Limit of this run; None if its task names no memory."""
    cost: t.Money = 0.0
    clock_stepped: bool = False
    ready_at: t.TimeText | None = None
    """When only a free runner was missing, by the manager's clock; None if unknown."""
    waited: t.Amount | None = None
    """Seconds from then until the runner was spawned, by the manager's clock; until it had a node, on a cluster."""
    node_wait: t.Amount | None = None
    """The part of it for which its platform had no node for the runner; None if there was no such wait."""
    backend: t.Word | None = None
    price: Price | None = None
    """Per hour of this runner, by component, as in force when the run was committed."""
    currency: t.Word | None = None

    @property
    def spawned(self) -> float:
        """When its runner was spawned, in Unix seconds."""
        return from_text(self.spawned_at)

    @property
    def runner_seconds(self) -> float:
        """How long its runner existed."""
        return self.start + self.work + self.finish

    @property
    def gone_at(self) -> float:
        """When its runner was gone, in Unix seconds."""
        return self.spawned + self.runner_seconds


@dataclass(kw_only=True)
class _Head:
    __slots__ = ()
    # Without defaults, for these are written whatever they are.
    id: t.Id
    phase: Annotated[TaskPhase, *t.one_of(*get_args(TaskPhase))]
    reason: t.Word | None
    exit_code: t.ExitCode | None
    runs: t.Count
    queued_by: t.Id | None
    """Id of the task that queued it."""


@dataclass(kw_only=True)
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
    charged: t.Count = 0
    """Retries taken from the user's budget since it was last queued afresh."""
    faults: t.Count = 0
    """The same, from the platform's budget."""
    attempts: Annotated[list[Attempt], MaxLen(MAX_ATTEMPTS_KEPT)] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class TaskState(_Tail, HasAfter, TaskOptions, HasDescription, HasCommand, _Head, Record):
    """One task of a job: its fields, those of the job's `defaults` among them (see `defaults`), and how it stands."""

    extra: dict[str, Any] = field(default_factory=dict, init=False)
    """Keys that a later version wrote; kept as they are."""

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


class _ListedById:
    """A list of tasks on the volume, a mapping by id in memory."""

    def __get_pydantic_core_schema__(self, source: object, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        from pydantic_core import core_schema  # noqa: PLC0415 - see the module

        return core_schema.no_info_after_validator_function(by_id, handler.generate_schema(list[TaskState]))


def by_id(tasks: Iterable[TaskState]) -> dict[str, TaskState]:
    """Return tasks by their ids. Raises ValueError where two have the same."""
    found: dict[str, TaskState] = {}
    for task in tasks:
        if found.setdefault(task.id, task) is not task:
            msg = f"task id {task.id} appears twice"
            raise ValueError(msg)
    return found


@dataclass(slots=True, kw_only=True, eq=False)
class JobState(Record):
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
    seq: t.Seq = 0
    """Number of the newest run; never reused."""
    epoch: t.Count = 0
    version: t.Count = 0
    usage: Usage = field(default_factory=Usage)
    message: t.Text | None = None
    deadline_from: t.Time | None = None
    """From when the job's `deadline` counts."""
    stop: t.Word | None = None
    """Why nothing new starts: `failed`, `cancelled`, `timeout`, `budget` or `upstream`. None after a reopening."""
    after_uids: Annotated[dict[t.Id, t.Uid], MaxLen(10_000)] = field(default_factory=dict)
    """The jobs that this one waits for, by id, with the uids they had when it was submitted."""
    earlier_runs: Annotated[dict[t.Id, t.Uid], MaxLen(10_000)] = field(default_factory=dict)
    """The runs of its name, by id with their uids, that must have ended before it starts, however they end."""
    scheduled_at: t.Time | None = None
    """The time of its schedule for which it runs."""
    submitted_by: t.Word | None = None
    """Run id of the run that submitted it."""
    tasks: Annotated[dict[str, TaskState], _ListedById()] = field(default_factory=dict)
    """In the order of the queue; a list on the volume."""
    extra: dict[str, Any] = field(default_factory=dict, init=False)
    """Keys that a later version wrote; kept as they are."""

    @property
    def max_runners(self) -> int:
        """How many of its tasks may run at once."""
        return self.spec.max_runners

    @property
    def pool(self) -> str:
        """The pool whose limit it shares."""
        return self.spec.pool

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


def new_task(task: Task, *, queued_by: str | None, at: float) -> TaskState:
    """Return the state of a task that is queued now; it has its id. `at` in Unix seconds."""
    waits = at + task.delay if task.delay is not None else task.not_before
    own: Mapping[str, Any] = {name: getattr(task, name) for name in TASK_FIELDS}
    return TaskState(
        id=task.id or "",
        phase="queued",
        reason=None,
        exit_code=None,
        runs=0,
        queued_by=queued_by,
        waits_until=waits,
        **own,
    )

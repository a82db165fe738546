"""The decisions that change a job, as data: each is one line in the journal.

The manager makes them, `transitions.apply` carries them out, and recovery carries out the same ones again; so an
event holds everything that was not certain before it was decided (times, chance, what a runner left behind).
Times are Unix seconds.
"""

# No `from __future__ import annotations`: `parsing` reads the annotations as they stand.

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.defaults import Defaults
from air_executor.model.job import Task
from air_executor.model.memo import Reused
from air_executor.model.notice import MAX_NOTICES, Notice
from air_executor.model.record import Record
from air_executor.model.reports import Reported
from air_executor.model.state import RunnerOrigin
from air_executor.model.usage import Moments

Tasks = Annotated[list[Task], MaxLen(t.MAX_TASKS)]


@dataclass(frozen=True, slots=True)
class Started(Record):
    """A run of a task was decided; its runner may or may not come to life."""

    at: t.Moment
    task: t.Id
    seq: t.Seq
    slot: t.SlotNumber
    price: Annotated[dict[t.Word, t.Money], MaxLen(100)] | None = None
    """Per hour of its runner, by component, as in force now; None if it has none."""
    currency: t.Word | None = None
    origin: RunnerOrigin | None = None


@dataclass(frozen=True, slots=True)
class StopRequested(Record):
    """An open run is to be stopped, with its reason, or `requeue` for the manager's own sake.

    `error`: a service of its task has ended, or was not ready in time.
    """

    at: t.Moment
    seq: t.Seq
    reason: t.Word
    message: t.Text | None = None
    """The platform's words about a runner that cannot start, or a service."""
    permanent: bool = False
    """No other run could start either."""


@dataclass(frozen=True, slots=True)
class Ended(Record):
    """An open run's outcome, with everything it puts into effect."""

    at: t.Moment
    seq: t.Seq
    reason: t.Word
    """One of the reasons of the contract, or `requeue`: queued again in its place at no charge."""
    moments: Moments
    exit_code: t.ExitCode | None = None
    message: t.Text | None = None
    result: Any = None
    queued: Tasks = field(default_factory=list)
    """Tasks that the run queued, complete, each with its `id`."""
    retry_at: t.Moment | None = None
    """When to run the task again; None if this was its last run."""
    cost: t.Money = 0.0
    """Its runner-seconds at `price`."""
    price: Annotated[dict[t.Word, t.Money], MaxLen(100)] | None = None
    """Per hour of this runner, by component, as in force when this was decided; None if it had none."""
    currency: t.Word | None = None
    """Of price and cost."""
    backend: t.Word | None = None
    """Backend on which it ran."""
    delay: t.Amount = 0.0
    """Seconds from the decision to start the run until its runner was spawned, by the manager's clock."""
    node_wait: t.Amount = 0.0
    """The part of it for which the platform had no node for the runner."""
    image: t.Text | None = None
    """The image of its runner, with its digest."""
    reported: Reported = field(default_factory=dict)
    """What the run said it used, by name; it counts however the run ended."""
    keep_until: t.Moment | None = None
    """Until when its runner stays, for people to look around; None: it is gone."""


@dataclass(frozen=True, slots=True)
class KeepEnded(Record):
    """The runner of a failed run, which had stayed, is gone."""

    at: t.Moment
    task: t.Id
    seq: t.Seq
    seconds: t.Amount
    """Since its run was committed."""
    cost: t.Money = 0.0


@dataclass(frozen=True, slots=True)
class Requested(Record):
    """A user's request that changes the job; `expire`: nobody has answered the question of a task in time."""

    at: t.Moment
    request: t.Word
    """Name of the request file; one named in any line is never applied again. Empty: the manager's own decision."""
    op: t.Word
    task: t.Id | None = None
    tasks: Tasks = field(default_factory=list)
    """For `add`: complete tasks, each with its `id`. For `rerun`: the task with its other fields, if there are any."""
    downstream: bool = False
    """For `rerun`: also what depends on the task."""
    message: t.Text | None = None
    """For `approve`, `reject` and `expire`: who decided, and why."""
    result: Any = None
    """For `approve`: the result of the task."""
    budget: t.Budget = field(default_factory=dict)
    """For `resume` and `retry`: amounts that replace those of the job's budget."""
    earlier_runs: t.EarlierRuns | None = None
    """For `retry` by a backfill: the runs that must have ended before the job goes on, by id with their uids."""


@dataclass(frozen=True, slots=True)
class Resolved(Record):
    """The results that a task refers to are known: it gets its fields, becomes the tasks of its list, or fails."""

    at: t.Moment
    task: t.Id
    tasks: Tasks = field(default_factory=list)
    """The task with its fields, or the tasks of its list; complete, each with its `id`."""
    reason: t.Word = "ok"
    """Why it fails: `rejected` or `budget`."""
    message: t.Text | None = None


@dataclass(frozen=True, slots=True)
class Released(Record):
    """A pending child job may run: the run that submitted it was committed as a success."""

    at: t.Moment


@dataclass(frozen=True, slots=True)
class Joined(Record):
    """A joined child job has ended, and with it the task that stands for it."""

    at: t.Moment
    task: t.Id
    phase: t.Word
    """Of the child: `succeeded`, `failed` or `cancelled`."""
    reason: t.Word
    message: t.Text | None = None
    result: Any = None
    """The results of its tasks, by task id."""


@dataclass(frozen=True, slots=True)
class Memoized(Record):
    """A task has the result of an earlier run, and needs none of its own."""

    at: t.Moment
    task: t.Id
    result: Any
    reused: Reused


@dataclass(frozen=True, slots=True)
class DeadlinePassed(Record):
    """The job's own deadline passed, or the time that its clean-up tasks have."""

    at: t.Moment
    cleanup: bool = False
    """The latter."""


@dataclass(frozen=True, slots=True)
class UpstreamFailed(Record):
    """A job that this one waits for did not succeed."""

    at: t.Moment
    job: t.Id


@dataclass(frozen=True, slots=True)
class ClockStepped(Record):
    """Wall time was set by `by` seconds: a delay lasts as long as before, a date stays a date."""

    at: t.Moment
    by: t.Shift


@dataclass(frozen=True, slots=True)
class Late(Record):
    """The job has not ended within its `late_after`."""

    at: t.Moment


@dataclass(frozen=True, slots=True)
class OverBudget(Record):
    """With what its open runs have used so far, an amount of the job's budget is used up."""

    at: t.Moment
    name: t.Word
    used: t.Money


@dataclass(frozen=True, slots=True)
class Asked(Record):
    """The job asks for approval since its submission, or since other jobs have ended; people are to be told."""

    at: t.Moment


@dataclass(frozen=True, slots=True)
class NoticeSettled(Record):
    """A notification was delivered, or given up."""

    at: t.Moment
    version: t.Count
    on: t.Word
    to: t.Word
    failed: t.Text | None = None
    """Why it was given up; None: it was delivered."""


Event = (
    Started
    | StopRequested
    | Ended
    | KeepEnded
    | Requested
    | Resolved
    | Released
    | Joined
    | Memoized
    | DeadlinePassed
    | UpstreamFailed
    | ClockStepped
    | Late
    | OverBudget
    | Asked
    | NoticeSettled
)


@dataclass(slots=True, kw_only=True)
class JournalLine(Record):
    """One decision about one job, as the journal holds it: exactly one of the events is there."""

    job: t.Id
    uid: t.Uid
    version: t.Count
    """The job's version after this decision."""
    before: tuple[t.Count, t.Count] | None = None
    """Epoch and version before it; only where this is the job's first line in a file."""
    tasks: Tasks = field(default_factory=list)
    """Those of the event without what they have from the `defaults` of their job; empty if they are complete there."""
    notices: Annotated[list[Notice], MaxLen(MAX_NOTICES)] = field(default_factory=list)
    """Notifications that the decision queues."""
    start: Started | None = None
    stop: StopRequested | None = None
    end: Ended | None = None
    keep: KeepEnded | None = None
    request: Requested | None = None
    resolve: Resolved | None = None
    release: Released | None = None
    join: Joined | None = None
    memo: Memoized | None = None
    deadline: DeadlinePassed | None = None
    upstream: UpstreamFailed | None = None
    clock: ClockStepped | None = None
    late: Late | None = None
    over_budget: OverBudget | None = None
    asked: Asked | None = None
    told: NoticeSettled | None = None

    @property
    def event(self) -> Event | None:
        """The decision as it stands in the line; None if the line holds none."""
        for name in EVENT_NAMES:
            event: Event | None = getattr(self, name)
            if event is not None:
                return event
        return None


_BESIDE = ("job", "uid", "version", "before", "tasks", "notices")
EVENT_NAMES = tuple(f.name for f in fields(JournalLine) if f.name not in _BESIDE)
_NAME_OF: dict[type, str] = {
    Started: "start",
    StopRequested: "stop",
    Ended: "end",
    KeepEnded: "keep",
    Requested: "request",
    Resolved: "resolve",
    Released: "release",
    Joined: "join",
    Memoized: "memo",
    DeadlinePassed: "deadline",
    UpstreamFailed: "upstream",
    ClockStepped: "clock",
    Late: "late",
    OverBudget: "over_budget",
    Asked: "asked",
    NoticeSettled: "told",
}


def journal_line(
    event: Event, *, job: str, uid: str, version: int, before: tuple[int, int] | None, notices: Sequence[Notice] = ()
) -> JournalLine:
    """Return the line that records an event, and the notifications that it queues."""
    line = JournalLine(job=job, uid=uid, version=version, before=before, notices=list(notices))
    setattr(line, _NAME_OF[type(event)], event)
    return line


def tasks_of(event: Event) -> list[Task]:
    """Return the tasks that a decision adds to its job."""
    return event.queued if isinstance(event, Ended) else event.tasks if isinstance(event, Requested | Resolved) else []


def with_tasks(event: Event, line: JournalLine, defaults: Defaults) -> Event:
    """Return the decision of a line of a job with these defaults; its tasks are complete."""
    for task in line.tasks:
        defaults.fill(task, task.given or ())
    if line.tasks and isinstance(event, Ended):
        return replace(event, queued=line.tasks)
    return replace(event, tasks=line.tasks) if line.tasks and isinstance(event, Requested | Resolved) else event

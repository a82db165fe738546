"""The decisions that change a job, as data: each is one line in the journal.

The manager makes them, `transitions.apply` carries them out, and recovery carries out the same ones again; so an
event holds everything that was not certain before it was decided (times, chance, what a runner left behind).
Times are Unix seconds.
"""

# No `from __future__ import annotations`: `parsing` reads the annotations as they stand.

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.defaults import Defaults
from air_executor.model.job import Record, Task
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


@dataclass(frozen=True, slots=True)
class StopRequested(Record):
    """An open run is to be stopped: `timeout`, `cancelled`, `start-failed`, or `requeue` for the manager's own sake."""

    at: t.Moment
    seq: t.Seq
    reason: t.Word
    message: t.Text | None = None
    """The platform's words about a runner that cannot start."""
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


@dataclass(frozen=True, slots=True)
class Requested(Record):
    """A user's request that changes the job: `add`, `cancel`, `pause`, `resume`, `retry`, `confirm-gone`."""

    at: t.Moment
    request: t.Word
    """Name of the request file; one named in any line is never applied again. Empty: the manager's own decision."""
    op: t.Word
    task: t.Id | None = None
    tasks: Tasks = field(default_factory=list)
    """For `add`: complete tasks, each with its `id`."""


@dataclass(frozen=True, slots=True)
class Released(Record):
    """A pending child job may run: the run that submitted it was committed as a success."""

    at: t.Moment


@dataclass(frozen=True, slots=True)
class DeadlinePassed(Record):
    """The job's own deadline passed."""

    at: t.Moment


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


Event = Started | StopRequested | Ended | Requested | Released | DeadlinePassed | UpstreamFailed | ClockStepped


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
    start: Started | None = None
    stop: StopRequested | None = None
    end: Ended | None = None
    request: Requested | None = None
    release: Released | None = None
    deadline: DeadlinePassed | None = None
    upstream: UpstreamFailed | None = None
    clock: ClockStepped | None = None

    @property
    def event(self) -> Event | None:
        """The decision as it stands in the line; None if the line holds none."""
        found = (getattr(self, name) for name in EVENT_NAMES)
        return next((event for event in found if event is not None), None)


EVENT_NAMES = tuple(f.name for f in fields(JournalLine) if f.name not in ("job", "uid", "version", "before", "tasks"))
_NAME_OF: dict[type, str] = {
    Started: "start",
    StopRequested: "stop",
    Ended: "end",
    Requested: "request",
    Released: "release",
    DeadlinePassed: "deadline",
    UpstreamFailed: "upstream",
    ClockStepped: "clock",
}


def journal_line(event: Event, *, job: str, uid: str, version: int, before: tuple[int, int] | None) -> JournalLine:
    """Return the line that records an event."""
    line = JournalLine(job=job, uid=uid, version=version, before=before)
    setattr(line, _NAME_OF[type(event)], event)
    return line


def tasks_of(event: Event) -> list[Task]:
    """Return the tasks that a decision adds to its job."""
    return event.queued if isinstance(event, Ended) else event.tasks if isinstance(event, Requested) else []


def with_tasks(event: Event, line: JournalLine, defaults: Defaults) -> Event:
    """Return the decision of a line of a job with these defaults; its tasks are complete."""
    for task in line.tasks:
        defaults.fill(task, task.given or ())
    if line.tasks and isinstance(event, Ended):
        return replace(event, queued=line.tasks)
    return replace(event, tasks=line.tasks) if line.tasks and isinstance(event, Requested) else event

"""The small records beside a state: requests, and what a runner says of a run that ended.

Clients write requests, which the manager reads. The runner, which is no Python program, writes how a run ended.
Readers treat both as hostile input.
"""

# No `from __future__ import annotations`: `parsing` reads the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.job import Job
from air_executor.model.record import Record

MAX_SERIES = 100_000
"""Series of counters; pools, which tasks can name, have few labels."""

Op = Literal["wake", "add", "cancel", "pause", "resume", "retry", "rerun", "approve", "reject", "confirm-gone"]


@dataclass(frozen=True, slots=True)
class Request(Record):
    """A request to the manager."""

    op: Annotated[Op, *t.one_of(*get_args(Op))]
    job: t.Id
    task: t.Id | None = None
    tasks: Annotated[list[dict[str, Any]], MaxLen(t.MAX_TASKS)] = field(default_factory=list)
    """For `add`: tasks as written by the user."""
    downstream: bool = False
    """For `rerun`: also what depends on the task."""
    fields: Annotated[dict[str, Any], MaxLen(1000)] = field(default_factory=dict)
    """For `rerun`: other values of fields of the task, by their names."""
    by: t.Word | None = None
    """For `approve` and `reject`: who asks."""
    message: t.Text | None = None
    """For `reject`: why."""
    values: Annotated[dict[str, t.Text], MaxLen(1000)] = field(default_factory=dict)
    """For `approve`: becomes the task's result."""
    budget: t.Budget = field(default_factory=dict)
    """For `resume` and `retry`: amounts that replace those of the job's budget."""
    earlier_runs: t.EarlierRuns | None = None
    """For `retry` by a backfill: the runs that must have ended before the job goes on, by id with their uids."""


@dataclass(frozen=True, slots=True)
class Again(Record):
    """A line of `$AIR_QUEUE` by which a task asks to run again: `{"again": {"delay": "10m"}}`."""

    delay: t.Duration | None = None
    """None: the task's `again_delay`."""


@dataclass(frozen=True, slots=True)
class Result:
    """A line of `$AIR_QUEUE` by which a task sets its result: `{"result": {"rows": 7}}`."""

    value: object


@dataclass(frozen=True, slots=True)
class ResultText:
    """A line of `$AIR_QUEUE` that stands for a result file with this text: `{"result_text": "{"}`.

    Runs are packed to such a line where the result itself cannot be one.
    """

    result_text: str


@dataclass(frozen=True, slots=True)
class Join:
    """A line of `$AIR_QUEUE` that submits a child job and joins it: `{"job": {...}, "join": true}`."""

    job: Job


@dataclass(frozen=True, slots=True)
class OutcomeFile:
    """An outcome as a runner writes it; keys that it adds are ignored, and so is a part that makes no sense."""

    __pydantic_config__ = {"extra": "ignore"}  # noqa: RUF012 - pydantic's own name

    exit_code: t.ExitCode
    started: Annotated[t.Moment | None, t.Lenient()] = None
    """When the run began by the volume's clock, where the outcome is written into the claim, whose time that was."""
    timed_out: Annotated[bool, t.Lenient(default=False)] = False
    stopped: Annotated[bool, t.Lenient(default=False)] = False
    """Something other than its timeout told it to stop (TERM, INT or HUP)."""
    user: Annotated[str, MaxLen(40)] | None = None
    """CPU time as the shell's `times` prints it: `0m1.234s`."""
    system: Annotated[str, MaxLen(40)] | None = None
    memory_peak: Annotated[t.Bytes | None, t.Lenient()] = None
    """Bytes, of the cgroup where there is one, else of the process that had most."""
    oom_kills: t.Count | None = None
    message: Annotated[t.Text | None, t.Lenient()] = None
    """Why the command was not started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatus:
    """The backend of a running manager."""

    __pydantic_config__ = {"extra": "ignore"}  # noqa: RUF012 - pydantic's own name

    name: Annotated[t.Word | None, t.Lenient()] = None
    problem: Annotated[t.Text | None, t.Lenient()] = None
    """Why it does not answer; None if it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerFile:
    """`manager.json`: the manager of a state directory, and what users should know of it."""

    __pydantic_config__ = {"extra": "ignore"}  # noqa: RUF012 - pydantic's own name

    kind: Annotated[t.Word, t.Lenient(default="file")] = "file"
    """Kind of its lock: `file` or `lease`."""
    lease: Annotated[t.Word | None, t.Lenient()] = None
    """Uid of its Lease; None: it has none, or it left and nothing that it started is left there."""
    host: Annotated[t.Word | None, t.Lenient()] = None
    pid: Annotated[t.Count | None, t.Lenient()] = None
    boot: Annotated[t.Word | None, t.Lenient()] = None
    pid_namespace: Annotated[t.Bytes | None, t.Lenient()] = None
    epoch: Annotated[t.Count, t.Lenient(default=0)] = 0
    version: Annotated[t.Word | None, t.Lenient()] = None
    since: Annotated[t.Word | None, t.Lenient()] = None
    only: Annotated[list[t.Id] | None, t.Lenient()] = None
    """The jobs that it is limited to; None: all."""
    until: Annotated[t.Word | None, t.Lenient()] = None
    """When it left; None while it runs, or if it was killed."""
    problems: Annotated[list[t.Text], t.Lenient(default=[])] = field(default_factory=list)
    """Files that it cannot read, and the like."""
    backend: Annotated[BackendStatus | None, t.Lenient()] = None
    waiting: Annotated[dict[str, t.Text], t.Lenient(default={})] = field(default_factory=dict)
    """By job: what its next task waits for."""
    undelivered: Annotated[dict[str, t.Text], t.Lenient(default={})] = field(default_factory=dict)
    """By target of notifications: what is not delivered, and why."""
    page: Annotated[t.Text | None, t.Lenient()] = None
    """Address of its page."""
    max_runners: Annotated[t.Count | None, t.Lenient()] = None
    """Its limit for all jobs together."""
    pools: Annotated[dict[str, t.Count] | None, t.Lenient()] = None
    """Its limits by pool."""
    reserved: Annotated[dict[str, t.Word], t.Lenient(default={})] = field(default_factory=dict)
    """By pool, the task that is the next one to start in it, and waits for room."""


@dataclass(frozen=True, slots=True)
class CountersRecord(Record):
    """`counters.json`, and a line of the journal: what managers have counted, by series (its name, then its labels).

    Counters never go back, so of several values of one series the highest is the newest.
    """

    counters: Annotated[dict[t.Word, t.Money], MaxLen(MAX_SERIES)]
    """Of what is committed."""
    shown: Annotated[dict[t.Word, t.Money], MaxLen(MAX_SERIES)]
    """What scrapes may have shown of series that include open runs."""

    def include(self, other: "CountersRecord") -> None:
        """Take over the newest values of another one."""
        for own, found in ((self.counters, other.counters), (self.shown, other.shown)):
            own.update({series: max(value, own.get(series, 0.0)) for series, value in found.items()})

"""The small records beside a state: requests, and what a runner says of a run that ended.

Clients write requests, which the manager reads. The runner, which is no Python program, writes `exit.json`. Readers
treat both as hostile input.
"""

# No `from __future__ import annotations`: `parsing` reads the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.job import Record

MAX_SERIES = 100_000
"""Series of counters; pools, which tasks can name, have few labels."""

Op = Literal["wake", "add", "cancel", "pause", "resume", "retry", "confirm-gone"]


@dataclass(frozen=True, slots=True)
class Request(Record):
    """A request to the manager."""

    op: Annotated[Op, *t.one_of("wake", "add", "cancel", "pause", "resume", "retry", "confirm-gone")]
    job: t.Id
    task: t.Id | None = None
    tasks: Annotated[list[dict[str, Any]], MaxLen(t.MAX_TASKS)] = field(default_factory=list)
    """For `add`: tasks as written by the user."""


@dataclass(frozen=True, slots=True)
class ExitFile:
    """`exit.json` as a runner writes it; keys that it adds are ignored, and so is a part that makes no sense."""

    __pydantic_config__ = {"extra": "ignore"}  # noqa: RUF012 - pydantic's own name

    exit_code: t.ExitCode
    timed_out: Annotated[bool, t.Lenient(default=False)] = False
    stopped: Annotated[bool, t.Lenient(default=False)] = False
    """Something other than its timeout told it to stop (TERM, INT or HUP)."""
    user: Annotated[str, MaxLen(40)] | None = None
    """CPU time as the shell's `times` prints it: `0m1.234s`."""
    system: Annotated[str, MaxLen(40)] | None = None
    memory_peak: Annotated[t.Bytes | None, t.Lenient()] = None
    oom_kills: t.Count | None = None
    message: Annotated[t.Text | None, t.Lenient()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """`run.json`: one run, as the manager that started it wrote it down."""

    __pydantic_config__ = {"extra": "ignore"}  # noqa: RUF012 - pydantic's own name

    run: Annotated[t.Word | None, t.Lenient()] = None
    job: Annotated[t.Id | None, t.Lenient()] = None
    task: Annotated[t.Id | None, t.Lenient()] = None
    attempt: Annotated[t.Count, t.Lenient(default=0)] = 0
    slot: Annotated[t.SlotNumber, t.Lenient(default=0)] = 0
    epoch: Annotated[t.Count, t.Lenient(default=0)] = 0
    backend: Annotated[t.Word | None, t.Lenient()] = None
    host: Annotated[t.Word | None, t.Lenient()] = None
    """Host name of the manager."""
    boot: Annotated[t.Word | None, t.Lenient()] = None
    machine: Annotated[t.Word | None, t.Lenient()] = None
    """See `Host.machine`."""
    timeout: Annotated[t.Amount | None, t.Lenient()] = None
    grace: Annotated[t.Amount, t.Lenient(default=0.0)] = 0.0
    clock: Annotated[t.ClockOffset | None, t.Lenient()] = None
    """Wall time less the steady clock's, in seconds: tells whether the wall clock was set since."""
    runner: Annotated[t.Word | None, t.Lenient()] = None
    """Name of the runner on its platform; None where runners have none."""


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
    page: Annotated[t.Text | None, t.Lenient()] = None
    """Address of its page."""
    max_runners: Annotated[t.Count | None, t.Lenient()] = None
    """Its limit for all jobs together."""
    pools: Annotated[dict[str, t.Count] | None, t.Lenient()] = None
    """Its limits by pool."""


@dataclass(frozen=True, slots=True)
class CountersRecord(Record):
    """`counters.json`, and a line of the journal: what managers have counted, by series (its name, then its labels).

    Counters never go back, so of several values of one series the highest is the newest.
    """

    counters: Annotated[dict[t.Word, t.Money], MaxLen(MAX_SERIES)]
    """Of what is committed."""
    shown: Annotated[dict[t.Word, t.Money], MaxLen(MAX_SERIES)]
    """What scrapes may have shown of series that include open runs."""

    def merged(self, other: "CountersRecord") -> "CountersRecord":
        """Return the newest values of both."""
        return CountersRecord(_highest(self.counters, other.counters), _highest(self.shown, other.shown))


def _highest(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return one | {series: max(value, one.get(series, 0.0)) for series, value in other.items()}

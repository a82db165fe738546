"""The small records beside a state: requests, and what a runner says of a run that ended.

Requests are written by clients and read by the manager; the runner, a program that knows nothing of Python, writes
`exit.json`. Both are hostile input for whoever reads them.
"""

# No `from __future__ import annotations`: `parsing` reads the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.job import Record

Op = Literal["wake", "add", "cancel", "pause", "resume", "retry", "confirm-gone"]


@dataclass(frozen=True, slots=True)
class Request(Record):
    """What somebody asks of the manager."""

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

"""Records for tests that need one as it stands: the fields that matter are given, times as Unix seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from air_executor.core.new_task import new_task
from air_executor.core.queue_lines import QueueLine, parse_queue_line
from air_executor.model.attempt import Attempt
from air_executor.model.defaults import NO_DEFAULTS, Defaults
from air_executor.model.job import JobSpec, Task
from air_executor.model.parsing import read, read_task
from air_executor.model.state import Done, JobState, Queued, Status, TaskPhase, TaskState
from air_executor.model.steps import at_once
from air_executor.model.times import to_text


def queue_line(text: str | bytes, defaults: Defaults = NO_DEFAULTS) -> QueueLine:
    """Return what a line of `$AIR_QUEUE` says."""
    return at_once(parse_queue_line(text, defaults))


def make_spec(fields: Mapping[str, Any]) -> JobSpec:
    """Return what a job said, as read from data."""
    return read(JobSpec, fields)


def make_task(
    name: str,
    fields: Mapping[str, Any] | None = None,
    *,
    status: Status | None = None,
    queued_by: str | None = None,
    **kept: Any,  # noqa: ANN401 - further fields of the state
) -> TaskState:
    """Return the state of a task whose own fields are as people write them."""
    task: Task = read_task({"command": "true", **(fields or {})})
    task.id = name
    state = new_task(task, queued_by=queued_by, at=0.0)
    state.status = status or Queued()
    for field, value in kept.items():
        setattr(state, field, value)
    return state


def make_job(
    name: str,
    uid: str,
    fields: Mapping[str, Any] | None = None,
    submitted_at: float = 0.0,
    phase: Any = "queued",  # noqa: ANN401 - one of the phases
    **kept: Any,  # noqa: ANN401 - further fields of the state
) -> JobState:
    """Return the state of a job whose own fields are as people write them."""
    return JobState(id=name, uid=uid, spec=make_spec(fields or {}), submitted_at=submitted_at, phase=phase, **kept)


def make_done(
    phase: Any,  # noqa: ANN401 - one of the phases
    reason: str,
    at: float,
    *more: Any,  # noqa: ANN401 - further fields of the status
    **named: Any,  # noqa: ANN401 - as above
) -> Done:
    """Return how a task ended."""
    ended: TaskPhase = phase
    return Done(ended, reason, to_text(at), *more, **named)


def make_attempt(
    seq: int,
    slot: int,
    spawned: float,
    *more: Any,  # noqa: ANN401 - further fields of the attempt
    **named: Any,  # noqa: ANN401 - as above
) -> Attempt:
    """Return an ended run."""
    return Attempt(seq, slot, to_text(spawned), *more, **named)

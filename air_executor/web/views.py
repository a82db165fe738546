"""What the templates of one job and one task show, worked out from its state.

Pure: no files, no HTTP. Times are Unix seconds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from air_executor.core.memory import history_text
from air_executor.core.outcome import outcome_text, reason_text
from air_executor.model.state import Attempt, Done, JobState, Running, TaskPhase, TaskState
from air_executor.model.times import to_text
from air_executor.web.render import brief
from air_executor.web.timeline import Piece, Placed, Window, pieces

CHUNK = 50
"""Rows that are rendered, drawn and renewed together."""
CHUNKS_AT_ONCE = 10
"""Chunks in the page as it is opened."""
PHASES = ("running", "queued", "failed", "cancelled", "skipped", "succeeded")
"""Of tasks, in the order in which people care."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task in the table of its job."""

    number: int
    id: str
    phase: str
    depth: int
    queued_by: str | None
    bars: Sequence[Piece]
    took: float | None
    since: float | None
    """Of a running task: its run has taken time from then on."""
    runs: int
    outcome: str
    tone: str
    """`bad`, `good` (the outcome is a result) or `mild`."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows that stand together; None where they are to be asked for."""

    number: int
    count: int
    rows: Sequence[TaskRow] | None


def chunks(placed: Sequence[Placed], wanted: set[int], within: Window, now: float) -> list[Chunk]:
    """Return the table in chunks, of which only those that are wanted have their rows."""
    found = []
    for number, begin in enumerate(range(0, len(placed), CHUNK)):
        part = placed[begin : begin + CHUNK]
        rows = [_row(begin + n, one, within, now) for n, one in enumerate(part, 2)] if number in wanted else None
        found.append(Chunk(number, len(part), rows))
    return found


def _row(number: int, placed: Placed, within: Window, now: float) -> TaskRow:
    task = placed.task
    status = task.status
    outcome = outcome_of(task, now)
    return TaskRow(
        number=number,
        id=task.id,
        phase=task.phase,
        depth=placed.depth,
        queued_by=task.queued_by,
        bars=pieces(task, within, now),
        took=task.attempts[-1].work if task.attempts and not isinstance(status, Running) else None,
        since=status.since if isinstance(status, Running) else None,
        runs=task.runs,
        outcome=brief(outcome),
        tone={"succeeded": "good", "failed": "bad"}.get(task.phase, "mild"),
    )


def outcome_of(task: TaskState, now: float) -> str:
    """Return in a few words how a task ended or what it waits for."""
    status = task.status
    history = history_text(task)
    if isinstance(status, Done):
        if status.phase == "succeeded":
            text = "" if status.result is None else json.dumps(status.result, ensure_ascii=False)[:1000]
        else:
            text = outcome_text(status)
    elif isinstance(status, Running):
        text = f"is being stopped: {reason_text(status.stop, None)}" if status.stop else ""
    elif status.waits_until is not None and status.waits_until > now:
        verb = "runs again" if status.retrying else "starts"
        text = f"{verb} at {_moment(status.waits_until, now)}"
    else:
        text = f"after {', '.join(task.after)}" if task.after else ""
    return ", ".join(part for part in (text, history) if part)


def _moment(when: float, now: float) -> str:
    """Return a time of day, with its day if that is not today: a page that is not renewed must not count down."""
    day, _, time = to_text(round(when))[:19].partition("T")
    return f"{time} UTC" if day == to_text(now)[:10] else f"{day} {time} UTC"


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the table of its task."""

    seq: int
    since: float
    attempt: Attempt | None
    """None while it is open."""
    why: str


def runs_of(task: TaskState) -> list[RunRow]:
    """Return a task's runs that are known one by one, newest first."""
    found = [RunRow(one.seq, one.spawned, one, _why(one)) for one in task.attempts]
    if isinstance(task.status, Running):
        stop = f"is being stopped: {reason_text(task.status.stop, None)}" if task.status.stop else ""
        found.append(RunRow(task.status.seq, task.status.since, None, stop))
    return found[::-1]


def _why(one: Attempt) -> str:
    if one.reason == "ok":
        return ""
    text = reason_text(one.reason, one.exit_code)
    return f"{text}: {one.message}" if one.message else text


@dataclass(frozen=True, slots=True)
class PhaseShare:
    """One phase's part of a job's tasks, in per cent."""

    phase: str
    count: int
    x: float
    width: float


def shares(job: JobState) -> list[PhaseShare]:
    """Return how many tasks are in which phase, as parts of a bar: what is done first."""
    counts = Counter(task.phase for task in job.tasks.values())
    return shares_of(counts)


def shares_of(counts: Mapping[TaskPhase, int] | Mapping[str, int]) -> list[PhaseShare]:
    """Return the same of counts."""
    total = max(1, sum(counts.values()))
    found, x = [], 0.0
    for phase in ("succeeded", "failed", "cancelled", "skipped", "running", "queued"):
        if counts[phase]:
            width = counts[phase] / total * 100
            found.append(PhaseShare(phase, counts[phase], round(x, 2), round(width, 2)))
            x += width
    return found

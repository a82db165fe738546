"""The data for the templates of the lists, of one job and of one task, derived from states.

Pure: no files, no HTTP. Times are Unix seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from air_executor.core.memory import history_text
from air_executor.core.outcome import outcome_text, reason_text, stop_text
from air_executor.model import state as s
from air_executor.model.state import Attempt, Done, Running, TaskState
from air_executor.model.times import to_text
from air_executor.web.render import brief
from air_executor.web.timeline import BarPart, TimeWindow, TreeRow, bar_parts

CHUNK = 50
"""Number of rows that are rendered, drawn and refreshed together."""
CHUNKS_PER_PAGE = 10
"""Number of chunks with rows when the page opens."""
TASK_PHASES = (s.RUNNING, s.QUEUED, s.FAILED, s.CANCELLED, s.SKIPPED, s.SUCCEEDED)
"""In the order of the filters: most urgent first."""
JOB_PHASES = (s.RUNNING, s.QUEUED, s.PAUSED, s.PENDING, s.FAILED, s.CANCELLED, s.SUCCEEDED)
"""The same for jobs."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task in the table of its job."""

    number: int
    id: str
    phase: str
    depth: int
    queued_by: str | None
    bars: Sequence[BarPart]
    took: float | None
    since: float | None
    """Start of the open run; None if the task is not running."""
    runs: int
    outcome: str
    tone: str
    """`bad`, `good` (the outcome is a result) or `mild`."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some successive rows; None if the page has to request them."""

    number: int
    count: int
    rows: Sequence[TaskRow] | None


def chunks(tree: Sequence[TreeRow], wanted: set[int], within: TimeWindow, now: float) -> list[Chunk]:
    """Return the table in chunks, of which only the wanted ones have rows."""
    found = []
    for number, begin in enumerate(range(0, len(tree), CHUNK)):
        part = tree[begin : begin + CHUNK]
        rows = [_row(begin + n, one, within, now) for n, one in enumerate(part, 2)] if number in wanted else None
        found.append(Chunk(number, len(part), rows))
    return found


def _row(number: int, row: TreeRow, within: TimeWindow, now: float) -> TaskRow:
    task = row.task
    status = task.status
    outcome = outcome_of(task, now)
    return TaskRow(
        number=number,
        id=task.id,
        phase=task.phase,
        depth=row.depth,
        queued_by=task.queued_by,
        bars=bar_parts(task, within, now),
        took=task.attempts[-1].work if task.attempts and not isinstance(status, Running) else None,
        since=status.since if isinstance(status, Running) else None,
        runs=task.runs,
        outcome=brief(outcome),
        tone={"succeeded": "good", "failed": "bad"}.get(task.phase, "mild"),
    )


def outcome_of(task: TaskState, now: float) -> str:
    """Return in a few words how a task ended, or what it waits for."""
    status = task.status
    history = history_text(task)
    if isinstance(status, Done):
        if status.phase == "succeeded":
            text = "" if status.result is None else json.dumps(status.result, ensure_ascii=False)[:1000]
        else:
            text = outcome_text(status)
    elif isinstance(status, Running):
        text = stop_text(status)
    elif status.waits_until is not None and status.waits_until > now:
        verb = "retries" if status.retrying else "starts"
        text = f"{verb} at {_moment(status.waits_until, now)}"
    else:
        text = f"after {', '.join(task.after)}" if task.after else ""
    return ", ".join(part for part in (text, history) if part)


def _moment(when: float, now: float) -> str:
    """Return a time of day, with its date unless that is today. A still page could not update a countdown."""
    day, _, time = to_text(round(when))[:19].partition("T")
    return f"{time} UTC" if day == to_text(now)[:10] else f"{day} {time} UTC"


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the table of its task."""

    seq: int
    since: float
    attempt: Attempt | None
    """None if the run is open."""
    why: str


def runs_of(task: TaskState) -> list[RunRow]:
    """Return a task's runs that are known individually, newest first."""
    found = [RunRow(one.seq, one.spawned, one, _why(one)) for one in task.attempts]
    if isinstance(task.status, Running):
        found.append(RunRow(task.status.seq, task.status.since, None, stop_text(task.status)))
    return found[::-1]


def _why(one: Attempt) -> str:
    if one.reason == "ok":
        return ""
    text = reason_text(one.reason, one.exit_code)
    return f"{text}: {one.message}" if one.message else text


@dataclass(frozen=True, slots=True)
class PhaseShare:
    """The share of a job's tasks in one phase, in percent."""

    phase: str
    count: int
    x: float
    width: float


def shares_of(counts: Mapping[s.TaskPhase, int] | Mapping[str, int]) -> list[PhaseShare]:
    """Return the shares of a job's tasks by phase, as parts of a bar: ended ones first."""
    total = max(1, sum(counts.values()))
    found, x = [], 0.0
    for phase in ("succeeded", "failed", "cancelled", "skipped", "running", "queued"):
        count = sum(n for name, n in counts.items() if name == phase)
        if count:
            width = count / total * 100
            found.append(PhaseShare(phase, count, round(x, 2), round(width, 2)))
            x += width
    return found

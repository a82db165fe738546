"""The data for the templates of the lists, of one job and of one task, derived from states.

Pure: no files, no HTTP. Times are Unix seconds.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from air_executor.core.memory import history_text
from air_executor.core.outcome import outcome_text, reason_text, stop_text
from air_executor.core.questions import answer_by
from air_executor.core.short_reason import ShortReasons
from air_executor.core.task_groups import TaskGroup
from air_executor.model import state as s
from air_executor.model.attempt import Attempt
from air_executor.model.reports import progress_text
from air_executor.model.state import Done, JobState, Running, TaskState
from air_executor.model.times import to_text
from air_executor.store.job_summary import JobSummary
from air_executor.web.group_bar import GroupBar, group_bar
from air_executor.web.log_colors import segments
from air_executor.web.log_text import LogLine, LogPart
from air_executor.web.render import brief
from air_executor.web.timeline import BarPart, FoldedTasks, TimeWindow, TreeRow, bar_parts, wait_parts

CHUNK = 50
"""Number of rows that are rendered, drawn and refreshed together."""
CHUNKS_PER_PAGE = 10
"""Number of chunks with rows when the page opens."""
LATELY = 86_400.0
"""Seconds for which a job that failed stands before those that wait."""
TASK_PHASES = (s.RUNNING, s.QUEUED, s.FAILED, s.CANCELLED, s.SKIPPED, s.SUCCEEDED)
"""In the order of the filters: most urgent first."""
JOB_PHASES = (s.RUNNING, s.QUEUED, s.PAUSED, s.PENDING, s.FAILED, s.CANCELLED, s.SUCCEEDED)
"""The same for jobs."""
_TONES = {"succeeded": "good", "failed": "bad"}


def place_of(job: JobSummary, now: float) -> tuple[int, float, str]:
    """Return where a job stands in the list: what runs, what failed within a day, what waits, what has ended."""
    failed = job.phase in (s.FAILED, s.CANCELLED) and now - (job.finished_at or 0.0) < LATELY
    group = 0 if job.phase == s.RUNNING else 1 if failed else 3 if job.ended else 2
    return group, -job.submitted_at, job.id


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task in the table of its job."""

    number: int
    id: str
    is_group: bool
    """It stands for the tasks of a group."""
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
    waits: Sequence[tuple[float, float]] = ()
    """Position and width of the times that it waited."""
    folded: int = 0
    """How many tasks it stands for that succeeded."""
    progress: float | None = None
    """The part that is done, from 0 to 1; None if that is unknown."""
    many: GroupBar | None = None
    """The runs of the tasks that it stands for."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some successive rows; None if the page has to request them."""

    number: int
    count: int
    rows: Sequence[TaskRow] | None


def chunks(tree: Sequence[TreeRow], wanted: set[int], within: TimeWindow, why: ShortReasons) -> list[Chunk]:
    """Return the table in chunks, of which only the wanted ones have rows."""
    found = []
    for number, begin in enumerate(range(0, len(tree), CHUNK)):
        part = tree[begin : begin + CHUNK]
        shown = part if number in wanted else ()
        rows = [_row(begin + n, one, within, why) for n, one in enumerate(shown, 2)]
        found.append(Chunk(number, len(part), rows or None))
    return found


def _row(number: int, row: TreeRow, within: TimeWindow, why: ShortReasons) -> TaskRow:
    task, job, now = row.entry, why.job, why.now
    if isinstance(task, FoldedTasks | TaskGroup):
        return _row_of_many(number, row.depth, task, group_bar(task.tasks, within, now))
    status = task.status
    outcome = outcome_of(task, why)
    return TaskRow(
        number=number,
        id=task.id,
        is_group=False,
        phase=task.phase,
        depth=row.depth,
        queued_by=task.queued_by,
        bars=bar_parts(task, within, now),
        waits=wait_parts(job, task, within, now),
        took=task.attempts[-1].work if task.attempts and not isinstance(status, Running) else None,
        since=status.since if isinstance(status, Running) else None,
        runs=task.runs,
        outcome=brief(outcome),
        tone=_TONES.get(task.phase, "mild"),
        progress=status.progress.share if isinstance(status, Running) and status.progress is not None else None,
    )


def _row_of_many(number: int, depth: int, many: FoldedTasks | TaskGroup, bar: GroupBar | None) -> TaskRow:
    group = many if isinstance(many, TaskGroup) else None
    return TaskRow(
        number=number,
        id=many.tasks[0].id if group is None else group.name,
        is_group=group is not None,
        phase=s.SUCCEEDED if group is None else group.phase,
        depth=depth,
        queued_by=many.tasks[0].queued_by if group is None else None,
        bars=(),
        took=None if bar is None or bar.is_open else bar.end - bar.begin,
        since=None if bar is None or not bar.is_open else bar.begin,
        runs=sum(one.runs for one in many.tasks),
        outcome="" if group is None else brief(group.text),
        tone="mild" if group is None else _TONES.get(group.phase, "mild"),
        folded=len(many.tasks) if group is None else 0,
        many=bar,
    )


def outcome_of(task: TaskState, why: ShortReasons) -> str:
    """Return in a few words how a task ended, or what it waits for."""
    status, now = task.status, why.now
    history = history_text(task)
    if isinstance(status, Done):
        if status.phase == "succeeded" and task.cached is not None:
            text = f"cached, from job {task.cached.job}"
        elif status.phase == "succeeded":
            text = "" if status.result is None else json.dumps(status.result, ensure_ascii=False)[:1000]
        else:
            text = outcome_text(status)
    elif isinstance(status, Running):
        text = stop_text(status) or ("" if status.progress is None else progress_text(status.progress))
    elif status.waits_until is not None and status.waits_until > now:
        checked = f"checked {task.again} ×, next" if task.again else "starts"
        text = f"{'retries' if status.retrying else checked} at {_moment(status.waits_until, now)}"
    elif task.approve is not None and task.ready_at is not None:
        by = answer_by(why.job, task)
        text = f"asks: {task.approve}" if by is None else f"asks until {_moment(by, now)}: {task.approve}"
    else:
        text = why.of_waiting(task)
    return ", ".join(part for part in (text, history) if part)


def _moment(when: float, now: float) -> str:
    """Return a time of day, with its date unless that is today. A still page could not update a countdown."""
    day, _, time = to_text(round(when))[:19].partition("T")
    return f"{time} UTC" if day == to_text(now)[:10] else f"{day} {time} UTC"


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the table of its task."""

    seq: int
    number: int
    """Its place among the attempts of the task, from 1 on."""
    since: float
    attempt: Attempt | None
    """None if the run is open."""
    why: str


def runs_of(task: TaskState) -> list[RunRow]:
    """Return a task's runs that are known individually, newest first."""
    is_open = isinstance(task.status, Running)
    first = max(1, task.runs - len(task.attempts) - is_open + 1)
    found = [RunRow(one.seq, number, one.spawned, one, _why(one)) for number, one in enumerate(task.attempts, first)]
    if isinstance(task.status, Running):
        number = first + len(found)
        found.append(RunRow(task.status.seq, number, task.status.since, None, stop_text(task.status)))
    return found[::-1]


def _why(one: Attempt) -> str:
    if one.reason == "ok":
        return ""
    text = reason_text(one.reason, one.exit_code)
    return f"{text}: {one.message}" if one.message else text


@dataclass(frozen=True, slots=True)
class LogRow:
    """A line of a log."""

    number: int | None
    """From 1 on; None if unknown."""
    time: str
    """Time of day (UTC) by which it was written."""
    segments: Sequence[tuple[str, str]]
    """Classes and text."""


@dataclass(frozen=True, slots=True)
class ShownLog:
    """The part of a log that a page shows."""

    part: LogPart
    rows: Sequence[LogRow]
    next_line: int | None
    """Number of the line after it."""

    @classmethod
    def of(cls, part: LogPart, first: int | None, written_at: Callable[[int], float]) -> ShownLog:
        """Return a part whose first line has this number."""
        rows = [
            LogRow(
                None if first is None else first + n,
                to_text(written_at(line.place))[11:19],
                segments(line.colored),
            )
            for n, line in enumerate(part.lines)
        ]
        return cls(part, rows, None if first is None else first + len(rows))

    @classmethod
    def empty(cls) -> ShownLog:
        """Return nothing, from the beginning of the log on."""
        return cls(LogPart((), LogLine(0, ""), 0, 0, 0), (), 1)


FAILURES_SHOWN = 5
"""Failed tasks of which a job's page shows the last lines."""


def failures_of(job: JobState) -> list[TaskState]:
    """Return the tasks of a job that failed last, the last first."""
    found = [task for task in job.tasks.values() if task.phase == s.FAILED and not task.superseded]
    return heapq.nlargest(FAILURES_SHOWN, found, key=lambda task: task.finished_at or "")


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

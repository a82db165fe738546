"""A job's runs in time, as bars in percent of a window, and its tasks in the order of the tree.

Pure; the templates draw it. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from air_executor.model.state import OK, Attempt, JobState, Running, TaskState
from air_executor.model.times import format_duration

BARS_SHOWN = 20
"""Number of runs drawn of one task, the newest: more would be illegible."""
MIN_WIDTH = 0.3
"""Percent of the window: the minimum width of work."""
MAX_DEPTH = 12
"""Maximum depth of indentation."""
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_TICKS = 7


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """The time that the bars are drawn in."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length; never 0."""
        return max(0.001, self.end - self.start)

    def at(self, when: float) -> float:
        """Return the position of a time in percent, limited to the window."""
        return round(min(100.0, max(0.0, (when - self.start) / self.seconds * 100)), 3)

    def ticks(self) -> list[tuple[float, str]]:
        """Return positions in percent and labels of the axis."""
        step = _step(self.seconds / _TICKS)
        count = int(self.seconds / step)
        return [
            (self.at(self.start + n * step), "0" if n == 0 else f"{format_duration(n * step)}")
            for n in range(count + 1)
            if n * step <= 0.96 * self.seconds  # the last one would be cut
        ]


@dataclass(frozen=True, slots=True)
class BarPart:
    """One part of a bar, in percent of the window."""

    kind: str
    """`start`, `work` or `finish`."""
    tone: str
    """The outcome of the run: `ok`, `bad`, `off` or `open`."""
    x: float
    width: float
    first: bool = False
    """Whether it is the first part of a run."""
    since: float | None = None
    """Start of an open run, whose part still grows; None if it has ended."""


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A task and its depth in the tree."""

    task: TaskState
    depth: int


def window(job: JobState, now: float) -> TimeWindow:
    """Return the time from a job's first run to its end, or, for an unfinished job, to a round time after its start.

    A round time keeps bars at their positions while the job runs; they move only now and then.
    """
    spawned = [task.attempts[0].spawned for task in job.tasks.values() if task.attempts]
    begun = job.started_at if job.started_at is not None else job.submitted_at
    start = min([begun, *spawned])
    gone = [task.attempts[-1].gone_at for task in job.tasks.values() if task.attempts]
    if job.ended:
        return TimeWindow(start, max([job.finished_at or start, *gone]))
    if job.started_at is None:
        return TimeWindow(start, start + 10)
    return TimeWindow(start, start + _round_up(max(now, *gone, start) - start if gone else now - start))


def bar_parts(task: TaskState, within: TimeWindow, now: float) -> list[BarPart]:
    """Return the bars of a task's newest runs, oldest first."""
    found: list[BarPart] = []
    for attempt in task.attempts[-BARS_SHOWN:]:
        found += _attempt(attempt, within)
    status = task.status
    if isinstance(status, Running):
        x = within.at(status.since)
        found.append(BarPart("work", "open", x, max(0.0, round(within.at(now) - x, 3)), first=True, since=status.since))
    return found


def _attempt(one: Attempt, within: TimeWindow) -> Iterable[BarPart]:
    tone = "ok" if one.reason == OK else "off" if one.reason in ("cancelled", "requeue") else "bad"
    at, first = one.spawned, True
    for kind, seconds in (("start", one.start), ("work", one.work), ("finish", one.finish)):
        if seconds > 0 or kind == "work":  # a run too short for the volume's clock is still a run
            x = within.at(at)
            width = round(within.at(at + seconds) - x, 3)
            yield BarPart(kind, tone, x, max(MIN_WIDTH, width) if kind == "work" else width, first=first)
            first = False
        at += seconds


def tree(job: JobState) -> list[TreeRow]:
    """Return a job's tasks, each followed by the tasks it queued. No recursion: chains can be as long as a job."""
    children: dict[str | None, list[TaskState]] = {}
    for task in job.tasks.values():
        children.setdefault(task.queued_by if task.queued_by in job.tasks else None, []).append(task)
    if len(children) == 1:
        return [TreeRow(task, 0) for task in job.tasks.values()]
    found = []
    stack = [TreeRow(task, 0) for task in reversed(children.get(None, []))]
    while stack:
        row = stack.pop()
        found.append(row)
        depth = min(MAX_DEPTH, row.depth + 1)
        stack += [TreeRow(task, depth) for task in reversed(children.get(row.task.id, []))]
    return found


def filtered(rows: Sequence[TreeRow], phase: str, text: str) -> list[TreeRow]:
    """Return the tasks in a phase ("" for any) whose id contains a text."""
    return [one for one in rows if (not phase or one.task.phase == phase) and text in one.task.id]


def _step(least: float) -> float:
    for step in _STEPS:
        if step >= least:
            return step
    days = 1
    while days * 86_400 < least:
        days *= 2
    return days * 86_400


def _round_up(seconds: float) -> float:
    wanted = max(5.0, seconds * 1.02)
    for step in _STEPS:
        for times in (1, 2, 3, 4, 6, 8):
            if step * times >= wanted and step >= wanted / 10:
                return step * times
    return _step(wanted)

"""A job's runs in time, as bars in percent of a window, and its tasks in the order of the tree.

Pure; the templates draw it. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from air_executor.core.task_groups import TaskGroup, children
from air_executor.model.attempt import Attempt
from air_executor.model.state import (
    CANCELLED,
    COMMITTED,
    REQUEUE,
    SKIP_ON,
    SUCCEEDED,
    JobState,
    Queued,
    Running,
    TaskState,
)
from air_executor.model.times import format_duration

BARS_SHOWN = 20
"""Number of runs drawn of one task, the newest: more would be illegible."""
MIN_WIDTH = 0.3
"""Percent of the window: the minimum width of work."""
FOLDED_FROM = 20
"""Number of succeeded siblings from which on they are one row."""
MAX_DEPTH = 12
"""Maximum depth of indentation."""
_PARTS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Of a second: steps of the axis of a short job."""
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
            (self.at(self.start + n * step), "0" if n == 0 else format_duration(round(n * step, 3)))
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
class FoldedTasks:
    """Tasks that succeeded and queued nothing, in one row in place of the first of them."""

    tasks: Sequence[TaskState]


Entry = TaskState | TaskGroup | FoldedTasks


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A task, a group of tasks, or tasks that are folded, and its depth in the tree."""

    entry: Entry
    depth: int

    def has(self, text: str) -> bool:
        """Tell whether its id, or that of its group, contains a text."""
        if isinstance(self.entry, TaskGroup):
            return text in self.entry.name
        if isinstance(self.entry, FoldedTasks):
            return not text
        return text in self.entry.id or text in (self.entry.group or "")


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
    if not any(isinstance(task.status, Running) for task in job.tasks.values()):
        # Nothing but time passes: up to when it goes on.
        soonest = min((task.waits_until for task in job.tasks.values() if task.waits_until is not None), default=now)
        if soonest > now:
            return TimeWindow(start, start + max(10.0, (max(soonest, *gone, start) - start) * 1.02))
    if job.started_at is None:
        return TimeWindow(start, start + _round_up(max(10.0, now - start)))
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


def wait_parts(job: JobState, task: TaskState, within: TimeWindow, now: float) -> list[tuple[float, float]]:
    """Return position and width of the times for which a task waited for a runner, or waits for its time."""
    spans = [(one.spawned - one.waited, one.spawned) for one in task.attempts[-BARS_SHOWN:] if one.waited]
    if isinstance(task.status, Queued) and not job.ended:
        last = task.attempts[-1].gone_at if task.attempts else job.submitted_at
        if task.waits_until is not None and task.waits_until > now:
            spans.append((last, task.waits_until))
        elif task.ready_at is not None:
            spans.append((max(task.ready_at, last), now))
    found = [(within.at(begin), within.at(end)) for begin, end in spans]
    return [(x, round(end - x, 3)) for x, end in found if end - x > MIN_WIDTH]


def tone_of(reason: str) -> str:
    """Return how a run looks that ended for this reason."""
    return "ok" if reason in COMMITTED else "off" if reason in (CANCELLED, REQUEUE, SKIP_ON) else "bad"


def _attempt(one: Attempt, within: TimeWindow) -> Iterable[BarPart]:
    tone = tone_of(one.reason)
    at, first = one.spawned, True
    for kind, seconds in (("start", one.start), ("work", one.work), ("finish", one.finish)):
        if seconds > 0 or kind == "work":  # a run too short for the volume's clock is still a run
            x = within.at(at)
            width = round(within.at(at + seconds) - x, 3)
            yield BarPart(kind, tone, x, max(MIN_WIDTH, width) if kind == "work" else width, first=first)
            first = False
        at += seconds


def tree(job: JobState, phase: str = "", text: str = "", *, fold: bool = False) -> list[TreeRow]:
    """Return a job's tasks, each followed by the tasks it queued. No recursion: chains can be as long as a job.

    `phase`, `text`: only tasks in this phase, and tasks that have this text. Without both, a group is one row, and with
    `fold` also many siblings that succeeded.
    """
    found = []
    every = not (phase or text)
    listed = children(job, fold=every)
    below = {parent: _folded(one, listed) if fold and every else list[Entry](one) for parent, one in listed.items()}
    stack = [TreeRow(entry, 0) for entry in reversed(below.get(None, []))]
    while stack:
        row = stack.pop()
        found.append(row)
        if isinstance(row.entry, TaskState):
            depth = min(MAX_DEPTH, row.depth + 1)
            stack += [TreeRow(entry, depth) for entry in reversed(below.get(row.entry.id, []))]
    return [one for one in found if (not phase or _phase(one.entry) == phase) and one.has(text)]


def _phase(entry: Entry) -> str:
    return SUCCEEDED if isinstance(entry, FoldedTasks) else entry.phase


def _folded(entries: Sequence[TaskState | TaskGroup], below: Container[str | None]) -> list[Entry]:
    """Return siblings with those that succeeded and queued nothing as one entry, if they are many."""
    done = [one for one in entries if isinstance(one, TaskState) and one.phase == SUCCEEDED and one.id not in below]
    if len(done) < FOLDED_FROM:
        return list(entries)
    inside = {one.id for one in done}
    found: list[Entry] = []
    for one in entries:
        if one is done[0]:
            found.append(FoldedTasks(done))
        elif not (isinstance(one, TaskState) and one.id in inside):
            found.append(one)
    return found


def _step(least: float) -> float:
    for step in (*_PARTS, *_STEPS):
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

"""Where a job's runs lie in time, as bars in per cent of a window, and its tasks in the order of who queued whom.

Pure; the templates draw what is here. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from air_executor.model.state import OK, Attempt, JobState, Running, TaskState
from air_executor.model.times import format_duration

BARS_SHOWN = 20
"""Runs drawn of one task, the newest: more would be a smear."""
THINNEST = 0.3
"""Per cent of the window; work that is shorter is drawn like this."""
DEEPEST = 12
"""From here on deeper tasks are indented alike."""
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_TICKS = 7


@dataclass(frozen=True, slots=True)
class Window:
    """The time that the bars are drawn in."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is; never 0."""
        return max(0.001, self.end - self.start)

    def at(self, when: float) -> float:
        """Return where a time lies, in per cent, kept inside."""
        return round(min(100.0, max(0.0, (when - self.start) / self.seconds * 100)), 3)

    def ticks(self) -> list[tuple[float, str]]:
        """Return where marks stand, in per cent, and what they say."""
        step = _step(self.seconds / _TICKS)
        count = int(self.seconds / step)
        return [
            (self.at(self.start + n * step), "0" if n == 0 else f"{format_duration(n * step)}")
            for n in range(count + 1)
            if n * step <= 0.96 * self.seconds  # the last one would be cut
        ]


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of a bar, in per cent of the window."""

    kind: str
    """`start`, `work` or `finish`."""
    tone: str
    """`ok`, `bad`, `off` or `open`: how the run ended."""
    x: float
    width: float
    first: bool = False
    """A run begins with it."""
    since: float | None = None
    """Of an open run: it grows from then on."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A task at its place in the tree."""

    task: TaskState
    depth: int


def window(job: JobState, now: float) -> Window:
    """Return the time from a job's first run to its end; of one that is under way, to a round time from its start.

    Round, so that bars stay where they are while the job goes on, and move only now and then.
    """
    spawned = [task.attempts[0].spawned for task in job.tasks.values() if task.attempts]
    begun = job.started_at if job.started_at is not None else job.submitted_at
    start = min([begun, *spawned])
    gone = [task.attempts[-1].gone_at for task in job.tasks.values() if task.attempts]
    if job.ended:
        return Window(start, max([job.finished_at or start, *gone]))
    if job.started_at is None:
        return Window(start, start + 10)
    return Window(start, start + _round_up(max(now, *gone, start) - start if gone else now - start))


def pieces(task: TaskState, within: Window, now: float) -> list[Piece]:
    """Return the bars of a task's newest runs, oldest first."""
    found: list[Piece] = []
    for attempt in task.attempts[-BARS_SHOWN:]:
        found += _attempt(attempt, within)
    status = task.status
    if isinstance(status, Running):
        x = within.at(status.since)
        found.append(Piece("work", "open", x, max(0.0, round(within.at(now) - x, 3)), first=True, since=status.since))
    return found


def _attempt(one: Attempt, within: Window) -> Iterable[Piece]:
    tone = "ok" if one.reason == OK else "off" if one.reason in ("cancelled", "requeue") else "bad"
    at, first = one.spawned, True
    for kind, seconds in (("start", one.start), ("work", one.work), ("finish", one.finish)):
        if seconds > 0 or kind == "work":  # shorter than the volume's clock can tell is still a run
            x = within.at(at)
            width = round(within.at(at + seconds) - x, 3)
            yield Piece(kind, tone, x, max(THINNEST, width) if kind == "work" else width, first=first)
            first = False
        at += seconds


def tree(job: JobState) -> list[Placed]:
    """Return a job's tasks, what one queued right after it. No recursion: chains can be as long as a job."""
    children: dict[str | None, list[TaskState]] = {}
    for task in job.tasks.values():
        children.setdefault(task.queued_by if task.queued_by in job.tasks else None, []).append(task)
    if len(children) == 1:
        return [Placed(task, 0) for task in job.tasks.values()]
    found = []
    stack = [Placed(task, 0) for task in reversed(children.get(None, []))]
    while stack:
        placed = stack.pop()
        found.append(placed)
        depth = min(DEEPEST, placed.depth + 1)
        stack += [Placed(task, depth) for task in reversed(children.get(placed.task.id, []))]
    return found


def chosen(placed: Sequence[Placed], phase: str, text: str) -> list[Placed]:
    """Return those tasks that are in a phase ("" for any) and whose id contains a text."""
    return [one for one in placed if (not phase or one.task.phase == phase) and text in one.task.id]


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

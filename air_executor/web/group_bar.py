"""The bar of many tasks in one row: from their first start to their last end, as high as many of them ran at a time.

Pure, and bounded: a row has the same number of columns for ten tasks and for five thousand. Times are Unix seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from air_executor.model.state import Running, TaskState
from air_executor.web.timeline import MIN_WIDTH, TimeWindow, tone_of

COLUMNS = 100
"""Parts of the window that are drawn each with its own height."""
LEVELS = 7
"""Heights that can be told apart."""
LEAST_BAD = 2
"""Levels: failures are seen, however few of many."""


@dataclass(frozen=True, slots=True)
class DensityPart:
    """A part of the bar of many tasks, in percent of the window and of the height."""

    tone: str
    """`ok`, `bad`, `off` or `open`, as for single runs."""
    x: float
    width: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class GroupBar:
    """Runs of many tasks."""

    begin: float
    """When the first of them started."""
    end: float
    """When the last of them ended; now if one is open."""
    is_open: bool
    x: float
    width: float
    parts: Sequence[DensityPart]


def group_bar(tasks: Iterable[TaskState], within: TimeWindow, now: float) -> GroupBar | None:
    """Return the bar of these tasks; None if none of them has run."""
    runs = [run for task in tasks for run in _runs(task, now)]
    if not runs:
        return None
    begin, end = min(run[1] for run in runs), max(run[2] for run in runs)
    x = within.at(begin)
    is_open = any(tone == "open" for tone, _, _ in runs)
    return GroupBar(begin, end, is_open, x, max(MIN_WIDTH, round(within.at(end) - x, 3)), _parts(runs, within))


def _runs(task: TaskState, now: float) -> Iterable[tuple[str, float, float]]:
    for one in task.attempts:
        begin = one.spawned
        yield tone_of(one.reason), begin, begin + one.runner_seconds
    if isinstance(task.status, Running):
        yield "open", task.status.since, max(now, task.status.since)


def _parts(runs: Iterable[tuple[str, float, float]], within: TimeWindow) -> list[DensityPart]:
    busy = {tone: _Load() for tone in ("ok", "bad", "off", "open")}
    for tone, begin, end in runs:
        busy[tone].add(within.at(begin) * COLUMNS / 100, within.at(end) * COLUMNS / 100)
    loads = {tone: load.columns() for tone, load in busy.items()}
    totals = [sum(column) for column in zip(*loads.values(), strict=True)]
    most = max(totals) or 1.0
    levels = [_levels({tone: load[n] for tone, load in loads.items()}, most) for n in range(COLUMNS)]
    found: list[DensityPart] = []
    at = 0
    for (tone, below, bad), same in itertools.groupby(levels):
        width = len(list(same))
        for one, low, high in ((tone, 0, below), ("bad", below, below + bad)):
            if high > low:
                found.append(_part(one, at, width, low, high))
        at += width
    return found


def _levels(loads: dict[str, float], most: float) -> tuple[str, int, int]:
    """Return the tone of a column, its levels without those for failures, and these, which stand above."""
    total = sum(loads.values())
    if not total:
        return "ok", 0, 0
    height = max(1, round(total / most * LEVELS))
    bad = max(LEAST_BAD, round(loads["bad"] / most * LEVELS)) if loads["bad"] else 0
    tone = max(("open", "ok", "off"), key=lambda one: loads[one])
    return tone, max(0, height - bad), bad


def _part(tone: str, at: int, width: int, low: int, high: int) -> DensityPart:
    column, level = 100 / COLUMNS, 100 / LEVELS
    y, height = round(100 - high * level, 2), round((high - low) * level, 2)
    return DensityPart(tone, round(at * column, 3), round(width * column, 3), y, height)


class _Load:
    """How many runs there are in each column; adding one takes the same time however long it is."""

    def __init__(self) -> None:
        self._parts = [0.0] * (COLUMNS + 1)
        self._steps = [0] * (COLUMNS + 2)

    def add(self, begin: float, end: float) -> None:
        """Add a run from one position to another, in columns."""
        end = max(end, begin + 0.001)
        first, last = int(begin), int(end)
        if first == last:
            self._parts[first] += end - begin
            return
        self._parts[first] += first + 1 - begin
        self._parts[min(last, COLUMNS)] += end - last
        self._steps[first + 1] += 1
        self._steps[min(last, COLUMNS)] -= 1

    def columns(self) -> list[float]:
        """Return the mean number of runs by column; what begins at the end of the window is in the last one."""
        found = [part + whole for part, whole in zip(self._parts, itertools.accumulate(self._steps), strict=False)]
        found[COLUMNS - 1] += found.pop()
        return [max(0.0, round(one, 6)) for one in found]

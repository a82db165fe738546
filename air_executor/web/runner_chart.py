"""How many runners a job had over time, next to the always-on pool: a chart. Pure: no files, no HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from air_executor.core.always_on import AlwaysOnPool
from air_executor.model.state import JobState, Running

STEPS = 120
"""Parts of the time, each with its mean number of runners."""
LEAST_RUNS = 3
"""With fewer there is nothing to see over time."""


@dataclass(frozen=True, slots=True)
class RunnerChart:
    """The area of the runners and the line of the pool, in a square of 100 by 100 with the origin at the top left."""

    area: str
    """Points of a polygon."""
    pool: float
    """Height of the line from the top."""
    most: float
    """Runners at the full height."""
    begin: float
    """Unix seconds."""
    end: float


def runner_chart(job: JobState, pool: AlwaysOnPool | None, now: float) -> RunnerChart | None:
    """Return the chart of a job; None if there is nothing to see in it."""
    runs = list(_runs(job, now))
    if pool is None or len(runs) < LEAST_RUNS:
        return None
    begin = min(pool.start, *(start for start, _ in runs))
    end = max(pool.end, *(gone for _, gone in runs))
    if end <= begin:
        return None
    means = _means(runs, begin, (end - begin) / STEPS)
    most = max(*means, float(pool.size))
    points = [(0.0, 100.0)]
    for number, mean in enumerate(means):
        height = 100 - mean / most * 100
        points += [(number / STEPS * 100, height), ((number + 1) / STEPS * 100, height)]
    points.append((100.0, 100.0))
    area = " ".join(f"{x:.4g},{y:.4g}" for x, y in points)
    return RunnerChart(area, 100 - pool.size / most * 100, most, begin, end)


def _runs(job: JobState, now: float) -> Iterable[tuple[float, float]]:
    for task in job.tasks.values():
        for attempt in task.attempts:
            yield attempt.spawned, attempt.gone_at
        if isinstance(task.status, Running):
            yield task.status.since, max(now, task.status.since)


def _means(runs: Iterable[tuple[float, float]], begin: float, step: float) -> list[float]:
    """Return the mean number of runners in each part: what runs throughout is counted at its borders alone."""
    changes = [0.0] * (STEPS + 1)
    partly = [0.0] * STEPS
    for start, gone in runs:
        first, last = (start - begin) / step, (gone - begin) / step
        head, tail = min(int(first), STEPS - 1), min(int(last), STEPS - 1)
        if head == tail:
            partly[head] += last - first
            continue
        partly[head] += head + 1 - first
        partly[tail] += last - tail
        changes[head + 1] += 1
        changes[tail] -= 1
    return [whole + part for whole, part in zip(accumulate(changes[:STEPS]), partly, strict=True)]

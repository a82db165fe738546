"""What grows with the number of tasks and jobs, and should not: rate, start, memory, and the cost of doing nothing."""

from __future__ import annotations

import os
import secrets
import statistics
import time
from bisect import bisect_left
from collections.abc import Sequence

from air_executor.model.state import Done
from air_executor.model.times import from_text
from benchmarks.place import Place
from benchmarks.table import Line, Row

_MANY = 10_000
_FEW = 10
_SLOWEST = 20
"""Tasks per second of a busy machine; below that a long job is given up."""


def growth(*, quick: bool) -> Sequence[Line]:
    """Measure one job of 50,000 tasks: the rate over its last tenth, next to its first."""
    tasks = 3_000 if quick else 50_000
    samples: list[tuple[float, float]] = []
    with Place(AIR_MAX_RUNNERS="4") as place:
        place.submit("big", [["true"]] * tasks, max_runners=4, max_tasks=tasks)
        place.start()
        until = time.monotonic() + tasks / _SLOWEST
        while not place.has_ended("big"):
            samples.append((time.time(), place.cpu()))
            if time.monotonic() > until:
                msg = f"it does not end:\n{place.log()}"
                raise RuntimeError(msg)
            time.sleep(0.1)
        samples.append((time.time(), place.cpu()))
        ends = [
            from_text(task.status.finished_at)
            for task in place.client.status("big").tasks.values()
            if isinstance(task.status, Done)
        ]
    ends.sort()
    tenth = tasks // 10
    first, last = (ends[0], ends[tenth - 1]), (ends[-tenth], ends[-1])
    ratio = (first[1] - first[0]) / (last[1] - last[0])
    costs = [(_at(samples, end) - _at(samples, begin)) / tenth * 1000 for begin, end in (first, last)]
    note = f"{tenth / (last[1] - last[0]):.0f} to {tenth / (first[1] - first[0]):.0f} tasks/s"
    cpu_note = f"{costs[1]:.2f} to {costs[0]:.2f} ms a task; for machines that are busy with other things"
    return [
        Line("growth", f"one job of {tasks} tasks: rate, last 10 % ÷ first 10 %", ratio, 0.8, note=note),
        Line("growth", "the same of the manager's own CPU", costs[1] / costs[0], note=cpu_note),
    ]


def _at(samples: Sequence[tuple[float, float]], when: float) -> float:
    """Return the CPU seconds used at a time, between the samples around it."""
    after = min(max(1, bisect_left(samples, (when, 0.0))), len(samples) - 1)
    (t0, c0), (t1, c1) = samples[after - 1], samples[after]
    return c0 + (c1 - c0) * (when - t0) / (t1 - t0)


def idle(*, quick: bool) -> Sequence[Line]:
    """Measure start, memory and idling with 10,000 finished jobs, beside a second manager with 10."""
    many, seconds, repeats = (1_000, 5, 1) if quick else (_MANY, 65, 3)
    with Place() as large, Place() as small:
        fill(large, many)
        fill(small, _FEW)
        starts = []
        for _ in range(repeats):
            large.stop()
            starts.append(large.start())
        small.start()
        time.sleep(2)  # until what follows a start is over
        shares = _idle_shares((large, small), seconds)
        memory, other = large.memory() / 2**20, small.memory() / 2**20
    at = f"{many} finished jobs"
    return [
        Line(
            "idle", f"{at}: CPU, % of a core", shares[0], 0.3, at_most=True, note=f"over {seconds} s, a rescan included"
        ),
        Line("idle", f"the same with {_FEW} jobs", shares[1]),
        Line(
            "idle", f"{at}: resident memory, MiB", memory, 90e6 / 2**20, at_most=True, note=f"with {_FEW}: {other:.0f}"
        ),
        Line("idle", f"start with {many} jobs, s", statistics.median(starts), 3, at_most=True, detail={"all": starts}),
    ]


def _idle_shares(places: Sequence[Place], seconds: float) -> list[float]:
    before = [place.cpu_exactly() for place in places]
    time.sleep(seconds)
    return [(place.cpu_exactly() - used) / seconds * 100 for place, used in zip(places, before, strict=True)]


def fill(place: Place, count: int) -> None:
    """Let one job run, and make finished ones of its kind."""
    place.submit("model", [["true"]] * 3)
    place.start()
    place.wait(["model"])
    place.stop()
    state = place.client.status("model")
    with open(place.layout.state("model"), encoding="utf-8") as file:
        text = file.read()
    for number in range(count - 1):
        name = f"job{number:05d}"
        os.mkdir(place.layout.job(name))
        with open(place.layout.state(name), "w", encoding="utf-8") as file:
            file.write(text.replace('"model"', f'"{name}"').replace(state.uid, secrets.token_hex(4)))


ROWS = (Row("growth", growth), Row("idle", idle))

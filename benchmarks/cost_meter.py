"""Whether the cost report says what was used: two-second tasks, metered by the kernel meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.kernel_meter import KernelMeter, Life, why_not
from benchmarks.place import Place
from benchmarks.table import Line, Row

SECONDS = "AIR_BENCH_SECONDS"
"""Names the variable that says for how long."""
_SLOTS, _TASK_SECONDS = 4, 2
_TARGET = 0.1
"""Percent."""


def meter(*, quick: bool) -> Sequence[Line]:
    """Compare the report's runner-seconds and work with the lives of the runners' and the commands' processes."""
    if (reason := why_not()) is not None:
        return [Line("cost-meter", "report ÷ kernel", None, note=reason)]
    seconds = 10 if quick else int(os.environ.get(SECONDS, "3600"))
    tasks = _SLOTS * seconds // _TASK_SECONDS
    with Place(AIR_MAX_RUNNERS=str(_SLOTS)) as place:
        place.start()
        with KernelMeter(place.pid) as meter_:
            place.submit("hour", [["sleep", str(_TASK_SECONDS)]] * tasks, max_runners=_SLOTS)
            time.sleep(seconds)
            place.wait(["hour"])
        total = _report(place)
    if meter_.lost:
        raise RuntimeError("the kernel's events came faster than they were read")
    if {len(meter_.runners), len(meter_.commands), total["runs"]} != {tasks}:
        counted = f"{len(meter_.runners)} runners, {len(meter_.commands)} commands, {total['runs']} runs"
        msg = f"{counted} for {tasks} tasks"
        raise RuntimeError(msg)
    note = f"{tasks} tasks, {_SLOTS} at a time"
    return [
        _line("runner-seconds", total["runner_seconds"], meter_.runners, note),
        _line("work", total["work_seconds"], meter_.commands, note),
    ]


def _line(what: str, reported: float, lives: Sequence[Life], note: str) -> Line:
    metered = sum(life.ended - life.begun for life in lives) / 1e9
    return Line(
        "cost-meter",
        f"{what}: report and kernel differ by, %",
        abs(reported / metered - 1) * 100,
        _TARGET,
        at_most=True,
        note=f"{reported:.3f} and {metered:.3f} s, {(reported - metered) / len(lives) * 1e3:+.2f} ms a run; {note}",
        detail={"reported": reported, "metered": metered},
    )


def _report(place: Place) -> dict[str, Any]:
    command = [sys.executable, "-m", "air_executor", "report", "--json"]
    done = subprocess.run(command, env=place.env, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)["total"]
    return found


ON_REQUEST = (Row("cost-meter", meter),)

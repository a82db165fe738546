"""Reading and writing a state, which a manager does all the time, next to `json.loads` of the same text."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from air_executor.core.submission import initial_state, parse_job
from air_executor.model import parsing
from air_executor.model.attempt import Attempt
from air_executor.model.job import Task
from air_executor.model.state import Done, JobState
from air_executor.model.times import to_text
from air_executor.store import codec
from benchmarks.table import Line, Row

_LOOPS = 50
_LINE = '{"command": "python shard.py", "id": "shard-1"}'


def _state(tasks: int) -> JobState:
    """Return a job whose tasks have all succeeded at once."""
    now = 1_769_860_800.123
    raw = [{"command": ["python", "count.py", f"part-{n}"], "timeout": 60, "retries": 2} for n in range(tasks)]
    state = initial_state(parse_job({"id": "census", "tasks": raw}), uid="5eed0123", now=now)
    for number, task in enumerate(state.tasks.values()):
        at = to_text(now + number)
        task.status = Done("succeeded", "ok", at, 0, None, {"package": "json", "modules": 5, "lines": 1000})
        task.runs = 1
        task.attempts.append(
            Attempt(number + 1, 0, at, 0.003, 0.15, 0.001, "ok", 0, cpu=0.12, waited=0.01, backend="local")
        )
    return state


def _best(measured: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least microseconds of CPU that each took, in turn, so that all had the machine's best moments."""
    best = dict.fromkeys(measured, float("inf"))
    for _ in range(rounds):
        for name, call in measured.items():
            begun = time.process_time_ns()
            for _ in range(_LOOPS):
                call()
            best[name] = min(best[name], (time.process_time_ns() - begun) / _LOOPS / 1000)
    return best


def state(*, quick: bool) -> Sequence[Line]:
    """Measure a state of 20 tasks, and one line that a task queues."""
    job = _state(20)
    text = codec.dump_job(job)
    best = _best(
        {
            "json.loads": lambda: json.loads(text),
            "load": lambda: codec.load_job(text, "state.json"),
            "dump": lambda: codec.dump_job(job),
            "line": lambda: parsing.read(Task, json.loads(_LINE)),
        },
        rounds=10 if quick else 60,
    )
    ratios = {name: value / best["json.loads"] for name, value in best.items()}
    notes = {name: f"{value:.3g} µs to {best['json.loads']:.0f} µs" for name, value in best.items()}
    return [
        Line(
            "state", "load 20 tasks ÷ json.loads", ratios["load"], 1.57, at_most=True, note=notes["load"], detail=best
        ),
        Line("state", "dump 20 tasks ÷ json.loads", ratios["dump"], 0.96, at_most=True, note=notes["dump"]),
        Line("state", "a queued line ÷ the same", ratios["line"], 0.06, at_most=True, note=notes["line"]),
    ]


ROWS = (Row("state", state),)

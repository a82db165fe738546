"""Jobs that have run already, made up: for what matters only in its size."""

from __future__ import annotations

import time

from air_executor.client import Client
from air_executor.core.submission import initial_state, parse_job
from air_executor.model.state import JobState
from air_executor.model.usage import Stages
from tests.records import make_attempt, make_done


def ended_job(name: str, tasks: int, *, uid: str = "0a1b2c3d", failed: int = 50) -> JobState:
    """Return a job of so many tasks, each of which ran for a second on one of 8 runners; every `failed`th failed."""
    each = [{"id": f"t{number}", "command": "true"} for number in range(1, tasks + 1)]
    spec = parse_job({"id": name, "tasks": each, "max_runners": 8})
    begun = round(time.time()) - 3600.0
    state = initial_state(spec, uid=uid, now=begun)
    for number, task in enumerate(state.tasks.values(), 1):
        if number > 1:
            task.queued_by = "t1"
        bad = number % failed == 0
        spawned = begun + number // 8 * 1.2
        reason, code = ("error", 3) if bad else ("ok", 0)
        task.attempts.append(make_attempt(number, number % 8, spawned, 0.05, 1.0, 0.05, reason, code))
        task.runs = 1
        task.status = make_done(
            "failed" if bad else "succeeded", reason, spawned + 1.1, code, result={"number": number}
        )
        state.usage.add(Stages(0.05, 1.0, 0.05), None)
    state.phase, state.reason = ("failed", "error") if tasks >= failed else ("succeeded", "ok")
    state.started_at, state.finished_at = begun, begun + tasks // 8 * 1.2 + 2
    state.seq = tasks
    return state


def put(client: Client, state: JobState) -> None:
    """Put a job into a state directory as if it had been submitted there."""
    client.jobs.prepare()
    client.jobs.create(state)

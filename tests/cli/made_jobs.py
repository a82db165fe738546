"""Jobs on the volume as a manager would have left them, for commands that show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from air_executor.client import Client
from air_executor.model.state import JobState, TaskState
from air_executor.model.usage import Usage
from tests.records import make_attempt, make_done, make_job, make_task

THEN = 1_700_000_000.0


def ended(
    task: str, *, queued_by: str | None = None, phase: str = "succeeded", message: str | None = None, seq: int = 1
) -> TaskState:
    """Return a task that has run once, for two of three seconds."""
    reason = {"succeeded": "ok"}.get(phase, "error")
    made = make_task(
        task, {"command": "true"}, queued_by=queued_by, status=make_done(phase, reason, THEN + 3, 0, message)
    )
    made.runs = 1
    made.attempts = [make_attempt(seq, 0, THEN, 0.5, 2.0, 0.5, reason, 0)]
    return made


def create(
    client: Client,
    name: str,
    *tasks: TaskState,
    phase: str = "succeeded",
    **spec: Any,  # noqa: ANN401 - any field
) -> JobState:
    """Put a job with these tasks on the volume."""
    fields = {"max_runners": 1, "on_failure": "stop", "pool": "default", **spec}
    state = make_job(name, "0badcafe", fields, submitted_at=THEN, phase=phase)
    state.started_at, state.seq = THEN, len(tasks)
    if phase in ("succeeded", "failed"):
        state.finished_at, state.reason = THEN + 3, "ok" if phase == "succeeded" else "error"
    state.tasks = {task.id: task for task in tasks}
    runs = sum(task.runs for task in tasks)
    state.usage = Usage(runs, 0.5 * runs, 2.0 * runs, 0.5 * runs)
    client.jobs.prepare()
    client.jobs.create(state)
    return state


def write_log(client: Client, job: str, task: str, seq: int, data: bytes) -> Path:
    """Give a run its log."""
    path = Path(client.layout.run(job, seq, task)) / "output.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path

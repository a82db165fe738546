"""Makes the state of a task that is queued now: at the submission of its job, by a request, or by another task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from air_executor.model.job import TASK_FIELDS, Task
from air_executor.model.state import TaskState


def new_task(task: Task, *, queued_by: str | None, at: float) -> TaskState:
    """Return the state of a task that is queued now; it has its id. `at` in Unix seconds."""
    waits = at + task.delay if task.delay is not None else task.not_before
    own: Mapping[str, Any] = {name: getattr(task, name) for name in TASK_FIELDS}
    return TaskState(
        id=task.id or "",
        phase="queued",
        reason=None,
        exit_code=None,
        runs=0,
        queued_by=queued_by,
        waits_until=waits,
        **own,
    )

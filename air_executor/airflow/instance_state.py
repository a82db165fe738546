"""The state of a task instance in Airflow's database: asked before its job is cancelled, and before a worker defers.

Called by operators and triggers. Knows nothing of jobs.
"""

from __future__ import annotations

from typing import Any

NEEDS_JOB = frozenset({"deferred", "running", "up_for_reschedule", "up_for_retry"})
"""States in which a task instance waits for its job, or in which its next try decides what becomes of the job."""
ENDED_BY_PERSON = frozenset({"failed", "removed", "restarting", "skipped", "success"})
"""States that a running task instance gets only by a mark or a clear."""


def state_of(ti: Any) -> str | None:
    """Return the state of a task instance; None if it was cleared or deleted.

    Blocks: triggers call it in a thread. Raises whatever Airflow raises when it cannot answer.
    """
    if hasattr(ti, "current_state"):  # Airflow 2
        state: str | None = ti.current_state()
        return state
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415 - absent in Airflow 2

    answer = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, map_index=ti.map_index, task_ids=[ti.task_id], run_ids=[ti.run_id]
    )
    return next((state for states in answer.values() for state in states.values()), None)

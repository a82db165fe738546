"""Follow a job in the event loop of a triggerer, and cancel it only if its task does not need it any more.

Called by `triggers`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from airflow.triggers.base import BaseTrigger

from air_executor.airflow.attach import abandon
from air_executor.airflow.instance_state import NEEDS_JOB, state_of
from air_executor.airflow.job_follower import JobFollower, status_of
from air_executor.airflow.log_drain import FALLBACK_WAIT, drain, wait_for_room
from air_executor.airflow.notes import JobRef
from air_executor.client import Client
from air_executor.model.state import JobState


async def follow(
    trigger: BaseTrigger, client: Client, job: JobRef, poll_interval: float, *, resumes: bool = False
) -> JobState:
    """Show the output of a job in the task's log until it has ended, and return its state; cancel it at the timeout.

    With `resumes` a worker reads the job's log afterwards, and must not show again what Airflow has yet to write.
    """
    follower = JobFollower(client, job, lambda line: trigger.log.info("%s", line), poll_interval)
    timeout_at: datetime | None = getattr(trigger, "timeout_after", None)
    try:
        while not isinstance(step := await asyncio.to_thread(follower.step), JobState):
            if _is_past(timeout_at):
                trigger.log.error("The task has reached its execution_timeout: cancelling the job")
                await asyncio.to_thread(abandon, client, job)
                timeout_at = None
            await (asyncio.sleep(step) if step else wait_for_room())
    except asyncio.CancelledError:
        follower.stop()
        if _is_past(timeout_at):  # Airflow was faster; any other end of a trigger leaves the job running
            abandon(client, job)
        await asyncio.sleep(FALLBACK_WAIT)  # a step in another thread may still show a line
        await drain(5.0)  # Airflow kills a triggerer that takes long to stop
        follower.all_written()
        raise
    if resumes:
        await drain()
        await asyncio.to_thread(follower.all_written)
    return step


async def needs_job(trigger: BaseTrigger) -> bool:
    """Tell whether the task instance still needs its job although Airflow called the trigger's `on_kill`.

    A triggerer that pauses for longer than `[triggerer] triggerer_health_check_threshold` loses its triggers to another
    one. When it resumes it calls their `on_kill`, as if a person had acted on each task (Airflow 3.3.2,
    `TriggerRunnerSupervisor.update_triggers`). Where Airflow cannot tell the state the job is not cancelled either.
    """
    try:
        state = await asyncio.to_thread(state_of, trigger.task_instance)
    except Exception as error:  # noqa: BLE001 - Airflow's client raises many kinds, and none may cancel a job
        trigger.log.warning("The job is not cancelled: Airflow cannot tell the state of this task: %s", error)
        return True
    if state in NEEDS_JOB:
        trigger.log.info("This triggerer stops following the job, which is not cancelled: its task is %s", state)
    return state in NEEDS_JOB


def cancel_job(client: Client, job: JobRef) -> None:
    """Cancel a job unless it has ended; no try attaches to it any more.

    Raises:
        NotFoundError: it was removed.
        StoreError: the volume refused.
    """
    if not status_of(client, job).ended:
        abandon(client, job)


def _is_past(moment: datetime | None) -> bool:
    if moment is None:
        return False
    return datetime.now(UTC) >= (moment if moment.tzinfo else moment.replace(tzinfo=UTC))

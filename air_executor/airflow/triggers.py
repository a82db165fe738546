"""What waits in Airflow's triggerer: for a job that a worker submitted, for one of its own, or for somebody else's.

A triggerer restarts and is replaced at any time, so everything that must outlive it is on the volume: the job itself,
what was shown of its logs, and to which try its end was delivered. Only `on_kill`, which Airflow calls when a person
acts on the task, cancels a job; the end of a triggerer never does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import XCom
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from air_executor.airflow.attach import AttachedJob, JobAttacher, TaskTry, abandon
from air_executor.airflow.hooks import AirExecutorHook
from air_executor.airflow.instance_state import NEEDS_JOB, state_of
from air_executor.airflow.job_follower import OUTCOME_KEY, JobFollower, announce, bill_of, find, outcome, what_failed
from air_executor.airflow.job_source import JobSource
from air_executor.airflow.job_target import JobTarget
from air_executor.airflow.labels import TaskInstanceLabels
from air_executor.airflow.links import LINK_KEY
from air_executor.airflow.log_drain import BLIND, all_read, room
from air_executor.airflow.notes import JobRef
from air_executor.client import Client
from air_executor.errors import AirExecutorError, NotFoundError
from air_executor.model.state import SUCCEEDED, JobState

SETTLE = 5.0
"""Seconds that a trigger waits at least before it resumes a task. Airflow's scheduler fails a resumed task as lost if
it learns only then that the worker which deferred it has left (apache/airflow#66374, #71580; seen with 3.3.2)."""


class AirExecutorTrigger(BaseTrigger):
    """Show the output of a job until it has ended; fires once, with `job` and `uid`, or with `error`.

    Args:
        job: the job's id.
        uid: its uid, so that no other job of the same name is meant.
        state_dir: where it is.
        poll_interval: seconds between two looks, at most.
        cancel_on_kill: cancel the job when somebody clears or marks the task.
    """

    def __init__(
        self, *, job: str, uid: str, state_dir: str, poll_interval: float = 1.0, cancel_on_kill: bool = True
    ) -> None:
        super().__init__()
        self.job = job
        self.uid = uid
        self.state_dir = state_dir
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to make this again."""
        names = ("job", "uid", "state_dir", "poll_interval", "cancel_on_kill")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end of the job."""
        client = Client(self.state_dir)
        settled = asyncio.create_task(asyncio.sleep(SETTLE))
        event = {"job": self.job, "uid": self.uid}
        try:
            await see_through(self, client, JobRef(self.job, self.uid), self.poll_interval, goes_on=True)
        except AirExecutorError as error:
            event["error"] = str(error)
        await settled
        yield TriggerEvent(event)

    async def on_kill(self) -> None:
        """Cancel the job if a person cleared or marked the task."""
        if self.cancel_on_kill and not await needs_job(self):
            await asyncio.to_thread(_abandon, Client(self.state_dir), JobRef(self.job, self.uid))


class AirExecutorStartTrigger(BaseTrigger):
    """Submit a task instance's job and see it through, so that no worker ever runs for it.

    Made by Airflow itself from an operator with `start_from_trigger`, whose parameters these are.
    """

    def __init__(
        self,
        *,
        job: Mapping[str, Any] | None = None,
        job_file: str | None = None,
        command: str | list[str] | None = None,
        task_options: Mapping[str, Any] | None = None,
        air_executor_conn_id: str | None = None,
        state_dir: str | None = None,
        job_queue: str | None = None,
        poll_interval: float = 1.0,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()
        self.job = job
        self.job_file = job_file
        self.command = command
        self.task_options = task_options
        self.air_executor_conn_id = air_executor_conn_id
        self.state_dir = state_dir
        self.job_queue = job_queue
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self._taking: asyncio.Task[tuple[JobTarget, JobAttacher, AttachedJob]] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to make this again."""
        names = (
            *JobSource._fields,
            "air_executor_conn_id",
            "state_dir",
            "job_queue",
            "poll_interval",
            "cancel_on_kill",
        )
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Get the job of this try, wait for its end, and end the task."""
        given = JobSource(self.job, self.job_file, self.command, self.task_options)
        try:
            self._taking = asyncio.create_task(self._take(given))
            place, desk, taken = await asyncio.shield(self._taking)
            page = place.page_of(taken.state.id)
            await asyncio.to_thread(announce, self.log, taken, place)
            await self._push(LINK_KEY, page)
            state = await see_through(self, desk.client, taken.ref, self.poll_interval)
            self.log.info("%s", bill_of(state))
            if state.phase != SUCCEEDED:
                self.log.error("%s", what_failed(state))
            elif getattr(self.task, "do_xcom_push", True):
                await self._push("return_value", given.result(state))
            await self._push(OUTCOME_KEY, outcome(state, page))
            await asyncio.to_thread(desk.deliver, state)
        except AirExecutorError as error:
            self.log.error("%s", error)  # noqa: TRY400 - what the user did wrong, not where we noticed
            await all_read()
            yield TaskFailedEvent()
            return
        await all_read()
        yield TaskSuccessEvent() if state.phase == SUCCEEDED else TaskFailedEvent()

    async def on_kill(self) -> None:
        """Cancel the job if a person cleared or marked the task."""
        if self._taking is None:
            return
        if self.cancel_on_kill and not await needs_job(self):
            _, desk, taken = await self._taking  # even if we were cancelled, it may just be submitting
            await asyncio.to_thread(_abandon, desk.client, taken.ref)
        else:
            self._taking.cancel()  # without effect on a job that was submitted

    async def _take(self, given: JobSource) -> tuple[JobTarget, JobAttacher, AttachedJob]:
        ti: Any = self.task_instance
        hook = AirExecutorHook(self.air_executor_conn_id, self.state_dir)
        place = await sync_to_async(lambda: hook.place)()
        instance = TaskInstanceLabels(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        now = TaskTry(ti.try_number, None, str(ti.id))
        desk = JobAttacher(place.client(), instance, now, cancel_on_kill=self.cancel_on_kill)
        job = await asyncio.to_thread(given.read, f"task {ti.task_id}", self.job_queue or place.queue)
        while (taken := await asyncio.to_thread(desk.take, job)) is None:  # noqa: ASYNC110 - a volume signals nothing
            await asyncio.sleep(self.poll_interval)
        return place, desk, taken

    async def _push(self, key: str, value: object) -> None:
        """Keep a value for other tasks and for people. What goes with the event arrives encoded twice."""
        if value is not None:
            ti: Any = self.task_instance
            where = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
            await XCom.aset(key=key, value=value, **where)


class AirExecutorJobTrigger(BaseTrigger):
    """Wait for the end of a job that somebody else submits, before or after this; fires once."""

    def __init__(self, *, job: str, state_dir: str, poll_interval: float = 5.0) -> None:
        super().__init__()
        self.job = job
        self.state_dir = state_dir
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to make this again."""
        names = ("job", "state_dir", "poll_interval")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until there is such a job and it has ended."""
        client = Client(self.state_dir)
        settled = asyncio.create_task(asyncio.sleep(SETTLE))
        event = {"job": self.job}
        try:
            while not await asyncio.to_thread(_has_ended, client, self.job):  # noqa: ASYNC110 - a volume signals nothing
                await asyncio.sleep(self.poll_interval)
        except AirExecutorError as error:
            event["error"] = str(error)
        await settled
        yield TriggerEvent(event)


async def see_through(
    trigger: BaseTrigger, client: Client, job: JobRef, poll_interval: float, *, goes_on: bool = False
) -> JobState:
    """Show what a job prints in the task's log until it has ended, and return it; at the task's timeout cancel it.

    With `goes_on` a worker looks at the log afterwards, and must not show again what Airflow has yet to write.
    """
    follower = JobFollower(client, job, lambda line: trigger.log.info("%s", line), poll_interval)
    until: datetime | None = getattr(trigger, "timeout_after", None)
    try:
        while not isinstance(step := await asyncio.to_thread(follower.step), JobState):
            if _is_over(until):
                trigger.log.error("The task's execution_timeout is over: the job is cancelled")
                await asyncio.to_thread(abandon, client, job)
                until = None
            await (asyncio.sleep(step) if step else room())
    except asyncio.CancelledError:
        follower.stop()
        if _is_over(until):  # Airflow was faster; everything else that ends a trigger leaves the job alone
            abandon(client, job)
        await asyncio.sleep(BLIND)  # a step in another thread may still show a line
        await all_read(5.0)  # Airflow kills a triggerer that takes its time
        follower.settle()
        raise
    if goes_on:
        await all_read()
        await asyncio.to_thread(follower.settle)
    return step


async def needs_job(trigger: BaseTrigger) -> bool:
    """Tell whether Airflow called `on_kill` although the task instance still needs its job.

    A triggerer that pauses for longer than `[triggerer] triggerer_health_check_threshold` loses its triggers to another
    one. When it goes on it calls their `on_kill`, as if a person had acted on each task (Airflow 3.3.2,
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


def _has_ended(client: Client, job: str) -> bool:
    try:
        return client.status(job).ended
    except NotFoundError:
        return False


def _abandon(client: Client, job: JobRef) -> None:
    if not find(client, job).ended:
        abandon(client, job)


def _is_over(until: datetime | None) -> bool:
    if until is None:
        return False
    return datetime.now(UTC) >= (until if until.tzinfo else until.replace(tzinfo=UTC))

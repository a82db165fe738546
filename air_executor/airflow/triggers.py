"""Triggers: wait for a job that a worker has submitted, submit one without a worker, or wait for a job of others.

A triggerer is restarted and replaced at any time. So everything that must outlive it is on the volume: the job itself,
how much of its log was shown, and to which try its end was delivered. A job is cancelled only when a person acts on its
task, or at its timeout; the end of a triggerer cancels nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import jinja2
from airflow.providers.common.compat.sdk import XCom
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from air_executor.airflow.attach import AttachedJob, JobAttacher, TaskTry
from air_executor.airflow.deferred_job import cancel_job, follow, needs_job
from air_executor.airflow.hooks import AirExecutorHook
from air_executor.airflow.job_follower import OUTCOME_KEY, failure_of, log_start, outcome_of, summary_of
from air_executor.airflow.job_source import JobSource
from air_executor.airflow.job_target import JobTarget
from air_executor.airflow.labels import TaskInstanceLabels
from air_executor.airflow.links import LINK_KEY
from air_executor.airflow.log_drain import drain
from air_executor.airflow.notes import JobRef
from air_executor.airflow.workerless import renders_native, template_environment
from air_executor.client import Client
from air_executor.errors import AirExecutorError, NotFoundError
from air_executor.model.state import SUCCEEDED

MIN_DEFERRED_SECONDS = 5.0
"""Shortest time between the start of a trigger and its event. Airflow's scheduler fails a resumed task if it learns
only then that the worker that deferred it has exited (apache/airflow#66374, #71580; seen with 3.3.2)."""


class AirExecutorTrigger(BaseTrigger):
    """Show the output of a job until it has ended; fires once, with `job` and `uid`, and `error` if there was one.

    Args:
        job: the job's id.
        uid: the job's uid, so that no later job with the same id is meant.
        state_dir: the state directory.
        poll_interval: longest time in seconds between two checks.
        cancel_on_kill: cancel the job when a person clears or marks the task.
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
        """Return the classpath and the arguments of this trigger."""
        return _serialized(self, "job", "uid", "state_dir", "poll_interval", "cancel_on_kill")

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end of the job."""
        client = Client(self.state_dir)
        earliest = asyncio.create_task(asyncio.sleep(MIN_DEFERRED_SECONDS))
        event = {"job": self.job, "uid": self.uid}
        try:
            await follow(self, client, JobRef(self.job, self.uid), self.poll_interval, resumes=True)
        except AirExecutorError as error:
            event["error"] = str(error)
        await earliest
        yield TriggerEvent(event)

    async def on_kill(self) -> None:
        """Cancel the job if a person cleared or marked the task."""
        if self.cancel_on_kill and not await needs_job(self):
            await asyncio.to_thread(cancel_job, Client(self.state_dir), JobRef(self.job, self.uid))


class AirExecutorStartTrigger(BaseTrigger):
    """Submit the job of a task instance and follow it, so that no worker ever runs for it.

    Airflow makes it from an operator with `start_from_trigger`, and the arguments are the operator's. `job_queue` is
    the old name of `job_pool`, for triggers that an older version has stored in Airflow's database.
    """

    def __init__(
        self,
        *,
        job: Mapping[str, Any] | None = None,
        job_file: str | None = None,
        command: str | list[str] | None = None,
        task_options: Mapping[str, Any] | None = None,
        job_params: Mapping[str, Any] | None = None,
        air_executor_conn_id: str | None = None,
        state_dir: str | None = None,
        job_pool: str | None = None,
        job_queue: str | None = None,
        poll_interval: float = 1.0,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()
        self.job = job
        self.job_file = job_file
        self.command = command
        self.task_options = task_options
        self.job_params = job_params
        self.air_executor_conn_id = air_executor_conn_id
        self.state_dir = state_dir
        self.job_pool = job_pool or job_queue
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self._template_context: Mapping[str, Any] = {}
        self.template_error: Exception | None = None
        self._attaching: asyncio.Task[tuple[JobTarget, JobAttacher, AttachedJob]] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the classpath and the arguments of this trigger."""
        own = ("air_executor_conn_id", "state_dir", "job_pool", "poll_interval", "cancel_on_kill")
        return _serialized(self, *JobSource._fields, *own)

    def get_template_env(self, dag: Any = None) -> jinja2.Environment:
        """Return the environment that a worker would render the task's templates with."""
        return template_environment(super().get_template_env(dag), native=renders_native(self.task))

    def render_template_fields(self, context: Mapping[str, Any], jinja_env: jinja2.Environment | None = None) -> None:
        """Render the templates; `run` fails the task if that was not possible.

        Had the error left this method, Airflow would need a worker to fail the task.
        """
        self._template_context = context
        self.render_template_as_native_obj = renders_native(self.task)
        try:
            super().render_template_fields(context, jinja_env)
        except Exception as error:  # noqa: BLE001 - an expression can raise anything
            self.template_error = error

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Get the job of this try, wait for its end, and end the task."""
        succeeded = False
        try:
            if self.template_error is not None:
                self.log.error("Cannot render a template: %s", self.template_error)
            else:
                succeeded = await self._run_job()
        except AirExecutorError as error:
            self.log.error("%s", error)  # noqa: TRY400 - the user's mistake; a traceback would not help
        await drain()
        yield TaskSuccessEvent() if succeeded else TaskFailedEvent()

    async def _run_job(self) -> bool:
        """Attach to the job and follow it to its end; return whether it has succeeded."""
        source = JobSource(self.job, self.job_file, self.command, self.task_options, self.job_params)
        self._attaching = asyncio.create_task(self._attach(source))
        target, attacher, attached = await asyncio.shield(self._attaching)
        page = target.page_of(attached.state.id)
        await asyncio.to_thread(log_start, self.log, attached, target)
        await self._push(LINK_KEY, page)
        state = await follow(self, attacher.client, attached.ref, self.poll_interval)
        self.log.info("%s", summary_of(state))
        if state.phase != SUCCEEDED:
            self.log.error("%s", failure_of(state))
        elif getattr(self.task, "do_xcom_push", True):
            await self._push("return_value", source.result_of(state))
        await self._push(OUTCOME_KEY, outcome_of(state, page))
        await asyncio.to_thread(attacher.set_delivered, state)
        return state.phase == SUCCEEDED

    async def on_kill(self) -> None:
        """Cancel the job if a person cleared or marked the task."""
        if self._attaching is None:
            return
        if self.cancel_on_kill and not await needs_job(self):
            _, attacher, attached = await self._attaching  # `run` was cancelled, but this may still be submitting
            await asyncio.to_thread(cancel_job, attacher.client, attached.ref)
        else:
            self._attaching.cancel()  # no effect if the job was submitted

    async def _attach(self, source: JobSource) -> tuple[JobTarget, JobAttacher, AttachedJob]:
        ti: Any = self.task_instance
        hook = AirExecutorHook(self.air_executor_conn_id, self.state_dir)
        target = await sync_to_async(lambda: hook.target)()
        attacher = JobAttacher(
            client=target.client(),
            instance=TaskInstanceLabels(ti.dag_id, ti.run_id, ti.task_id, ti.map_index),
            this_try=TaskTry(ti.try_number, None, str(ti.id)),
            cancel_on_kill=self.cancel_on_kill,
        )
        pool = self.job_pool or target.pool
        job = await asyncio.to_thread(source.read, f"task {ti.task_id}", pool, self._render_file)
        while (attached := await asyncio.to_thread(attacher.attach, job)) is None:  # noqa: ASYNC110 - files send no event
            await asyncio.sleep(self.poll_interval)
        return target, attacher, attached

    def _render_file(self, template: str) -> Any:
        return self.render_template(template, self._template_context)

    async def _push(self, key: str, value: object) -> None:
        """Push an XCom. The XComs of a `TaskSuccessEvent` arrive encoded twice (Airflow 3.3.2)."""
        if value is not None:
            ti: Any = self.task_instance
            where = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
            await XCom.aset(key=key, value=value, **where)


class AirExecutorJobTrigger(BaseTrigger):
    """Wait for the end of a job that others submit, before or after this; fires once."""

    def __init__(self, *, job: str, state_dir: str, poll_interval: float = 5.0) -> None:
        super().__init__()
        self.job = job
        self.state_dir = state_dir
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the classpath and the arguments of this trigger."""
        return _serialized(self, "job", "state_dir", "poll_interval")

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the job exists and has ended."""
        client = Client(self.state_dir)
        earliest = asyncio.create_task(asyncio.sleep(MIN_DEFERRED_SECONDS))
        event = {"job": self.job}
        try:
            while not await asyncio.to_thread(_has_ended, client, self.job):  # noqa: ASYNC110 - files send no event
                await asyncio.sleep(self.poll_interval)
        except AirExecutorError as error:
            event["error"] = str(error)
        await earliest
        yield TriggerEvent(event)


def _serialized(trigger: BaseTrigger, *names: str) -> tuple[str, dict[str, Any]]:
    return f"{__name__}.{type(trigger).__name__}", {name: getattr(trigger, name) for name in names}


def _has_ended(client: Client, job: str) -> bool:
    try:
        return client.status(job).ended
    except NotFoundError:
        return False

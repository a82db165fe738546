"""`AirExecutorOperator`: an Airflow task that is an Air-Executor job.

It submits the job to a state directory that a manager looks after, shows its output and hands over its results. Needs
Airflow and the state directory's volume; knows nothing of backends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator, XComArg
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from airflow.triggers.base import StartTriggerArgs

from air_executor.airflow.attach import AttachedJob, JobAttacher, TaskTry
from air_executor.airflow.hooks import AirExecutorHook
from air_executor.airflow.job_follower import OUTCOME_KEY, JobFollower, announce, bill_of, find, outcome, what_failed
from air_executor.airflow.job_source import JobSource
from air_executor.airflow.job_target import JobTarget
from air_executor.airflow.labels import TaskInstanceLabels
from air_executor.airflow.links import LINK_KEY, AirExecutorJobLink
from air_executor.airflow.notes import JobRef
from air_executor.airflow.triggers import AirExecutorStartTrigger, AirExecutorTrigger
from air_executor.client import Client
from air_executor.errors import AirExecutorError, BadInputError
from air_executor.model.state import SUCCEEDED, JobState
from air_executor.store.files import random_hex


class AirExecutorOperator(BaseOperator):
    """Run a job, given as a mapping, as a job file, or as a single command; return its result.

    Of a single command that is what it wrote to `$AIR_RESULT`, of a job the results of all its tasks by id. What became
    of each task is in the XCom `outcome` and in the rendered template of that name. A retry is a new job, unless the
    last one is still at work or has succeeded unseen: that is attached to. Two jobs of one task instance never run at
    the same time.

    Args:
        job: fields of a job file. An `id` in it is not used: each task instance has its own.
        job_file: path of a job file, as the worker sees it (with `start_from_trigger`, the triggerer).
        command: a single command; a string goes to `sh -c`, a list is executed as it is.
        task_options: other fields of the task that `command` is, such as `image` and `resources`.
        air_executor_conn_id: the connection that names the state directory; without one, this host's own settings.
        state_dir: the state directory, before the connection's.
        job_queue: the job's queue, if it names none itself.
        deferrable: wait in the triggerer, not on a worker.
        start_from_trigger: submit and wait in the triggerer, so that no worker ever runs (Airflow 3.3; with an older
            one, and for mapped tasks, `deferrable` decides).
        durable: attach to what a lost worker left at work; otherwise that is cancelled, and a new job submitted.
        cancel_on_kill: cancel the job when the task is cleared, marked, killed or runs out of time.
        defer_after: seconds that the worker waits itself before it defers; most short jobs have ended by then.
        poll_interval: seconds between two looks at the job, at most.
    """

    template_fields: ClassVar[Sequence[str]] = (
        "job",
        "job_file",
        "command",
        "task_options",
        "air_executor_conn_id",
        "state_dir",
        "job_queue",
        "outcome",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"job": "json", "task_options": "json", "outcome": "json"}
    operator_extra_links = (AirExecutorJobLink(),)
    overwrite_rtif_after_execution = True
    ui_color = "#d7ecf7"

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
        deferrable: bool = True,
        start_from_trigger: bool = False,
        durable: bool = True,
        cancel_on_kill: bool = True,
        defer_after: float = 5.0,
        poll_interval: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.job_file = job_file
        self.command = command
        self.task_options = task_options
        self.air_executor_conn_id = air_executor_conn_id
        self.state_dir = state_dir
        self.job_queue = job_queue
        self.deferrable = deferrable
        self.durable = durable
        self.cancel_on_kill = cancel_on_kill
        self.defer_after = defer_after
        self.poll_interval = poll_interval
        self.outcome: dict[str, Any] | None = None
        self.page: str | None = None
        self._desk: JobAttacher | None = None
        self._killed = False
        if start_from_trigger and AIRFLOW_V_3_3_PLUS:
            self._start_from_trigger()

    def _start_from_trigger(self) -> None:
        if any(_needs_worker(getattr(self, name)) for name in self.template_fields):
            message = (
                f"{self.task_id}: with start_from_trigger another task's result can only be had as a template with "
                "map_indexes, {{ ti.xcom_pull('task', map_indexes=-1) }}: the triggerer answers nothing else, and hangs"
            )
            raise ValueError(message)
        own = AirExecutorStartTrigger(
            **self._given()._asdict(),
            air_executor_conn_id=self.air_executor_conn_id,
            state_dir=self.state_dir,
            job_queue=self.job_queue,
            poll_interval=self.poll_interval,
            cancel_on_kill=self.cancel_on_kill,
        )
        path, kwargs = own.serialize()
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=path, trigger_kwargs=kwargs, next_method="execute_complete", next_kwargs=None, timeout=None
        )
        self.start_from_trigger = True

    def _given(self) -> JobSource:
        return JobSource(self.job, self.job_file, self.command, self.task_options)

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Get the job of this try and see it through, here or in the triggerer."""
        try:
            place = AirExecutorHook(self.air_executor_conn_id, self.state_dir).place
            desk = self._desk = self._desk_of(context, place)
            taken = self._take(desk, place)
            announce(self.log, taken, place)
            self.page = place.page_of(taken.state.id)
            if self.page:
                context["ti"].xcom_push(key=LINK_KEY, value=self.page)
            state = self._follow(desk.client, taken.ref, self.defer_after if self.deferrable else math.inf)
        except BadInputError as error:
            raise AirflowFailException(str(error)) from None
        except AirExecutorError as error:
            raise AirflowException(str(error)) from None
        if state is not None:
            return self._finish(context, desk, state)
        trigger = AirExecutorTrigger(
            job=taken.ref.id,
            uid=taken.ref.uid,
            state_dir=place.state_dir,
            poll_interval=self.poll_interval,
            cancel_on_kill=self.cancel_on_kill,
        )
        return self.defer(
            trigger=trigger, method_name="execute_complete", timeout=time_left(self.execution_timeout, context)
        )

    def execute_complete(self, context: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
        """Hand over what became of the job, once the trigger has seen its end."""
        if "error" in event:
            raise AirflowException(str(event["error"]))
        try:
            place = AirExecutorHook(self.air_executor_conn_id, self.state_dir).place
            desk = self._desk_of(context, place)
            self.page = place.page_of(event["job"])
            job = JobRef(event["job"], event["uid"])
            self._follow(desk.client, job, math.inf)  # the lines since the trigger looked last
            state = find(desk.client, job)
        except AirExecutorError as error:
            raise AirflowException(str(error)) from None
        return self._finish(context, desk, state)

    def on_kill(self) -> None:
        """Cancel the job: the task was cleared, marked or killed, or ran out of time."""
        self._killed = True
        if self._desk is not None and self.cancel_on_kill:
            self.log.info("Cancelling the job")
            self._desk.abandon_mine()

    def _desk_of(self, context: Mapping[str, Any], place: JobTarget) -> JobAttacher:
        ti = context["ti"]
        # Airflow 2 has no name for a try, and `airflow dags test` there not even its start: then no two are the same.
        uuid = getattr(ti, "id", None) or ti.start_date or random_hex(8)
        return JobAttacher(
            client=place.client(),
            instance=TaskInstanceLabels(ti.dag_id, ti.run_id, ti.task_id, ti.map_index),
            now=TaskTry(ti.try_number, ti.max_tries, str(uuid)),
            durable=self.durable,
            cancel_on_kill=self.cancel_on_kill,
        )

    def _take(self, desk: JobAttacher, place: JobTarget) -> AttachedJob:
        job = self._given().read(f"task {self.task_id}", self.job_queue or place.queue)
        said = False
        while (taken := desk.take(job)) is None:
            if not said:
                self.log.info("Waiting for the job of an earlier try to end")
                said = True
            time.sleep(self.poll_interval)
        if self._killed and self.cancel_on_kill:  # just while the job was submitted
            desk.abandon_mine()
        return taken

    def _follow(self, client: Client, job: JobRef, seconds: float) -> JobState | None:
        """Show what a job prints until it has ended, and return it, or None if it has not by then."""
        follower = JobFollower(client, job, lambda line: self.log.info("%s", line), self.poll_interval)
        until = time.monotonic() + seconds
        while not isinstance(step := follower.step(), JobState) and time.monotonic() < until:
            time.sleep(step)
        follower.settle()
        return step if isinstance(step, JobState) else None

    def _finish(self, context: Mapping[str, Any], desk: JobAttacher, state: JobState) -> Any:
        self.log.info("%s", bill_of(state))
        self.outcome = outcome(state, self.page)
        context["ti"].xcom_push(key=OUTCOME_KEY, value=self.outcome)
        try:
            desk.deliver(state)
        except AirExecutorError as error:
            raise AirflowException(str(error)) from None
        if state.phase != SUCCEEDED:
            raise AirflowException(what_failed(state))
        return self._given().result(state)


def time_left(limit: timedelta | None, context: Mapping[str, Any]) -> timedelta | None:
    """Return what is left of an `execution_timeout`: Airflow itself applies it to workers only."""
    if limit is None:
        return None
    began: datetime = context["ti"].start_date
    return max(timedelta(seconds=1), limit - (datetime.now(UTC) - began))


def _needs_worker(value: Any) -> bool:
    """Tell whether a template asks for what the triggerer of Airflow 3.3.2 cannot give."""
    if isinstance(value, str):
        return any("map_indexes" not in part for part in value.split("xcom_pull")[1:])
    if isinstance(value, Mapping):
        return any(_needs_worker(part) for part in value.values())
    return isinstance(value, XComArg) or (isinstance(value, list | tuple) and any(map(_needs_worker, value)))

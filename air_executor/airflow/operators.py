"""`AirExecutorOperator`: an Airflow task that is an Air-Executor job.

It submits the job to a state directory, shows its output, and returns its results; a manager runs it there. Needs
Airflow and the volume of the state directory; knows nothing of backends.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from airflow.exceptions import AirflowProviderDeprecationWarning
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from airflow.triggers.base import StartTriggerArgs

from air_executor.airflow.attach import AttachedJob, JobAttacher, TaskTry
from air_executor.airflow.hooks import AirExecutorHook
from air_executor.airflow.instance_state import ENDED_BY_PERSON, state_of
from air_executor.airflow.job_follower import (
    OUTCOME_KEY,
    JobFollower,
    failure_of,
    log_start,
    outcome_of,
    status_of,
    summary_of,
)
from air_executor.airflow.job_source import JobSource
from air_executor.airflow.job_target import JobTarget
from air_executor.airflow.labels import TaskInstanceLabels
from air_executor.airflow.links import LINK_KEY, AirExecutorJobLink
from air_executor.airflow.notes import JobRef
from air_executor.airflow.triggers import AirExecutorStartTrigger, AirExecutorTrigger
from air_executor.airflow.workerless import check_operator, check_outlets
from air_executor.client import Client
from air_executor.errors import AirExecutorError, BadInputError
from air_executor.model.state import SUCCEEDED, JobState
from air_executor.store.files import random_hex


class AirExecutorOperator(BaseOperator):
    """Run a job, given as a mapping, as a job file, or as a single command; return its result.

    The result of a single command is what it wrote to `$AIR_RESULT`, that of a job the results of all its tasks by id.
    The XCom `outcome`, also a rendered template, says how each task ended. A retry submits a new job, unless the last
    one is still running or has succeeded without Airflow's knowledge: then it attaches to that. Two jobs of one task
    instance never run at the same time.

    Args:
        job: fields of a job file. An `id` or `name` is not used: each task instance has its own id.
        job_file: path of a job file on the worker (with `start_from_trigger`, on the triggerer). If it ends with `.j2`
            its content is a template. An `id` or `name` is not used, and not needed.
        command: a single command; a string goes to `sh -c`, a list is executed as it is.
        task_options: other fields of the task that runs `command`, such as `image` and `resources`.
        job_params: values of the parameters that `job` or `job_file` declares. (`params` is Airflow's own.)
        air_executor_conn_id: the connection that names the state directory; without one, this host's own settings.
        state_dir: the state directory, before the connection's.
        job_pool: the job's pool, if the job names none.
        job_queue: deprecated name of `job_pool`.
        deferrable: wait in the triggerer, not on a worker.
        start_from_trigger: submit and wait in the triggerer, so that no worker ever runs (Airflow 3.3; with an older
            one, and for mapped tasks, `deferrable` decides).
        durable: attach to a job that a lost worker left running; otherwise cancel it and submit the next.
        cancel_on_kill: cancel the job when the task is cleared, marked or killed, or reaches its timeout.
        defer_after: seconds for which the worker waits before it defers; most short jobs end within that time.
        poll_interval: longest time in seconds between two checks of the job.
    """

    template_fields: ClassVar[Sequence[str]] = (
        "job",
        "job_file",
        "command",
        "task_options",
        "job_params",
        "air_executor_conn_id",
        "state_dir",
        "job_pool",
        "outcome",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "job": "json",
        "task_options": "json",
        "job_params": "json",
        "outcome": "json",
    }
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
        job_params: Mapping[str, Any] | None = None,
        air_executor_conn_id: str | None = None,
        state_dir: str | None = None,
        job_pool: str | None = None,
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
        if job_queue is not None:
            message = f"{self.task_id}: job_queue is deprecated: use job_pool"
            warnings.warn(message, AirflowProviderDeprecationWarning, stacklevel=2)
        self.job = job
        self.job_file = job_file
        self.command = command
        self.task_options = task_options
        self.job_params = job_params
        self.air_executor_conn_id = air_executor_conn_id
        self.state_dir = state_dir
        self.job_pool = job_pool or job_queue
        self.deferrable = deferrable
        self.durable = durable
        self.cancel_on_kill = cancel_on_kill
        self.defer_after = defer_after
        self.poll_interval = poll_interval
        self.outcome: dict[str, Any] | None = None
        self.page: str | None = None
        self._attacher: JobAttacher | None = None
        self._killed = False
        if start_from_trigger and AIRFLOW_V_3_3_PLUS:
            self._start_from_trigger()

    def _start_from_trigger(self) -> None:
        check_operator(self)
        trigger = AirExecutorStartTrigger(
            **self._source()._asdict(),
            air_executor_conn_id=self.air_executor_conn_id,
            state_dir=self.state_dir,
            job_pool=self.job_pool,
            poll_interval=self.poll_interval,
            cancel_on_kill=self.cancel_on_kill,
        )
        classpath, arguments = trigger.serialize()
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=classpath,
            trigger_kwargs=arguments,
            next_method="execute_complete",
            next_kwargs=None,
            timeout=None,
        )
        self.start_from_trigger = True

    def add_outlets(self, outlets: Iterable[Any]) -> None:
        """Define outlets, by `operator >> asset`."""
        super().add_outlets(outlets)
        if self.start_from_trigger:
            check_outlets(self)

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Get the job of this try and follow it to its end, here or in the triggerer."""
        try:
            target = AirExecutorHook(self.air_executor_conn_id, self.state_dir).target
            attacher = self._attacher = self._attacher_of(context, target)
            attached = self._attach(context, attacher, target)
            log_start(self.log, attached, target)
            self._push_link(context, target, attached.state.id)
            state = self._follow(attacher.client, attached.ref, self.defer_after if self.deferrable else math.inf)
            if state is None:
                self._check_not_ended(context["ti"], attacher)
        except BadInputError as error:
            raise AirflowFailException(str(error)) from None
        except AirExecutorError as error:
            raise AirflowException(str(error)) from None
        if state is not None:
            return self._finish(context, attacher, state)
        trigger = AirExecutorTrigger(
            job=attached.ref.id,
            uid=attached.ref.uid,
            state_dir=target.state_dir,
            poll_interval=self.poll_interval,
            cancel_on_kill=self.cancel_on_kill,
        )
        timeout = time_left(self.execution_timeout, context)
        return self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)

    def execute_complete(self, context: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
        """Return the result, after the trigger has seen the end of the job."""
        if "error" in event:
            raise AirflowException(str(event["error"]))
        try:
            target = AirExecutorHook(self.air_executor_conn_id, self.state_dir).target
            attacher = self._attacher_of(context, target)
            self._push_link(context, target, event["job"])
            job = JobRef(event["job"], event["uid"])
            self._follow(attacher.client, job, math.inf)  # lines that the trigger has not shown
            state = status_of(attacher.client, job)
        except AirExecutorError as error:
            raise AirflowException(str(error)) from None
        return self._finish(context, attacher, state)

    def on_kill(self) -> None:
        """Cancel the job: the task was cleared, marked or killed, or has reached its timeout."""
        self._killed = True
        if self._attacher is not None and self.cancel_on_kill:
            self.log.info("Cancelling the job")
            self._attacher.cancel()

    def _source(self) -> JobSource:
        return JobSource(self.job, self.job_file, self.command, self.task_options, self.job_params)

    def _attacher_of(self, context: Mapping[str, Any], target: JobTarget) -> JobAttacher:
        ti = context["ti"]
        # Airflow 2 has no id of a try, and `airflow dags test` there no start either: then no two tries are the same.
        uuid = getattr(ti, "id", None) or ti.start_date or random_hex(8)
        return JobAttacher(
            client=target.client(),
            instance=TaskInstanceLabels(ti.dag_id, ti.run_id, ti.task_id, ti.map_index),
            this_try=TaskTry(ti.try_number, ti.max_tries, str(uuid)),
            durable=self.durable,
            cancel_on_kill=self.cancel_on_kill,
        )

    def _attach(self, context: Mapping[str, Any], attacher: JobAttacher, target: JobTarget) -> AttachedJob:
        pool = self.job_pool or target.pool
        job = self._source().read(f"task {self.task_id}", pool, lambda text: self.render_template(text, context))
        waiting = False
        while (attached := attacher.attach(job)) is None:
            if not waiting:
                self.log.info("Waiting for the job of an earlier try to end")
                waiting = True
            time.sleep(self.poll_interval)
        if self._killed and self.cancel_on_kill:  # while the job was being submitted
            attacher.cancel()
        return attached

    def _push_link(self, context: Mapping[str, Any], target: JobTarget, job: str) -> None:
        self.page = target.page_of(job)
        if self.page:
            context["ti"].xcom_push(key=LINK_KEY, value=self.page)

    def _follow(self, client: Client, job: JobRef, seconds: float) -> JobState | None:
        """Show the output of a job until it has ended, and return its state; None if that takes longer."""
        follower = JobFollower(client, job, lambda line: self.log.info("%s", line), self.poll_interval)
        until = time.monotonic() + seconds
        while not isinstance(step := follower.step(), JobState) and time.monotonic() < until:
            time.sleep(step)
        follower.all_written()
        return step if isinstance(step, JobState) else None

    def _check_not_ended(self, ti: Any, attacher: JobAttacher) -> None:
        """Cancel the job if a person has just ended the task: after a deferral Airflow would tell no one.

        Raises:
            AirflowFailException: a person has.
        """
        try:
            state = state_of(ti)
        except Exception as error:  # noqa: BLE001 - Airflow's client raises many kinds, and the deferral needs none
            self.log.debug("Airflow cannot tell the state of this task: %s", error)
            return
        if state in ENDED_BY_PERSON:
            if self.cancel_on_kill:
                attacher.cancel()
            message = f"the task was marked or cleared before it was deferred, its state is {state}"
            raise AirflowFailException(message)

    def _finish(self, context: Mapping[str, Any], attacher: JobAttacher, state: JobState) -> Any:
        self.log.info("%s", summary_of(state))
        self.outcome = outcome_of(state, self.page)
        context["ti"].xcom_push(key=OUTCOME_KEY, value=self.outcome)
        try:
            attacher.set_delivered(state)
        except AirExecutorError as error:
            raise AirflowException(str(error)) from None
        if state.phase != SUCCEEDED:
            raise AirflowException(failure_of(state))
        return self._source().result_of(state)


def time_left(limit: timedelta | None, context: Mapping[str, Any]) -> timedelta | None:
    """Return what is left of an `execution_timeout`: Airflow itself applies it to workers only."""
    if limit is None:
        return None
    began: datetime = context["ti"].start_date
    return max(timedelta(seconds=1), limit - (datetime.now(UTC) - began))

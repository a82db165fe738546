"""`AirExecutorJobSensor`: wait for a job that is submitted by a person, a task or another program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
)

from air_executor.airflow.hooks import AirExecutorHook
from air_executor.airflow.job_follower import failure_of, summary_of
from air_executor.airflow.operators import time_left
from air_executor.airflow.triggers import AirExecutorJobTrigger
from air_executor.errors import AirExecutorError, BadInputError, NotFoundError
from air_executor.model.names import check_id
from air_executor.model.state import SUCCEEDED, JobState


class AirExecutorJobSensor(BaseSensorOperator):
    """Wait until a job with this id exists and has ended; return the results of its tasks by id.

    A job that did not succeed fails the task (`soft_fail` skips it). It submits and cancels nothing.

    Args:
        job_id: the job's id.
        air_executor_conn_id: the connection that names the state directory; without one, this host's own settings.
        state_dir: the state directory, before the connection's.
        deferrable: wait in the triggerer, not on a worker.
    """

    template_fields: ClassVar[Sequence[str]] = ("job_id", "air_executor_conn_id", "state_dir")
    ui_color = "#d7ecf7"

    def __init__(
        self,
        *,
        job_id: str,
        air_executor_conn_id: str | None = None,
        state_dir: str | None = None,
        deferrable: bool = True,
        poke_interval: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.job_id = job_id
        self.air_executor_conn_id = air_executor_conn_id
        self.state_dir = state_dir
        self.deferrable = deferrable

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Check once; if the job has not ended, wait in the triggerer or here."""
        if not self.deferrable:
            return super().execute(context)
        answer = self.poke(context)
        if answer:
            return answer.xcom_value
        trigger = AirExecutorJobTrigger(
            job=self.job_id, state_dir=self._hook.target.state_dir, poll_interval=self.poke_interval
        )
        limits = [timedelta(seconds=self.timeout), time_left(self.execution_timeout, context)]
        timeout = min(limit for limit in limits if limit is not None)
        return self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)

    def execute_complete(self, context: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
        """Return the results, after the job has ended."""
        if "error" in event:
            raise AirflowException(str(event["error"]))
        answer = self.poke(context)
        if not answer:
            message = f"job {self.job_id} was removed or reopened just after it had ended"
            raise AirflowException(message)
        return answer.xcom_value

    def poke(self, context: Mapping[str, Any]) -> PokeReturnValue:
        """Return whether the job has ended, and its results."""
        try:
            state = self._hook.get_conn().status(check_id(self.job_id, "job_id"))
        except NotFoundError:
            self.log.info("There is no job %s yet in %s", self.job_id, self._hook.target.state_dir)
            return PokeReturnValue(is_done=False)
        except BadInputError as error:
            raise AirflowFailException(str(error)) from None
        except AirExecutorError as error:
            raise AirflowException(str(error)) from None
        return PokeReturnValue(is_done=state.ended, xcom_value=self._results(state) if state.ended else None)

    @property
    def _hook(self) -> AirExecutorHook:
        return AirExecutorHook(self.air_executor_conn_id, self.state_dir)

    def _results(self, state: JobState) -> dict[str, Any]:
        self.log.info("%s", summary_of(state))
        if state.phase != SUCCEEDED:
            raise (AirflowSkipException if self.soft_fail else AirflowException)(failure_of(state))
        return state.results()

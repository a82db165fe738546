"""`AirExecutorOperator`: an Airflow task that is an Air-Executor job.

It submits the job to a state directory that a manager looks after, shows its output and hands over its results. Needs
Airflow, which is imported here and nowhere else, and the state directory's volume; knows nothing of backends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from air_executor.airflow.attach import Instance, attach_or_submit, close
from air_executor.airflow.joblog import JobLog
from air_executor.client import Client
from air_executor.core.spec import Job, parse_job
from air_executor.core.state import SUCCEEDED, Done, JobState
from air_executor.errors import AirExecutorError
from air_executor.jobfile import read_job
from air_executor.store.presence import look


class AirExecutorOperator(BaseOperator):
    """Run a job, given as a mapping, as a job file, or as a single command, and return its tasks' results by id.

    `job` has the fields of a job file; an `id` in it or in the file is not used: each task instance has its own. Each
    retry of Airflow is a new job, unless the last one is still at work or has succeeded unseen: that is attached to.

    Args:
        job: fields of a job file, `id` left out.
        job_file: path of a job file.
        command: a single command; a string goes to `sh -c`, a list is executed as it is.
        state_dir: the state directory; without it the one that the worker's settings name.
        poll_interval: seconds between two looks at the job's output.
    """

    template_fields: ClassVar[Sequence[str]] = ("job", "job_file", "command", "state_dir")
    ui_color = "#d7ecf7"

    def __init__(
        self,
        *,
        job: Mapping[str, Any] | None = None,
        job_file: str | None = None,
        command: str | list[str] | None = None,
        state_dir: str | None = None,
        poll_interval: float = 1.0,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own
    ) -> None:
        super().__init__(**kwargs)
        if sum(value is not None for value in (job, job_file, command)) != 1:
            raise ValueError("AirExecutorOperator: give one of job, job_file and command")
        self.job = job
        self.job_file = job_file
        self.command = command
        self.state_dir = state_dir
        self.poll_interval = poll_interval
        self._taken: tuple[Client, JobState] | None = None
        own: Any = getattr(self, "on_success_callback", None) or ()
        self.on_success_callback = [*(own if isinstance(own, Sequence) else [own]), _delivered]

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """See the job through; raise what Airflow knows as a failure if it does not succeed."""
        ti = context["ti"]
        instance = Instance(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        try:
            client = Client(self.state_dir)
            state, attached = attach_or_submit(client, self._spec(), instance)
            self._taken = client, state
            self.log.info("%s job %s in %s", "Attached to" if attached else "Submitted", state.id, client.layout.root)
            if look(client.layout).running is False:
                self.log.warning("No manager is at work there: start one with `air-executor manager`")
            state = self._follow(client, state)
        except AirExecutorError as error:
            raise AirflowException(str(error)) from error
        if state.phase != SUCCEEDED:
            raise AirflowException(_what_failed(state))
        return state.results()

    def _spec(self) -> Job:
        if self.job_file is not None:
            return read_job(self.job_file)
        fields = {"tasks": [{"command": self.command}]} if self.job is None else dict(self.job)
        return parse_job({**fields, "id": "airflow"}, f"task {self.task_id}")

    def _follow(self, client: Client, state: JobState) -> JobState:
        output = JobLog(client)
        while True:
            for line in output.new_lines(state):
                self.log.info("%s", line)
            if state.ended:
                usage = state.usage
                self.log.info(
                    "%s %s: %d runs, %.3f runner-seconds", state.id, state.phase, usage.runs, usage.runner_seconds
                )
                return state
            state = client.wait(state.id, timeout=self.poll_interval)


def _delivered(context: Mapping[str, Any]) -> None:
    """Close the job once Airflow knows of its success: a cleared task runs anew, a lost success is delivered again."""
    taken = context["task"]._taken  # noqa: SLF001 - our own operator's
    if taken is not None:
        close(*taken)


def _what_failed(state: JobState) -> str:
    lines = [f"job {state.id} {state.phase} ({state.reason})"]
    for task in state.tasks.values():
        status = task.status
        if isinstance(status, Done) and status.phase not in (SUCCEEDED, "skipped"):
            lines.append(
                f"task {task.id} {status.phase} ({status.reason}){f': {status.message}' if status.message else ''}"
            )
    return "; ".join(lines)

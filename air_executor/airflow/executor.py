"""`AirExecutor`: an Airflow executor that runs each task instance in an ephemeral runner.

Called by the scheduler. It is a client of a state directory: each workload becomes a job of one task, whose id is made
from the id that Airflow assigns beforehand. So runners outlive the scheduler, and the next scheduler finds them by
name. The manager of the state directory decides on the backend.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar

from airflow.executors.base_executor import BaseExecutor

from air_executor.airflow.job_launcher import LOG_LABEL, Launcher, LaunchSettings, Workload, job_id
from air_executor.airflow.job_target import JobTarget
from air_executor.airflow.labels import TaskInstanceLabels, printable
from air_executor.client import Client
from air_executor.errors import AirExecutorError, BadInputError, NotFoundError
from air_executor.model.state import JobState
from air_executor.settings import locate_state_dir

SECTION = "air_executor"
"""Section of Airflow's configuration, and key of an `executor_config`."""


@dataclass(slots=True)
class _OpenJob:
    """A job whose end was not reported yet."""

    key: Any
    """Key of its task instance."""
    changed_at: tuple[int, int, int] | None = None
    """Identifies the version of its state file that was read last."""


class AirExecutor(BaseExecutor):
    """Run each task instance in an ephemeral runner; runners go on while no scheduler is running.

    Settings are in the section `air_executor` of Airflow's configuration: `state_dir` (default: as for all of
    Air-Executor, `AIR_STATE_DIR`), `task`, `python`, `fork_server_idle`. Those of a single task are in its
    `executor_config={"air_executor": {...}}`.
    """

    is_local = True  # `airflow standalone` accepts local executors only
    pre_assigns_external_executor_id: ClassVar[bool] = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open_jobs: dict[str, _OpenJob] = {}

    @cached_property
    def _launcher(self) -> Launcher:
        """Made at its first use: Airflow's API server makes executors that it never starts.

        Raises:
            BadInputError: the settings are wrong.
        """
        options = self.conf.getjson(SECTION, "task", fallback={})
        if not isinstance(options, dict):
            msg = f"[{SECTION}] task: must be a JSON object, got {options!r}"
            raise BadInputError(msg)
        settings = LaunchSettings(
            options=options,
            python=self.conf.get(SECTION, "python", fallback=None) or None,
            fork_server_idle=self.conf.getint(SECTION, "fork_server_idle", fallback=600),
        )
        state_dir = self.conf.get(SECTION, "state_dir", fallback=None) or locate_state_dir(None)[0]
        return Launcher(Client(state_dir), settings)

    def start(self) -> None:
        """Prepare the state directory; warn if jobs would not run there.

        Raises:
            AirExecutorError: it cannot be used, or the settings are wrong.
        """
        client = self._launcher.client
        client.jobs.prepare()
        self._launcher.sweep(older_than=self._token_seconds)
        healthy, message = JobTarget(client.layout.root).check()
        if not healthy:
            self.log.warning("%s", message)

    @property
    def _token_seconds(self) -> float:
        return float(self.conf.get("scheduler", "task_queued_timeout", fallback="600"))

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        """Submit a job for each workload; if the volume refuses, it stays queued and the next heartbeat tries again."""
        for workload in workload_items:
            key = workload.key
            try:
                name = self._launcher.launch(_to_workload(workload))
            except BadInputError as error:
                self.queued_tasks.pop(key, None)
                self._fail(key, f"cannot be submitted: {error}", workload.log_path)
            except AirExecutorError as error:
                self.log.warning("Cannot submit %s now: %s", key, error)
            else:
                self.queued_tasks.pop(key, None)
                self._open_jobs[name] = _OpenJob(key)
                self.running.add(key)

    def sync(self) -> None:
        """Report the jobs that have ended; costs one `stat` for each job that has not changed."""
        for name, job in list(self._open_jobs.items()):
            changed_at = self._launcher.client.changed_at(name)
            if changed_at == job.changed_at:
                continue
            try:
                self._report(name, job)
            except NotFoundError:
                self._close(name, job)
                self._fail(job.key, f"job {name} was removed", None)
            except AirExecutorError as error:
                self.log.warning("Cannot read job %s now: %s", name, error)
            else:
                job.changed_at = changed_at

    def _report(self, name: str, job: _OpenJob) -> None:
        """Report a job if it has ended."""
        state = self._launcher.client.status(name)
        outcome = self._launcher.outcome(state)
        if outcome is None:
            return
        if not self._close(name, job):
            self.log.info("Job %s has ended; its task is running again in another job", name)
        elif outcome.ran:
            self.success(job.key)
        else:
            self._fail(job.key, str(outcome.failure), state.spec.labels.get(LOG_LABEL))

    def _close(self, name: str, job: _OpenJob) -> bool:
        """Forget a job; tell whether its task instance has no other one: a deferred task may have been resumed."""
        del self._open_jobs[name]
        self._launcher.forget(name)
        return all(other.key != job.key for other in self._open_jobs.values())

    def _fail(self, key: Any, reason: str, log_path: str | None) -> None:
        text = f"The runner of this task instance failed: {reason}"
        self.log.error("%s: %s", key, text)
        if log_path:
            self._append_to_log(log_path, text)
        self.fail(key, info=text)

    def _append_to_log(self, log_path: str, text: str) -> None:
        """Append a line to the log of a task, where people look first."""
        base = os.path.abspath(self.conf.get("logging", "base_log_folder"))
        path = os.path.normpath(os.path.join(base, log_path))
        if not path.startswith(f"{base}/"):
            return
        now = datetime.now(UTC).isoformat()
        line = json.dumps({"timestamp": now, "level": "error", "event": text, "logger": "air_executor"})
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            self.log.warning("Cannot write to %s: %s", path, error.strerror)

    def try_adopt_task_instances(self, tis: Sequence[Any]) -> Sequence[Any]:
        """Adopt the task instances of another scheduler whose jobs exist; return the others."""
        not_adopted = []
        for ti in tis:
            name = job_id(ti.external_executor_id) if ti.external_executor_id else None
            if name is None or not self._exists(name):
                not_adopted.append(ti)
            else:
                self._open_jobs[name] = _OpenJob(ti.key)
                self.running.add(ti.key)
        return not_adopted

    def _exists(self, name: str) -> bool:
        """Tell whether a job exists; one that cannot be read does."""
        try:
            return isinstance(self._launcher.client.status(name), JobState)
        except NotFoundError:
            return False
        except AirExecutorError as error:
            self.log.warning("Cannot read job %s now: %s", name, error)
            return True

    def revoke_task(self, *, ti: Any) -> None:
        """Cancel the job of a task instance that was queued for too long; Airflow queues the task instance again."""
        self.queued_tasks.pop(ti.key, None)
        for name in [name for name, job in self._open_jobs.items() if job.key == ti.key]:
            self._cancel(name)
        self.running.discard(ti.key)

    def terminate(self) -> None:
        """Cancel all jobs."""
        for name in list(self._open_jobs):
            self._cancel(name)

    def _cancel(self, name: str) -> None:
        self._open_jobs.pop(name, None)
        try:
            self._launcher.cancel(name)
        except AirExecutorError as error:
            self.log.warning("Cannot cancel job %s: %s", name, error)

    def end(self) -> None:
        """Do nothing: the runners go on, and the next scheduler adopts them."""

    def get_task_log(self, ti: Any, try_number: int) -> tuple[list[str], list[str]]:
        """Return one line that says where a task instance runs; its output is in Airflow's own log."""
        if try_number != ti.try_number or not ti.external_executor_id:
            return [], []
        try:
            state = self._launcher.client.status(job_id(ti.external_executor_id))
            return [self._launcher.location(state)], []
        except AirExecutorError as error:
            return [str(error)], []

    @staticmethod
    def get_cli_commands() -> list[Any]:
        """Return no commands: the provider has them."""
        return []


def _to_workload(workload: Any) -> Workload:
    """Return the launcher's workload for one of Airflow.

    Raises:
        BadInputError: it has no id, or its DAG has a wrong `executor_config`.
    """
    ti, log_path = workload.ti, workload.log_path
    if not ti.external_executor_id:
        raise BadInputError("this version of Airflow assigns no id to a task instance before it starts; 3.3 does")
    options = (ti.executor_config or {}).get(SECTION, {})
    if not isinstance(options, dict):
        msg = f"executor_config: {SECTION} must be a mapping, got {options!r}"
        raise BadInputError(msg)
    labels = {
        **TaskInstanceLabels(ti.dag_id, ti.run_id, ti.task_id, ti.map_index).labels(),
        "airflow-try": str(ti.try_number),
        **({LOG_LABEL: log_path} if log_path and printable(log_path) == log_path else {}),
    }
    return Workload(
        name=ti.external_executor_id,
        text=workload.model_dump_json(),
        labels=labels,
        pool=ti.queue or "default",
        priority=ti.priority_weight,
        options=options,
    )

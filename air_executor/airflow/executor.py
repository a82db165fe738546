"""`AirExecutor`: every task instance of Airflow in an ephemeral runner of its own.

The scheduler calls this. It is a client of a state directory that a manager looks after: each workload becomes a job of
one task, named by the id that Airflow gave it beforehand. So runners outlive the scheduler, and the next one finds them
by name. Which backend they run on is the manager's business.
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
"""Of Airflow's configuration."""


@dataclass(slots=True)
class _Live:
    """A job whose end was not reported yet."""

    key: Any
    """Of the task instance."""
    seen: tuple[int, int, int] | None = None
    """What tells of the state that we know."""


class AirExecutor(BaseExecutor):
    """Run each task instance in an ephemeral runner; they go on while the scheduler is away.

    Settings are in the section `air_executor` of Airflow's configuration: `state_dir` (else as for all of Air-Executor,
    by `AIR_STATE_DIR`), `task`, `python`, `fork_server_idle`. A task's own are in its
    `executor_config={"air_executor": {...}}`.
    """

    is_local = True  # to `airflow standalone`, which takes no other
    pre_assigns_external_executor_id: ClassVar[bool] = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._live: dict[str, _Live] = {}

    @cached_property
    def _launcher(self) -> Launcher:
        """Made when it is needed: Airflow's API server makes executors that it never starts.

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
        """Prepare the state directory; complain if no manager looks after it.

        Raises:
            AirExecutorError: it cannot be used, or the settings are wrong.
        """
        client = self._launcher.client
        client.jobs.prepare()
        self._launcher.sweep(older_than=self._token_seconds)
        well, said = JobTarget(client.layout.root).check()
        if not well:
            self.log.warning("%s", said)

    @property
    def _token_seconds(self) -> float:
        return float(self.conf.get("scheduler", "task_queued_timeout", fallback="600"))

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        """Submit a job for each; one that the volume refuses stays in the queue, so the next heartbeat tries again."""
        for workload in workload_items:
            key = workload.key
            try:
                name = self._launcher.launch(_as_ours(workload))
            except BadInputError as error:
                self.queued_tasks.pop(key, None)
                self._fail(key, f"cannot be submitted: {error}", workload.log_path)
            except AirExecutorError as error:
                self.log.warning("Cannot submit %s now: %s", key, error)
            else:
                self.queued_tasks.pop(key, None)
                self._live[name] = _Live(key)
                self.running.add(key)

    def sync(self) -> None:
        """Report the jobs that have ended; costs a `stat` for each that has not."""
        for name, live in list(self._live.items()):
            changed = self._launcher.client.changed_at(name)
            if changed == live.seen:
                continue
            try:
                self._look(name, live)
            except NotFoundError:
                self._end(name, live)
                self._fail(live.key, f"job {name} was removed", None)
            except AirExecutorError as error:
                self.log.warning("Cannot read job %s now: %s", name, error)
            else:
                live.seen = changed

    def _look(self, name: str, live: _Live) -> None:
        state = self._launcher.client.status(name)
        verdict = self._launcher.verdict(state)
        if verdict is None:
            return
        if not self._end(name, live):
            self.log.info("Job %s has ended; its task is at work again in another", name)
        elif verdict.ran:
            self.success(live.key)
        else:
            self._fail(live.key, str(verdict.why), state.spec.labels.get(LOG_LABEL))

    def _end(self, name: str, live: _Live) -> bool:
        """Forget a job; tell whether its task instance has no other: one that was deferred may have come back."""
        del self._live[name]
        self._launcher.forget(name)
        return all(other.key != live.key for other in self._live.values())

    def _fail(self, key: Any, why: str, log_path: str | None) -> None:
        text = f"The runner of this task instance did not do its work: {why}"
        self.log.error("%s: %s", key, text)
        if log_path:
            self._tell(log_path, text)
        self.fail(key, info=text)

    def _tell(self, log_path: str, text: str) -> None:
        """Put a line into the log of a task, where the user looks first."""
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
        """Take over the task instances of another scheduler whose jobs exist; return the others."""
        lost = []
        for ti in tis:
            name = job_id(ti.external_executor_id) if ti.external_executor_id else None
            if name is None or not self._exists(name):
                lost.append(ti)
            else:
                self._live[name] = _Live(ti.key)
                self.running.add(ti.key)
        return lost

    def _exists(self, name: str) -> bool:
        """Tell whether there is a job; one that cannot be read is there."""
        try:
            return isinstance(self._launcher.client.status(name), JobState)
        except NotFoundError:
            return False
        except AirExecutorError as error:
            self.log.warning("Cannot read job %s now: %s", name, error)
            return True

    def revoke_task(self, *, ti: Any) -> None:
        """Take a task instance back that has waited for too long."""
        self.queued_tasks.pop(ti.key, None)
        for name in [name for name, live in self._live.items() if live.key == ti.key]:
            self._cancel(name)
        self.running.discard(ti.key)

    def terminate(self) -> None:
        """Cancel everything."""
        for name in list(self._live):
            self._cancel(name)

    def _cancel(self, name: str) -> None:
        self._live.pop(name, None)
        try:
            self._launcher.cancel(name)
        except AirExecutorError as error:
            self.log.warning("Cannot cancel job %s: %s", name, error)

    def end(self) -> None:
        """Leave; the runners go on, and the next scheduler finds them."""

    def get_task_log(self, ti: Any, try_number: int) -> tuple[list[str], list[str]]:
        """Return where a running task instance is; what it prints is in Airflow's own log of it."""
        if try_number != ti.try_number or not ti.external_executor_id:
            return [], []
        try:
            state = self._launcher.client.status(job_id(ti.external_executor_id))
            return [self._launcher.where(state)], []
        except AirExecutorError as error:
            return [str(error)], []

    @staticmethod
    def get_cli_commands() -> list[Any]:
        """Return none: it has none of its own."""
        return []


def _as_ours(workload: Any) -> Workload:
    """Return what a workload of Airflow means here.

    Raises:
        BadInputError: it has no id of its own, or its DAG wants something that cannot be.
    """
    ti, log_path = workload.ti, workload.log_path
    if not ti.external_executor_id:
        raise BadInputError("this Airflow gives task instances no id before they start; 3.3 does")
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
        queue=ti.queue or "default",
        priority=ti.priority_weight,
        options=options,
    )

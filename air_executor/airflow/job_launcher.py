"""Launch Airflow's workloads as jobs, and turn ended jobs into outcomes: the executor's part on the volume.

A workload holds the token of its task instance. It is a file in the workspace of its job that only its owner may read,
and its runner deletes it. Called by `executor`; knows nothing of Airflow.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from air_executor.airflow import fork_client
from air_executor.airflow.job_follower import failure_of
from air_executor.airflow.labels import printable
from air_executor.airflow.workload import TAKEN_EXIT
from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.errors import AlreadyExistsError, BadInputError
from air_executor.model.job import Job
from air_executor.model.plain_text import plain_log
from air_executor.model.records import Request
from air_executor.model.state import SUCCEEDED, Done, JobState, Running
from air_executor.store import files
from air_executor.store.run_logs import open_log

OPTIONS = ("image", "env", "secrets", "mounts", "caches", "services", "resources", "network", "grace")
"""Fields of a task that settings and DAGs may set; Airflow decides on the others."""
LOG_LABEL = "airflow-log"
_FILE = "workload.json"
_PREFIX = "af-"
_MAX_PRIORITY = 1_000_000
_TAIL_BYTES = 1 << 18
_MAX_MESSAGE = 500


class Workload(NamedTuple):
    """One task instance that Airflow wants to run now."""

    name: str
    """UUID that Airflow has assigned to this start of the task instance, and to no other."""
    text: str
    """The workload for the runner, as JSON; contains the token."""
    labels: Mapping[str, str]
    """Labels of the job."""
    pool: str
    priority: int
    options: Mapping[str, Any]
    """Fields of the task that its DAG sets; see `OPTIONS`."""


class LaunchSettings(NamedTuple):
    """How runners are started."""

    options: Mapping[str, Any]
    """Fields of every task; those of the task itself take precedence."""
    python: str | None = None
    """Interpreter that has Airflow; None: this process's own, in an image `python`."""
    fork_server_idle: int = 600
    """Seconds after which an unused fork server exits; 0: no fork server, each task imports Airflow itself."""


class JobOutcome(NamedTuple):
    """How the job of a task instance ended."""

    ran: bool
    """The workload was run; whether the task succeeded, the runner has told Airflow."""
    failure: str | None
    """Why the workload was not run to its end."""


def job_id(name: str) -> str:
    """Return the job id for the name of a workload."""
    return f"{_PREFIX}{name}"


class Launcher:
    """A state directory to which workloads are submitted as jobs."""

    def __init__(self, client: Client, settings: LaunchSettings) -> None:
        self.client = client
        self._settings = settings

    def launch(self, workload: Workload) -> str:
        """Submit the job of a workload and return its id; a job that exists was submitted before a crash.

        Raises:
            BadInputError: an option of the DAG or of the settings is wrong.
            StoreError: the volume refused; nothing was submitted.
        """
        name = job_id(workload.name)
        if self.client.jobs.find(name) is None:
            job = self._job(workload, name)
            with contextlib.suppress(AlreadyExistsError):
                self.client.submit(job, {_FILE: workload.text.encode()})
        return name

    def _job(self, workload: Workload, name: str) -> Job:
        options = merged(self._settings.options, workload.options)
        python = self._settings.python or ("python" if options.get("image") else None)
        if python is None and self._settings.fork_server_idle:
            idle = str(self._settings.fork_server_idle)
            command = [sys.executable, "-I", "-S", os.path.abspath(fork_client.__file__), _FILE, idle]
        else:
            command = [python or sys.executable, "-m", "air_executor.airflow.workload", _FILE]
        return parse_job(
            {
                "id": name,
                "pool": workload.pool,
                "priority": max(-_MAX_PRIORITY, min(_MAX_PRIORITY, workload.priority)),
                "labels": {key: printable(value) for key, value in workload.labels.items()},
                "tasks": [{**options, "id": "task", "command": command}],
            },
            "executor_config",
        )

    def forget(self, name: str) -> None:
        """Remove the workload of a job, if no runner has taken it: it is not started any more."""
        files.remove(f"{self.client.layout.workspace(name)}/{_FILE}")

    def sweep(self, older_than: float) -> None:
        """Remove workloads older than so many seconds: their tokens have expired.

        Raises:
            StoreError: the volume refused.
        """
        for name in files.list_folders(self.client.layout.jobs):
            if name.startswith(_PREFIX):
                changed = files.changed_at(f"{self.client.layout.workspace(name)}/{_FILE}")
                if 0 < changed < time.time() - older_than:
                    self.forget(name)

    def cancel(self, name: str) -> None:
        """Cancel a job; a workload that was not started is never started.

        Raises:
            StoreError: the volume refused.
        """
        self.forget(name)
        self.client.inbox.post(Request("cancel", name), time.time())

    def outcome(self, state: JobState) -> JobOutcome | None:
        """Return how a job ended; None while it has not."""
        if not state.ended:
            return None
        if state.phase == SUCCEEDED:
            return JobOutcome(ran=True, failure=None)
        return JobOutcome(ran=False, failure=self._failure(state))

    def _failure(self, state: JobState) -> str:
        task = state.tasks["task"]
        parts = [failure_of(state)]
        earlier = task.attempts if isinstance(task.status, Done) and not task.attempts else task.attempts[:-1]
        parts += [f"run {one.seq} {one.reason}{f': {one.message}' if one.message else ''}" for one in earlier]
        if any(one.exit_code == TAKEN_EXIT for one in task.attempts):
            parts.append("it had been started before, and is not started twice")
        elif tail := self._last_line(state):
            parts.append(f"last line of its output: {tail}")
        return "; ".join(parts)

    def _last_line(self, state: JobState) -> str:
        file = open_log(self.client.layout, state, "task", state.seq) if state.seq else None
        if file is None:
            return ""
        with file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode(errors="replace").strip().splitlines()
        return _message(lines[-1])[:_MAX_MESSAGE] if lines else ""

    def location(self, state: JobState) -> str:
        """Return one line that says where a job is and which runner it has, for people."""
        status = state.tasks["task"].status
        runner = self.client.runners(state).get("task")
        place = f" on {runner.backend} ({runner.name or runner.host})" if runner else ""
        run = f", run {status.seq}{place}" if isinstance(status, Running) else ""
        return f"Air-Executor job {state.id}: {state.phase}{run}, in {self.client.layout.root}"


def merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a task: its own take precedence, and its variables join those of all tasks.

    Raises:
        BadInputError: there is an option that only Airflow may set.
    """
    for options in (shared, own):
        if unknown := sorted(options.keys() - set(OPTIONS)):
            msg = f"air_executor: cannot set {', '.join(unknown)} of a task; there are {', '.join(OPTIONS)}"
            raise BadInputError(msg)
    both = {**shared, **own}
    if all(isinstance(options.get("env"), Mapping) for options in (shared, own)):
        both["env"] = {**shared["env"], **own["env"]}
    return both


def _message(line: str) -> str:
    """Return the message in a line of a runner's output; Airflow's own lines are JSON and may hold an exception."""
    try:
        found = json.loads(line)
        errors = [f"{error['exc_type']}: {error['exc_value']}" for error in found.get("error_detail", ())]
        return plain_log(" ".join([str(found["event"]), *errors]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return plain_log(line)

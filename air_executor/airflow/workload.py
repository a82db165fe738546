"""Run one Airflow workload, once: the program of a runner, also executed by each child of the fork server.

`python -m air_executor.airflow.workload FILE` runs it in this process, as in a container; a relative FILE is in the
job's workspace. The file holds the token of the task instance, so it is deleted before anything else happens. For the
same reason a workload starts at most once. Knows nothing of executors, jobs or state directories.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from importlib import import_module
from typing import Any

MAX_BYTES = 16 << 20
_REQUIRED = (
    "airflow.executors.workloads",
    "airflow.sdk.execution_time.execute_workload",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.settings",
)
_OPTIONAL = (
    "airflow.dag_processing.bundles.local",
    "airflow.dag_processing.dagbag",
    "airflow.executors.base_executor",
    "airflow.providers.standard.decorators.bash",
    "airflow.providers.standard.decorators.python",
    "airflow.sdk._shared.logging.factory",
    "airflow.sdk._shared.logging.remote",
    "airflow.sdk.bases.operatorlink",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.connection",
    "airflow.sdk.definitions.decorators",
    "air_executor.airflow.operators",
    "encodings.idna",
    "jinja2.ext",
    "setproctitle",
)
"""Modules that Airflow imports while it runs a task; they differ from release to release."""
TAKEN_EXIT = 75
"""Exit code if the workload was started before, or revoked."""


def take(path: str) -> str | None:
    """Delete a file and return its content; None if it does not exist, because another process has taken it.

    Raises:
        OSError: it cannot be read or deleted.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            found = file.read(MAX_BYTES)
        os.unlink(path)
    except FileNotFoundError:
        return None
    return found.decode()


def preload() -> None:
    """Import the modules that every workload needs: two seconds of CPU, which the fork server spends once."""
    for name in _REQUIRED:
        import_module(name)
    for name in _OPTIONAL:
        with contextlib.suppress(ImportError):
            import_module(name)


def end_with_the_task() -> None:
    """Make Airflow's supervisor notice the end of its task at once, so that the runner can exit.

    The supervisor checks when the last pipe of the task closes, which is a moment too early, and checks again only
    after `[workers] min_heartbeat_interval`, 5 s (`WatchedSubprocess._monitor_subprocess`, Airflow 3.3.2). A supervisor
    of another design is not changed.
    """
    watched: Any = import_module("airflow.sdk.execution_time.supervisor")
    watched = getattr(watched, "WatchedSubprocess", None)
    check = getattr(watched, "_check_subprocess_exit", None)
    if check is None:
        return

    @functools.wraps(check)
    def wait_and_check(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not getattr(self, "_open_sockets", True) and getattr(self, "_exit_code", 0) is None:
            with contextlib.suppress(Exception):  # a task that takes longer than a second to exit is no error
                self._process.wait(timeout=1)
        return check(self, *args, **kwargs)

    watched._check_subprocess_exit = wait_and_check  # noqa: SLF001 - there is no public way


def execute(path: str) -> int:
    """Run the workload in a file; return the exit code of the runner.

    It is 0 also if the task fails: the outcome reaches Airflow through its API. Any other code means that the task
    could not be run.
    """
    try:
        text = take(path)
    except OSError as error:
        sys.stderr.write(f"cannot take the workload {path}: {error.strerror}\n")
        return 1
    if text is None:
        sys.stderr.write(f"{path} does not exist: this workload was started before, or revoked\n")
        return TAKEN_EXIT
    from airflow.executors import workloads  # noqa: PLC0415 - two seconds of CPU, not spent on a workload that was taken
    from airflow.sdk.execution_time.execute_workload import execute_workload  # noqa: PLC0415

    end_with_the_task()
    execute_workload(workloads.ExecuteTask.model_validate_json(text))
    return 0


if __name__ == "__main__":
    sys.exit(execute(os.path.join(os.environ.get("AIR_WORKSPACE", ""), sys.argv[1])))

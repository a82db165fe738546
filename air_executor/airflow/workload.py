"""Run one Airflow workload, once: the program of a runner, and what a child of the fork server does.

`python -m air_executor.airflow.workload FILE` runs it in this process, which is what containers do; a relative FILE is
in the job's workspace. It holds the token of the task instance, so it is deleted before anything else happens; that
also is why a workload starts once at most.
Knows nothing of executors, jobs or state directories.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from importlib import import_module
from typing import Any

LARGEST = 16 << 20
_NEEDED = (
    "airflow.executors.workloads",
    "airflow.sdk.execution_time.execute_workload",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.settings",
)
_SOON_NEEDED = (
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
"""What Airflow imports while it runs a task; which that is differs from release to release."""
TAKEN_EXIT = 75
"""Exit code where the workload has been started before, or was taken back."""


def take(path: str) -> str | None:
    """Return what a file holds and delete it; None if it is gone, because somebody else has taken it.

    Raises:
        OSError: it cannot be read or deleted.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            found = file.read(LARGEST)
        os.unlink(path)
    except FileNotFoundError:
        return None
    return found.decode()


def preload() -> None:
    """Import what every workload needs; that costs some seconds of CPU, so the fork server does it once."""
    for name in _NEEDED:
        import_module(name)
    for name in _SOON_NEEDED:
        with contextlib.suppress(ImportError):
            import_module(name)


def end_with_the_task() -> None:
    """Have Airflow's supervisor notice at once that its task has ended, so that the runner can leave.

    It looks for the end when the last pipe of the task closes, which is a moment too early, and only looks again after
    `[workers] min_heartbeat_interval`, 5 s (`WatchedSubprocess._monitor_subprocess`, Airflow 3.3.2). A supervisor that
    is made otherwise is left as it is.
    """
    watched: Any = import_module("airflow.sdk.execution_time.supervisor")
    watched = getattr(watched, "WatchedSubprocess", None)
    look = getattr(watched, "_check_subprocess_exit", None)
    if look is None:
        return

    @functools.wraps(look)
    def wait_and_look(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not getattr(self, "_open_sockets", True) and getattr(self, "_exit_code", 0) is None:
            with contextlib.suppress(Exception):  # it has a second for it; that it takes longer is no error
                self._process.wait(timeout=1)
        return look(self, *args, **kwargs)

    watched._check_subprocess_exit = wait_and_look  # noqa: SLF001 - there is no other way in


def execute(path: str) -> int:
    """Run the workload of a file; return the exit code of the runner.

    That of a task which fails is 0, too: its outcome reaches Airflow through its API. Any other code means that the
    task could not be run as it should.
    """
    try:
        text = take(path)
    except OSError as error:
        sys.stderr.write(f"cannot take the workload {path}: {error.strerror}\n")
        return 1
    if text is None:
        sys.stderr.write(f"{path} is gone: this workload has been started before, or was taken back\n")
        return TAKEN_EXIT
    from airflow.executors import workloads  # noqa: PLC0415 - some seconds of CPU, only where there is something to do
    from airflow.sdk.execution_time.execute_workload import execute_workload  # noqa: PLC0415

    end_with_the_task()
    execute_workload(workloads.ExecuteTask.model_validate_json(text))
    return 0


if __name__ == "__main__":
    sys.exit(execute(os.path.join(os.environ.get("AIR_WORKSPACE", ""), sys.argv[1])))

"""Air-Executor runs tasks on ephemeral runners: a runner exists only while its task runs.

Inside a task: `queue_tasks`, `queue_job`, `set_result`, `run_again`, `inputs`, `outcomes`. From outside: `Job`, `Task`,
`submit`, `status`, `wait`, `cancel`, `Client`. Importing the package is cheap: each name loads its module on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from air_executor.client import Client, cancel, status, submit, wait
    from air_executor.model.job import Job, Task
    from air_executor.task import (
        context,
        inputs,
        outcomes,
        progress,
        queue_job,
        queue_tasks,
        run_again,
        set_result,
        usage,
    )

__all__ = [
    "Client",
    "Job",
    "Task",
    "cancel",
    "context",
    "inputs",
    "outcomes",
    "progress",
    "queue_job",
    "queue_tasks",
    "run_again",
    "set_result",
    "status",
    "submit",
    "usage",
    "wait",
]

_HOMES = {
    "air_executor.client": ("Client", "cancel", "status", "submit", "wait"),
    "air_executor.model.job": ("Job", "Task"),
    "air_executor.task": (
        "context",
        "inputs",
        "outcomes",
        "progress",
        "queue_job",
        "queue_tasks",
        "run_again",
        "set_result",
        "usage",
    ),
}


def __getattr__(name: str) -> object:
    from importlib import import_module  # noqa: PLC0415 - keeps the import of a task's `queue_tasks` cheap

    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)

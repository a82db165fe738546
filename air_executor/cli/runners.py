"""Where the runners of a job's running tasks are, as their run directories say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from air_executor.core.explain import Runner
from air_executor.core.state import JobState, Running
from air_executor.store.runs import Runs

if TYPE_CHECKING:
    from air_executor.client import Client


def runners_of(client: Client, job: JobState) -> dict[str, Runner]:
    """Return the runners of a job by task; those of which nothing is known are left out."""
    runs = Runs(client.layout)
    found = {}
    for task in job.tasks.values():
        if not isinstance(task.status, Running):
            continue
        record = (runs.record(job.id, task.status.seq, task.id) or ({},))[0]
        backend, host, name = record.get("backend"), record.get("host"), record.get("runner")
        if isinstance(backend, str):
            found[task.id] = Runner(backend, str(host), name if isinstance(name, str) else None)
    return found

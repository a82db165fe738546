"""Which job belongs to a task instance of Airflow: attach to the one that is there, or submit the next.

Called by the operator. Airflow's number of the try is not part of a job's id: when a worker is lost Airflow raises it
while the job still runs. Generations of our own are, and each is submitted once, because an id can be taken only once.
Knows nothing of Airflow.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import NamedTuple

from air_executor.client import Client
from air_executor.core.spec import Job
from air_executor.core.state import SUCCEEDED, JobState
from air_executor.errors import AlreadyExistsError, NotFoundError
from air_executor.store import files


class Instance(NamedTuple):
    """One task instance of Airflow."""

    dag: str
    run: str
    task: str
    map_index: int

    def job_id(self, generation: int) -> str:
        """Return the id of one generation of its jobs; always the same."""
        return f"af-{hashlib.sha256(json.dumps(self).encode()).hexdigest()[:24]}-{generation}"


def attach_or_submit(client: Client, job: Job, instance: Instance) -> tuple[JobState, bool]:
    """Return the job of a task instance, and whether it was there before.

    One that is at work is attached to, and so is one that has succeeded and whose success was never delivered. After
    one that failed, was cancelled or is closed comes the next generation, never before the last one has ended. The
    fields of `job` are used for a new generation only, its id never.

    Raises: as `Client.submit` and `Client.status`.
    """
    generation = 1
    while True:
        name = instance.job_id(generation)
        try:
            state = client.status(name)
        except NotFoundError:
            try:
                return client.submit(job.model_copy(update={"id": name})), False
            except AlreadyExistsError:  # another worker was faster: look what it submitted
                continue
        closed = is_closed(client, state)
        if not closed and (not state.ended or state.phase == SUCCEEDED):
            return state, True
        client.wait(name)
        generation += 1


def close(client: Client, state: JobState) -> None:
    """Note that Airflow has done with this job, so that no try attaches to it: its success was delivered.

    Raises:
        StoreError: the volume refused.
    """
    files.make_dir(_folder(client))
    files.touch(_note(client, state))
    files.fsync_dir(_folder(client))


def is_closed(client: Client, state: JobState) -> bool:
    """Tell whether `close` was called for this job."""
    return os.path.exists(_note(client, state))


def _folder(client: Client) -> str:
    return f"{client.layout.root}/airflow"


def _note(client: Client, state: JobState) -> str:
    return f"{_folder(client)}/{state.id}-{state.uid}.closed"

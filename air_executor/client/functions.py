"""What `from air_executor import submit` and its like do: one call on the state directory that is found from here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from air_executor.client.directory_client import Client
from air_executor.client.job_access import Answer

if TYPE_CHECKING:
    from air_executor.model.job import Job
    from air_executor.model.state import JobState


def submit(job: Job, state_dir: str | os.PathLike[str] | None = None) -> JobState:
    """Submit a job. See `Client.submit`."""
    return Client(state_dir).submit(job)


def status(job: str, state_dir: str | os.PathLike[str] | None = None) -> JobState:
    """Return a job's state. See `Client.status`."""
    return Client(state_dir).status(job)


def wait(job: str, timeout: float | None = None, state_dir: str | os.PathLike[str] | None = None) -> JobState:
    """Wait for a job to end. See `Client.wait`."""
    return Client(state_dir).wait(job, timeout)


def cancel(job: str, task: str | None = None, state_dir: str | os.PathLike[str] | None = None) -> Answer:
    """Cancel a job or one of its tasks. See `Client.ask`."""
    return Client(state_dir).ask("cancel", job, task)

"""One open run as its manager knows it: what state, platform and volume said of it so far.

`start` and `supervise` fill it in, `booking` reads it when the run has ended. Holds facts; decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from air_executor.backends.base import RunnerStatus
from air_executor.core.transitions import LiveJob
from air_executor.model.names import Slot
from air_executor.model.state import Running, TaskState
from air_executor.store.run_dirs import ExitRecord


@dataclass(slots=True)
class OpenRun:
    """One open run and what this manager knows of it. Ages are of the steady clock."""

    job: LiveJob
    task: TaskState
    seq: int
    slot: Slot
    run: str
    since: float
    wall_since: float
    """By the wall clock; only its distance from `since` counts, which a clock that is set changes."""
    spawned: float | None = None
    """By the volume's clock."""
    ours: bool = False
    """This manager spawned its runner and was told so."""
    refused: str | None = None
    """Why the backend will never start it."""
    lost: str | None = None
    """Why its files cannot be believed."""
    elsewhere: str | None = None
    """The host or the backend that it ran on, when that is not this one."""
    backend: str | None = None
    """The backend that it ran on, when that is not this one."""
    confirmed_gone: bool = False
    unseen: bool = False
    """It was adopted, or the backend could not answer, and it has not been seen alive since: its end is seen late."""
    platform: RunnerStatus | None = None
    """What the platform last showed of its runner after its end: what it says of the reason goes with the name."""
    begun: float | None = None
    """When its command began, by the volume's clock; None if that is not known yet."""
    exit: ExitRecord | None = None
    exit_since: float = 0.0
    gone_since: float | None = None
    gone_at: float | None = None
    """When nothing of its runner was left any more, by the volume's clock."""

    @property
    def status(self) -> Running:
        """The run as the state has it."""
        status = self.task.status
        assert isinstance(status, Running)  # noqa: S101 - an open run's task is running until the run is booked
        return status

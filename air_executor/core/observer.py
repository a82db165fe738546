"""What a manager tells whoever counts: jobs that come, change and go, decisions, open runs, and its own time.

The manager calls these from its one thread and expects nothing back; `wiring` hands in who listens. This one does
nothing, so that a manager that nobody counts for pays nothing. Who listens must be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from air_executor.core.transitions import LiveJob
from air_executor.model.events import Event
from air_executor.model.names import Slot
from air_executor.model.state import TaskState


@dataclass(frozen=True, slots=True)
class RunSample:
    """An open run whose runner was just seen alive. Seconds."""

    job: LiveJob
    task: TaskState
    seq: int
    elapsed: float
    """For how long its runner has existed, at least."""
    start: float | None
    """How much of that passed before its command began; None if it has not begun as far as is known."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the manager has seen when it last looked at everything."""

    answers: bool
    """The backend answers."""
    last_contact: float | None
    """When the backend last knew for certain what its platform has, monotonic seconds; None where it always asks."""
    sights: Iterable[RunSample]
    removing: Iterable[Slot]
    """The slots whose runners are asked to go and have not gone."""


class Observer:
    """Hears what one manager does."""

    # Jobs

    def job_changed(self, job: LiveJob, *, blocked: bool) -> None:
        """An unfinished job has come, or has changed; `blocked`: it waits for other jobs."""

    def job_ended(self, name: str, phase: str) -> None:
        """A job has ended, or one that has ended was found."""

    def job_gone(self, name: str) -> None:
        """A job is no more."""

    def decided(self, job: LiveJob, event: Event) -> None:
        """A decision was carried out."""

    def adopted(self, job: LiveJob, task: TaskState, seq: int, elapsed: float) -> None:
        """An open run of an earlier manager was taken over; its runner came to be so many seconds ago."""

    def waits_for_backend(self, job: str, task: str) -> None:
        """A task is ready, has room, and waits for what its backend must get first; called again while it waits."""

    # What goes wrong

    def prevented_duplicate(self) -> None:
        """A runner was not started, or did not begin, because the slot has one."""

    def removed_orphan(self) -> None:
        """A runner that no open run needs is being removed."""

    def found_corrupt(self, files: int) -> None:
        """So many files cannot be read."""

    def requested(self, verb: str, code: str) -> None:
        """The backend has asked its platform for something. Called from any thread."""

    # Its life

    def stands_by(self) -> None:
        """It waits for another manager to leave."""

    def holds(self) -> None:
        """It has taken the state directory and is up to date."""

    def left(self) -> None:
        """It has let go of the state directory."""

    def looked(self, look: Snapshot) -> None:
        """It has looked at everything."""

    def alive(self) -> None:
        """It goes on; called before each step that may take long."""

    def sleeps(self) -> None:
        """It goes to sleep."""

    def wakes(self) -> None:
        """It was woken, or has slept enough."""

"""What a manager reports while it runs: jobs, decisions, open runs, failures, and its own time.

The only way to hear of decisions. The manager calls these methods from its one thread and expects nothing back;
`wiring` passes in the observer. The base class does nothing, so a manager that nobody observes pays nothing. An
observer must be quick and must not raise. Knows nothing of metrics or of how the manager works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    """Minimum age of its runner."""
    start: float | None
    """Part of that before its command began; None if it has not begun, as far as is known."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the manager saw at its latest poll."""

    answers: bool
    """The backend answers."""
    last_contact: float | None
    """When the backend last knew for certain what its platform has, monotonic seconds; None where it always asks."""
    samples: Iterable[RunSample]
    removing: Iterable[Slot]
    """Slots whose runners were asked to go and still exist."""


class Observer:
    """Base class of everything that observes one manager."""

    # Jobs

    def job_changed(self, job: LiveJob, *, blocked: bool) -> None:
        """An unfinished job was added or has changed; `blocked`: it waits for other jobs."""

    def job_ended(self, name: str, phase: str) -> None:
        """A job has ended, or an ended job was found."""

    def job_gone(self, name: str) -> None:
        """A job was removed."""

    def decided(self, job: LiveJob, event: Event) -> None:
        """A decision was applied to a job."""

    def adopted(self, job: LiveJob, task: TaskState, seq: int, elapsed: float) -> None:
        """An open run of an earlier manager was adopted; its runner started `elapsed` seconds ago."""

    def waits_for_backend(self, job: str, task: str) -> None:
        """A task is ready, has room, and waits until its backend has what it needs; repeated while it waits."""

    # Failures

    def prevented_duplicate(self) -> None:
        """A runner was not started, or did not begin, because the slot already has one."""

    def removed_orphan(self) -> None:
        """A runner that belongs to no open run is being removed."""

    def found_corrupt(self, files: int) -> None:
        """This many files cannot be read."""

    def requested(self, verb: str, code: str) -> None:
        """The backend sent a request to its platform. Called from any thread."""

    # Life cycle

    def stands_by(self) -> None:
        """The manager waits until another one releases the state directory."""

    def holds(self) -> None:
        """The manager has acquired the state directory and is up to date."""

    def left(self) -> None:
        """The manager has released the state directory."""

    def can_sample(self, sample: Callable[[], None]) -> None:
        """From now on `sample` makes the manager report a sample soon, between two polls. Call it from any thread."""

    def sampled(self, snapshot: Snapshot) -> None:
        """The manager has polled everything, or was asked for a sample."""

    def alive(self) -> None:
        """The manager makes progress; called before each step that may take long."""

    def sleeps(self) -> None:
        """The manager goes to sleep."""

    def wakes(self) -> None:
        """The manager was woken, or its sleep is over."""

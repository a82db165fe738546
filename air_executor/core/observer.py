"""What a manager reports while it runs: jobs, decisions, open runs, failures, and its own time.

The only way to hear of decisions. The manager calls these methods from its one thread and expects nothing back;
`wiring` passes in the observer. The base class does nothing, so a manager that nobody observes pays nothing. An
observer must be quick and must not raise. Knows nothing of metrics or of how the manager works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from air_executor.core.counters import Counts
from air_executor.core.pool_labels import PoolLabels
from air_executor.core.spending_limits import Spending
from air_executor.core.transitions import LiveJob
from air_executor.model.events import Event
from air_executor.model.names import Slot


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the manager saw at its latest poll."""

    answers: bool
    """The backend answers."""
    last_contact: float | None
    """When the backend last knew for certain what its platform has, monotonic seconds; None where it always asks."""
    removing: Iterable[Slot]
    """Slots whose runners were asked to go and still exist."""
    progress: Mapping[str, float] = field(default_factory=dict)
    """By pool: the mean progress, from 0 to 1, of running tasks that report it."""
    kept: int = 0
    """Runners that stay after a failure."""
    spendings: Sequence[Spending] = ()
    """What is used of budgets."""


class Observer:
    """Base class of everything that observes one manager."""

    # Jobs

    def counts_by(self, pools: PoolLabels) -> None:
        """The manager, which is about to read its jobs, counts by these labels."""

    def job_changed(self, job: LiveJob, *, blocked: bool) -> None:
        """An unfinished job was added or has changed; `blocked`: it waits for other jobs."""

    def job_ended(self, name: str, phase: str) -> None:
        """A job has ended, or an ended job was found."""

    def job_gone(self, name: str) -> None:
        """A job was removed."""

    def decided(self, job: LiveJob, event: Event) -> None:
        """A decision was applied to a job."""

    def adopted(self) -> None:
        """An open run of an earlier manager was adopted."""

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

    def can_count(self, count: Callable[[], None]) -> None:
        """From now on `count` makes the manager report its counters soon. Call it from any thread."""

    def counted(self, counts: Counts) -> None:
        """The manager was asked for its counters: these are in the journal and may be shown."""

    def polled(self, snapshot: Snapshot) -> None:
        """The manager has polled everything."""

    def alive(self) -> None:
        """The manager makes progress; called before each step that may take long."""

    def sleeps(self) -> None:
        """The manager goes to sleep."""

    def wakes(self) -> None:
        """The manager was woken, or its sleep is over."""

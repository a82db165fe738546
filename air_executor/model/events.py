"""The decisions that change a job, as data: each is one line in the journal.

The manager makes them, `transitions.apply` carries them out, and recovery carries out the same ones again; so an
event holds everything that was not certain before it was decided (times, chance, what a runner left behind).
Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from air_executor.model.usage import Moments


@dataclass(frozen=True, slots=True)
class Started:
    """A run of a task was decided; its runner may or may not come to life."""

    at: float
    task: str
    seq: int
    slot: int


@dataclass(frozen=True, slots=True)
class StopRequested:
    """An open run is to be stopped: `timeout`, `cancelled`, `start-failed`, or `requeue` for the manager's own sake."""

    at: float
    seq: int
    reason: str
    message: str | None = None
    """What the platform said of a runner that cannot start."""
    permanent: bool | None = None
    """True: no other run could start either. False is written as None, which leaves it out of the journal."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An open run's outcome, with everything it puts into effect."""

    at: float
    seq: int
    reason: str
    """One of the reasons of the contract, or `requeue`: queued again in its place at no charge."""
    moments: Moments
    exit_code: int | None = None
    message: str | None = None
    result: Any = None
    queued: Sequence[Mapping[str, Any]] = ()
    """Normalised tasks that the run queued, each with its `id`."""
    retry_at: float | None = None
    """When to run the task again; None if this was its last run."""
    cost: float = 0.0
    """Its runner-seconds at `price`."""
    price: Mapping[str, float] | None = None
    """Per hour of this runner, by component, as in force when this was decided; None if it had none."""
    currency: str | None = None
    """Of price and cost."""
    backend: str | None = None
    """Where it ran."""


@dataclass(frozen=True, slots=True)
class Requested:
    """A user's request that changes the job: `add`, `cancel`, `pause`, `resume`, `retry`, `confirm-gone`."""

    at: float
    request: str
    """Name of the request file; one named in any line is never applied again. Empty: the manager asked itself."""
    op: str
    task: str | None = None
    tasks: Sequence[Mapping[str, Any]] = field(default=())
    """For `add`: normalised tasks, each with its `id`."""


@dataclass(frozen=True, slots=True)
class Released:
    """A held job may run: the run that submitted it was booked as a success."""

    at: float


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The job's own deadline passed."""

    at: float


@dataclass(frozen=True, slots=True)
class UpstreamFailed:
    """A job that this one waits for did not succeed."""

    at: float
    job: str


@dataclass(frozen=True, slots=True)
class ClockStepped:
    """Wall time was set by `by` seconds: a delay lasts as long as before, a date stays a date."""

    at: float
    by: float


Event = Started | StopRequested | Ended | Requested | Released | DeadlinePassed | UpstreamFailed | ClockStepped

"""What the backends of container platforms have in common: wake-ups, failed starts, name conflicts, shutdown.

A subclass creates, lists and deletes the platform's own objects (containers, Jobs), whose names make slots unique. Its
watch keeps what is known of them up to date in the background; requests that nobody waits for go to worker threads.
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from air_executor.backends.base import Launch, RunnerStatus
from air_executor.backends.container.platform_config import PlatformConfig
from air_executor.backends.container.refusals import ConflictError, MissingError
from air_executor.backends.container.termination import Termination
from air_executor.backends.container.workers import Workers
from air_executor.errors import DuplicateRunnerError, SpawnRejectedError
from air_executor.model import state as s
from air_executor.model.names import Slot

CLOSE_SECONDS = 3.0
"""Longest wait for requests in flight when a manager leaves: it has 5 s for everything that it does then."""


class PlatformConnection(Protocol):
    """The platform's API."""

    def close(self) -> None:
        """Close all connections."""


class PlatformWatch(Protocol):
    """Keeps what is known of a platform up to date."""

    @property
    def last_contact(self) -> float:
        """When that was certain, monotonic seconds."""

    def check(self) -> None:
        """Start to watch, and make sure that what is known is up to date.

        Raises:
            BackendUnavailableError: the platform does not answer.
        """

    def close(self) -> None:
        """Stop watching."""

    def join(self) -> None:
        """Wait a moment for the watch's threads, whose requests end with the connection."""


class SlotCache(Protocol):
    """What is known of the platform's runners."""

    def in_slot(self, slot: Slot) -> object | None:
        """Return the runner of a slot."""


@dataclass(frozen=True, slots=True)
class NameHolder:
    """The object that has a slot's name."""

    instance: str | None
    """The identity of its state directory; None if it isn't a runner."""
    state_dir: str | None
    """That directory, as its manager named it."""
    found: Mapping[str, Any]
    """The object itself."""


class ContainerBackend(abc.ABC):
    """A backend whose runners are named objects of a platform."""

    name: str
    evicts = True
    keeps = True
    object_kind: str
    """What a runner is on the platform, in messages."""

    _watch: PlatformWatch
    _cache: SlotCache

    def __init__(self, connection: PlatformConnection, config: PlatformConfig, workers: int) -> None:
        self._connection = connection
        self._instance = config.instance
        self._lock = threading.Lock()
        """Guards what is known of runners; shared with the watch."""
        self._workers = Workers(workers, self.name)
        self._failed_starts: dict[Slot, RunnerStatus] = {}
        """Runs whose object could not be created, until their slot is removed."""
        self._wakes: list[Callable[[], None]] = []

    def on_change(self, wake: Callable[[], None]) -> None:
        """See `Backend.on_change`."""
        self._wakes.append(wake)

    def last_contact(self) -> float:
        """See `Backend.last_contact`."""
        return self._watch.last_contact

    def close(self) -> None:
        """See `Backend.close`. Requests in flight are finished if the platform answers in time."""
        self._watch.close()
        self._workers.close(CLOSE_SECONDS)
        self._connection.close()
        self._watch.join()

    def _wake(self) -> None:
        for wake in self._wakes:
            wake()

    # Starts

    @abc.abstractmethod
    def _read_holder(self, name: str) -> NameHolder:
        """Return the object that has this name now.

        Raises:
            MissingError: none has.
        """

    def _ensure_free(self, slot: Slot) -> None:
        """Make sure that nothing is known to be in a slot.

        Raises:
            DuplicateRunnerError: a runner is, or one that could not be started.
        """
        with self._lock:
            if slot in self._failed_starts or self._cache.in_slot(slot) is not None:
                raise self._duplicate(slot)

    def _fail_start(self, launch: Launch, message: str, *, permanent: bool = False) -> None:
        """Count a run as started and failed, at the expense of the platform's retries unless it is `permanent`."""
        failure = Termination(reason=s.START_FAILED, message=message, permanent=permanent)
        with self._lock:
            self._failed_starts[launch.slot] = failure.status(launch.run)
        self._wake()

    def _resolve_conflict(
        self, launch: Launch, name: str, conflict: ConflictError, adopt: Callable[[Mapping[str, Any]], bool]
    ) -> None:
        """Find out which object has the slot's name already, and take it in if it is ours.

        Args:
            launch: the run that was to be started.
            name: the name.
            conflict: the platform's refusal.
            adopt: takes in an object of this state directory; tells whether it is the runner of this very run.

        Raises:
            DuplicateRunnerError: it is another run's runner.
            SpawnRejectedError: it isn't this state directory's, and may keep the name for ever.
        """
        try:
            holder = self._read_holder(name)
        except MissingError:
            raise self._duplicate(launch.slot) from conflict  # removed just now
        if holder.instance != self._instance:
            owner = f"of the state directory {holder.state_dir}" if holder.state_dir else "that is not Air-Executor's"
            msg = (
                f"there is a {self.object_kind} {name} {owner}; set AIR_NAME_PREFIX for one of the two, or rename the "
                "job"
            )
            raise SpawnRejectedError(msg) from conflict
        if not adopt(holder.found):
            raise self._duplicate(launch.slot) from conflict

    def _duplicate(self, slot: Slot) -> DuplicateRunnerError:
        return DuplicateRunnerError(f"job {slot.job}: slot {slot.number} still has a {self.object_kind}")

"""What is known of the containers of one state directory: from events, from lists, and from our own requests.

Any of these may be late, so a container only moves forward (created, running, ended, gone), and a removed one stays
removed. Pure: no requests, no threads, no clock. `container_watch` and the backend use it under their lock.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from air_executor.backends.base import RunnerStatus
from air_executor.backends.container.termination import Termination
from air_executor.backends.docker import mount_conflicts
from air_executor.backends.docker.carrier_spec import CARRIER
from air_executor.backends.docker.container_spec import GRACE, IMAGE, LABELS, SERVICE, TASK
from air_executor.backends.docker.mount_conflicts import MountSet
from air_executor.model import state as s
from air_executor.model.names import Slot


class Phase(enum.IntEnum):
    """How far a container has come."""

    CREATED = 0
    RUNNING = 1
    ENDED = 2


_PHASES = {
    "created": Phase.CREATED,
    "running": Phase.RUNNING,
    "paused": Phase.RUNNING,
    "restarting": Phase.RUNNING,
    "removing": Phase.ENDED,
    "exited": Phase.ENDED,
    "dead": Phase.ENDED,
}
_DEFAULT_GRACE = 10.0


@dataclass(slots=True, eq=False)
class Container:
    """One runner's container, or that of a service of its task."""

    id: str
    name: str
    slot: Slot
    run: str
    grace: float
    phase: Phase
    mounts: MountSet
    image: str | None = None
    """With its digest."""
    task: str = ""
    """Id of the task."""
    service: str | None = None
    """Name of the service that it is; None: the runner itself."""
    waits_for: str | None = None
    """What has to happen before it starts, in words."""
    signalled: bool = False
    """The engine was asked to stop it, by whomever."""
    starting: bool = False
    """A start request is queued or in flight. A created container without one is never started by anybody."""
    termination: Termination | None = None
    """Known once it has ended and was inspected."""
    stop_requested_at: float | None = None
    """When its removal was first requested, monotonic seconds."""
    last_signal: str | None = None
    """The last signal sent to it."""
    busy: bool = False
    """A request for its removal is in flight."""
    retry_at: float = 0.0
    """Earliest time of the next removal request after a refusal, monotonic seconds."""
    backoff: float = 0.0

    @property
    def delivers(self) -> bool:
        """Whether it is a carrier that may still deliver what its run has left."""
        return self.service == CARRIER and self.phase is Phase.RUNNING

    @property
    def status(self) -> RunnerStatus:
        """The container as the manager sees it."""
        ended_unseen = self.phase is Phase.ENDED and self.termination is None
        if self.phase is Phase.RUNNING or self.starting or ended_unseen:
            return RunnerStatus(self.run, alive=True, image=self.image, message=self.waits_for)
        return replace((self.termination or Termination()).status(self.run), image=self.image)


class ContainerCache:
    """All containers of one state directory, by id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Container] = {}
        self._gone: set[str] = set()
        """Ids removed while a list was in flight, which may still name them."""
        self._known_before: frozenset[str] = frozenset()
        self._listing = False
        self.missed = False
        """The last list showed an end of which no event had arrived."""

    def by_slot(self) -> Mapping[Slot, Container]:
        """Return the runners by slot. Names are unique, so a slot has one; of two prefixes the live one counts."""
        found: dict[Slot, Container] = {}
        for one in self._by_id.values():
            if one.service is not None:
                continue
            other = found.get(one.slot)
            if other is None or one.phase < other.phase:
                found[one.slot] = one
        return found

    def get(self, container: str) -> Container | None:
        """Return a container by its id."""
        return self._by_id.get(container)

    def in_slot(self, slot: Slot) -> Container | None:
        """Return the container of a slot."""
        return self.by_slot().get(slot)

    def statuses(self) -> dict[Slot, RunnerStatus]:
        """Return every runner as the manager sees it: it has not finished while something is left of its services."""
        found = {slot: one.status for slot, one in self.by_slot().items()}
        for one in self._by_id.values():
            if one.service is None:
                continue
            holds = RunnerStatus(one.run, alive=False, held_by=f"container {one.name}")
            status = found.setdefault(one.slot, holds)
            if one.delivers and not status.alive and status.run == one.run:
                words = "its command has ended, and what it left is being delivered"
                found[one.slot] = RunnerStatus(one.run, alive=True, message=words)
            elif status.finished:
                found[one.slot] = replace(status, finished=False, held_by=holds.held_by)
            elif status.run == one.run and status.alive and status.reason is None and one.termination is not None:
                end = one.termination
                found[one.slot] = replace(status, reason=end.reason, message=end.message, permanent=end.permanent)
        return found

    def left_alone(self) -> list[Container]:
        """Return the carriers whose runner has ended: they have little left to deliver, and may not know it."""
        runners = self.by_slot()
        return [
            one
            for one in self._by_id.values()
            if one.delivers and (runner := runners.get(one.slot)) is not None and runner.phase is Phase.ENDED
        ]

    def to_remove(self, slot: Slot) -> list[Container]:
        """Return what is to be stopped or deleted next of all that is in a slot: the runner's name goes last."""
        runner = self.in_slot(slot)
        services = [one for one in self._by_id.values() if one.service is not None and one.slot == slot]
        if runner is None:
            return services
        if runner.starting:
            return [*services, runner]
        return [runner] if runner.status.alive or not services else services

    def mount_conflict(self, mounts: MountSet) -> str | None:
        """Return what has to end before a container with these mounts may start, in words, or None."""
        for one in self._by_id.values():
            if not one.status.alive:
                continue
            if (path := one.mounts.conflict_with(mounts)) is not None:
                return f"mount {path} waits for a runner that may change what lies there: container {one.name}"
            if one.starting and (path := mounts.conflict_with(one.mounts)) is not None:
                return f"mount {path} is being made for another runner: container {one.name}"
        return None

    def add(self, one: Container) -> Container:
        """Add a container that was created or found; return its entry."""
        return self._by_id.setdefault(one.id, one)

    def drop(self, container: str, *, by_us: bool = False) -> None:
        """Note that a container was removed. A service that somebody else removed stays until we remove it, too."""
        one = self._by_id.get(container)
        if one is not None and one.service is not None and one.stop_requested_at is None and not by_us:
            one.phase, one.starting = Phase.ENDED, False
            message = f"service {one.service} was removed by somebody else"
            one.termination = one.termination or Termination(reason=s.EVICTED, message=message)
            return
        self._by_id.pop(container, None)
        if self._listing:
            self._gone.add(container)

    def advance(self, container: str, phase: Phase) -> Container | None:
        """Note that a container has come this far; return its entry, or None if it is unknown."""
        one = self._by_id.get(container)
        if one is not None and phase > one.phase:
            one.phase = phase
            one.starting = False
        return one

    # Lists

    def begin_list(self) -> None:
        """Remember what is known now: only that can be missing from the list."""
        self._listing, self._gone = True, set()
        self._known_before = frozenset(self._by_id)

    def apply_list(self, listed: Iterable[Mapping[str, Any]]) -> list[Container]:
        """Apply a list of the engine's; return the containers that have ended and must be inspected."""
        seen = set()
        self.missed = False
        for entry in listed:
            one = from_list(entry)
            seen.add(str(entry["Id"]))
            if one is None or one.id in self._gone:
                continue
            known = self.add(one)
            if known is not one:
                self.missed |= known.phase < one.phase is Phase.ENDED
                self.advance(one.id, one.phase)
        for missing in (self._known_before - seen) & self._by_id.keys():
            self.missed |= self._by_id[missing].termination is None or self._by_id[missing].service is None
            self.drop(missing)
        self._listing = False
        return [one for one in self._by_id.values() if one.phase is Phase.ENDED and one.termination is None]

    def abort_list(self) -> None:
        """Note that the list has failed."""
        self._listing = False


def _from_labels(
    container: str, name: str, labels: Mapping[str, str], phase: Phase, mounts: MountSet
) -> Container | None:
    labeled = LABELS.parse(labels)
    if labeled is None:
        return None
    grace = labels.get(GRACE, "")
    seconds = float(grace) if grace.replace(".", "", 1).isdecimal() else _DEFAULT_GRACE
    return Container(
        container,
        name,
        labeled.slot,
        labeled.run,
        seconds,
        phase,
        mounts,
        labels.get(IMAGE),
        task=labels.get(TASK, ""),
        service=labels.get(SERVICE),
    )


def from_list(entry: Mapping[str, Any]) -> Container | None:
    """Return the container that an entry of the engine's list describes; None if its labels aren't a runner's."""
    names = entry.get("Names") or [""]
    phase = _PHASES.get(str(entry.get("State")), Phase.RUNNING)
    mounts = mount_conflicts.mounted(entry.get("Mounts") or ())
    return _from_labels(str(entry["Id"]), str(names[0]).lstrip("/"), entry.get("Labels") or {}, phase, mounts)


def from_inspection(described: Mapping[str, Any]) -> Container | None:
    """Return the container that an inspection describes; None if its labels aren't a runner's."""
    phase = _PHASES.get(str(described["State"].get("Status")), Phase.RUNNING)
    labels = described["Config"].get("Labels") or {}
    mounts = mount_conflicts.mounted(described.get("Mounts") or ())
    return _from_labels(str(described["Id"]), str(described["Name"]).lstrip("/"), labels, phase, mounts)

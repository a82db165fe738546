"""What is known of the containers of one state directory: from events, from lists, and from our own requests.

Each of these may be late, so a container only ever moves forward (created, running, ended, gone), and one that is gone
stays so. Pure: no requests, no threads, no clock; `watcher` and `backend` call it under their lock.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from air_executor.backends.base import RunnerStatus
from air_executor.backends.docker import container_spec, mount_conflicts
from air_executor.backends.docker.mount_conflicts import MountSet
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


@dataclass(slots=True)
class ContainerTermination:
    """How a container ended."""

    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None
    permanent: bool = False
    finished_at: float | None = None


@dataclass(slots=True, eq=False)
class Container:
    """One container of ours."""

    id: str
    name: str
    slot: Slot
    run: str
    grace: float
    phase: Phase
    shares: MountSet
    starting: bool = False
    """We are about to start it; if it is created and we are not, nobody will."""
    ending: ContainerTermination | None = None
    """Known once it has ended and was looked at."""
    asked_at: float | None = None
    """When its end was first asked for, monotonic seconds."""
    told: str | None = None
    """The last signal that it was sent."""
    busy: bool = False
    """A request for its end is under way."""
    leave_until: float = 0.0
    """When its end may be asked for again, monotonic seconds: the engine has refused."""
    backoff: float = 0.0

    @property
    def status(self) -> RunnerStatus:
        """The container as the manager sees it."""
        if self.phase is Phase.RUNNING or self.starting or (self.phase is Phase.ENDED and self.ending is None):
            return RunnerStatus(self.run, alive=True)
        ending = self.ending or ContainerTermination()
        return RunnerStatus(
            self.run,
            alive=False,
            finished=True,
            exit_code=ending.exit_code,
            reason=ending.reason,
            permanent=ending.permanent,
            message=ending.message,
            finished_at=ending.finished_at,
        )


class ContainerCache:
    """All containers of one state directory, by id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Container] = {}
        self._gone: set[str] = set()
        """Ids that went while a list was under way, which may still name them."""
        self._known_before: frozenset[str] = frozenset()
        self._listing = False
        self.missed = False
        """The last list has shown an end that nobody had told us of."""

    def by_slot(self) -> Mapping[Slot, Container]:
        """Return the containers by slot. Names are unique, so a slot has one; of two prefixes the living one counts."""
        found: dict[Slot, Container] = {}
        for one in self._by_id.values():
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

    def in_the_way(self, shares: MountSet) -> str | None:
        """Return what has to end before a container with these mounts may start, in words, or None."""
        for one in self._by_id.values():
            if not one.status.alive:
                continue
            if (path := one.shares.endangers(shares)) is not None:
                return f"mount {path} waits for a runner that may change what lies there: container {one.name}"
            if one.starting and (path := shares.endangers(one.shares)) is not None:
                return f"mount {path} is being made for another runner: container {one.name}"
        return None

    def add(self, one: Container) -> Container:
        """Take in a container that we made or met; return what is known of it."""
        return self._by_id.setdefault(one.id, one)

    def drop(self, container: str) -> None:
        """Take note that a container is gone."""
        self._by_id.pop(container, None)
        if self._listing:
            self._gone.add(container)

    def advance(self, container: str, phase: Phase) -> Container | None:
        """Take note that a container has come this far; return it, or None if it is unknown."""
        one = self._by_id.get(container)
        if one is not None and phase > one.phase:
            one.phase = phase
            one.starting = False
        return one

    def list_begins(self) -> None:
        """Remember what is known now: only what was known before can be missing from a list."""
        self._listing, self._gone = True, set()
        self._known_before = frozenset(self._by_id)

    def list_came(self, listed: Iterable[Mapping[str, Any]]) -> list[Container]:
        """Take in a list of the engine's; return the containers that have ended and must be looked at."""
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
        for missing in self._known_before - seen:
            self.missed |= self._by_id.pop(missing, None) is not None
        self._listing = False
        return [one for one in self._by_id.values() if one.phase is Phase.ENDED and one.ending is None]

    def list_failed(self) -> None:
        """Forget about a list that did not come."""
        self._listing = False


def from_labels(
    container: str, name: str, labels: Mapping[str, str], phase: Phase, shares: MountSet
) -> Container | None:
    """Return the container that labels describe; None if they are not ours."""
    number, grace = labels.get(container_spec.SLOT, ""), labels.get(container_spec.GRACE, "")
    job, run = labels.get(container_spec.JOB), labels.get(container_spec.RUN)
    if not job or not run or not number.isdecimal():
        return None
    seconds = float(grace) if grace.replace(".", "", 1).isdecimal() else 10.0
    return Container(container, name, Slot(job, int(number)), run, seconds, phase, shares)


def from_list(entry: Mapping[str, Any]) -> Container | None:
    """Return the container that an entry of the engine's list describes; None if its labels are not ours."""
    names = entry.get("Names") or [""]
    phase = _PHASES.get(str(entry.get("State")), Phase.RUNNING)
    shares = mount_conflicts.listed(entry.get("Mounts") or ())
    return from_labels(str(entry["Id"]), str(names[0]).lstrip("/"), entry.get("Labels") or {}, phase, shares)


def from_inspection(described: Mapping[str, Any]) -> Container | None:
    """Return the container that an inspection describes; None if its labels are not ours."""
    phase = _PHASES.get(str(described["State"].get("Status")), Phase.RUNNING)
    labels = described["Config"].get("Labels") or {}
    shares = mount_conflicts.listed(described.get("Mounts") or ())
    return from_labels(str(described["Id"]), str(described["Name"]).lstrip("/"), labels, phase, shares)

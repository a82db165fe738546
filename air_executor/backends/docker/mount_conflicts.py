"""Which runs must not overlap because one may change where another's mount leads. Pure; the backend asks.

The engine resolves the source of a mount when it starts the container, later than we have checked that path. A task
that may write to a folder above the source could replace the source with a symlink in between. So such a writer must
not run while a container that mounts something below is started. Once started, a mount stays what it is. Knows
descriptions of mounts, no engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from air_executor.backends.container import inside

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
"""Names that the engine gives to the volumes of one container."""


@dataclass(frozen=True, slots=True)
class MountSet:
    """What a container mounts, as the engine names it: `/path` of the host or `volume:/path`."""

    sources: frozenset[str] = frozenset()
    """What the task asks for."""
    writes: frozenset[str] = frozenset()
    """What the task may write to, its own folders included."""

    def conflict_with(self, other: MountSet) -> str | None:
        """Return a source of `other` that a writer to these mounts could replace, or None."""
        return next((path for path in sorted(other.sources) if any(_below(path, top) for top in self.writes)), None)


def requested(mounts: Iterable[Mapping[str, Any]]) -> MountSet:
    """Return the mounts of a body of the engine's `POST /containers/create`."""
    return _mount_set(
        (
            _location(mount, mount["Source"], (mount.get("VolumeOptions") or {}).get("Subpath", "")),
            mount["Target"],
            not mount.get("ReadOnly"),
        )
        for mount in mounts
        if "Source" in mount
    )


def mounted(mounts: Iterable[Mapping[str, Any]]) -> MountSet:
    """Return the mounts that the engine reports of a container. It doesn't report which part of a volume is mounted."""
    found = (
        mount
        for mount in mounts
        if mount["Type"] == "bind" or (mount["Type"] == "volume" and not _ANONYMOUS.fullmatch(mount["Name"]))
    )
    return _mount_set(
        (
            _location(mount, mount["Name" if mount["Type"] == "volume" else "Source"], ""),
            mount["Destination"],
            mount["RW"],
        )
        for mount in found
    )


def _mount_set(mounts: Iterable[tuple[str, str, bool]]) -> MountSet:
    """Return a set of (location, target, writable). Our own mounts lie in the state directory, where none may lead."""
    known = list(mounts)
    return MountSet(
        frozenset(location for location, target, _ in known if not target.startswith(f"{inside.ROOT}/")),
        frozenset(location for location, _, writable in known if writable),
    )


def _location(mount: Mapping[str, Any], source: str, part: str) -> str:
    return f"{source}:/{part}" if mount["Type"] == "volume" else str(source)


def _below(path: str, top: str) -> bool:
    return path != top and path.startswith(top.rstrip("/") + "/")

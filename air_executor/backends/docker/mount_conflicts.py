"""Which runs must not overlap because one may change where another's mount leads. Pure; `backend.py` asks.

The engine looks up the source of a mount when it starts the container, later than we have checked that path. Who may
write to a folder above the source could put a symlink in its place in between. So such a writer and the start of who
mounts something below keep apart; once started, a mount stays what it is. Knows descriptions of mounts, no engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_OWN = "/air/"
"""Below it lies what every container has: in the state directory, where no mount leads."""


@dataclass(frozen=True, slots=True)
class MountSet:
    """What a container mounts: places as the engine has them, `/path` of the host or `volume:/path`."""

    sources: frozenset[str] = frozenset()
    """What the task asks for."""
    writes: frozenset[str] = frozenset()
    """What it may write to, its own folders included."""

    def endangers(self, other: MountSet) -> str | None:
        """Return a source of `other` that may be swapped by who holds this, or None."""
        return next((path for path in sorted(other.sources) if any(_below(path, top) for top in self.writes)), None)


def asked(mounts: Iterable[Mapping[str, Any]]) -> MountSet:
    """Return what mounts amount to that are written as for the engine's `POST /containers/create`."""
    return _shares(
        (
            _place(mount, mount["Source"], (mount.get("VolumeOptions") or {}).get("Subpath", "")),
            mount["Target"],
            not mount.get("ReadOnly"),
        )
        for mount in mounts
        if mount["Type"] != "tmpfs"
    )


def listed(mounts: Iterable[Mapping[str, Any]]) -> MountSet:
    """Return what mounts amount to that the engine shows of a container. Of a volume it does not show which part."""
    found = (mount for mount in mounts if mount["Type"] in {"bind", "volume"})
    return _shares(
        (_place(mount, mount["Name" if mount["Type"] == "volume" else "Source"], ""), mount["Destination"], mount["RW"])
        for mount in found
    )


def _shares(mounts: Iterable[tuple[str, str, bool]]) -> MountSet:
    known = list(mounts)
    return MountSet(
        frozenset(place for place, target, _ in known if not target.startswith(_OWN)),
        frozenset(place for place, _, writable in known if writable),
    )


def _place(mount: Mapping[str, Any], source: str, part: str) -> str:
    return f"{source}:/{part}" if mount["Type"] == "volume" else str(source)


def _below(path: str, top: str) -> bool:
    return path != top and path.startswith(top.rstrip("/") + "/")

"""Maps our paths to the engine's, which are others when the manager itself runs in a container.

Such a manager inspects its own container: what is mounted where, from which folder of the host or which volume. On the
host both are the same. Used by `container_spec` for every mount.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from air_executor.errors import BadInputError

VOLUME_SUBPATH = (1, 45)
"""First API version that can mount a part of a volume; older ones silently mount all of it."""

_OWN_ID = re.compile(r"/containers/([0-9a-f]{64})/\S+ /etc/(?:hostname|hosts|resolv\.conf) ")


@dataclass(frozen=True, slots=True)
class PathMapping:
    """Translates paths of this process into what the engine mounts."""

    mounts: tuple[tuple[str, str, str], ...] = ()
    """Mounts of our own container: (path in it, `bind` or `volume`, host folder or volume name), longest path first.
    Empty on the host."""

    def locate(self, path: str) -> tuple[str, str, str]:
        """Return what holds a path: (`bind`, host path, "") or (`volume`, its name, path within it).

        Raises:
            BadInputError: it lies in our own container, where no other container can see it.
        """
        path = os.path.realpath(path)
        if not self.mounts:
            return "bind", path, ""
        for top, kind, source in self.mounts:
            if path == top or path.startswith(top.rstrip("/") + "/"):
                rest = path[len(top) :].strip("/")
                if kind == "volume":
                    return "volume", source, rest
                return "bind", f"{source.rstrip('/')}/{rest}".rstrip("/") or "/", ""
        msg = f"{path} lies in the manager's own container, where no runner can see it; mount a folder or volume there"
        raise BadInputError(msg)

    def describe(self, path: str) -> str:
        """Return a path as the engine sees it, in messages and as an identity: the host's path, or `volume:path`."""
        kind, source, rest = self.locate(path)
        return source if kind == "bind" else f"{source}:{rest}"

    def mount(self, path: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
        """Return the engine's description of a mount of `path`, seen at `target`.

        Raises:
            BadInputError: as `locate`.
        """
        kind, source, rest = self.locate(path)
        mount: dict[str, Any] = {"Type": kind, "Source": source, "Target": target, "ReadOnly": read_only}
        if kind == "volume":
            mount["VolumeOptions"] = {"NoCopy": True, **({"Subpath": rest} if rest else {})}
        return mount


def own_container() -> str | None:
    """Return the id of the container that this process runs in, taken from the files that the engine mounts into it."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            found = _OWN_ID.search(file.read())
    except OSError:
        return None
    return found[1] if found else None


def detect(inspect: Callable[[str], Mapping[str, Any] | None], own: str | None) -> PathMapping:
    """Return the path mapping of container `own` (None: of the host); `inspect` returns None for an unknown id."""
    described = None if own is None else inspect(own)
    if described is None:
        return PathMapping()
    mounts = [
        (str(mount["Destination"]), str(mount["Type"]), str(mount["Name" if mount["Type"] == "volume" else "Source"]))
        for mount in described.get("Mounts", ())
        if mount.get("Type") in {"bind", "volume"}
    ]
    return PathMapping(tuple(sorted(mounts, key=lambda mount: -len(mount[0]))))

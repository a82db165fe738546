"""How full the volume of a state directory is, for metrics."""

from __future__ import annotations

import os
from typing import NamedTuple


class Space(NamedTuple):
    """How much room a volume has."""

    size: int
    """Bytes."""
    free: int
    """Bytes that we may still write."""
    files: int
    """How many files it can hold; 0 where it has no such limit."""
    free_files: int
    """How many we may still create."""


def space(folder: str) -> Space | None:
    """Return how much room there is on a folder's volume, or None if the volume does not say."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, found.f_files, found.f_favail)

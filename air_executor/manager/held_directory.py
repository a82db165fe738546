"""Whether a state directory that is no longer at its path was deleted, or moved or unmounted.

A deleted one can be written again from memory. One that was moved exists elsewhere, with all its jobs, so its manager
must not recreate it at the old path. The loop asks before it reacquires the directory. Writes nothing.
"""

from __future__ import annotations

import contextlib
import os

from air_executor.store import files


class HeldDirectory:
    """A state directory, held open so that it is known when its path no longer leads to it."""

    def __init__(self, root: str) -> None:
        """Hold the directory that is at this path now.

        Raises:
            StoreError: it cannot be opened.
        """
        self._root = root
        self._parent = _identity(os.path.dirname(root))
        self._fd = -1
        self.renew()

    def renew(self) -> None:
        """Hold the directory that is at the path now: it was deleted and made again.

        Raises:
            StoreError: it cannot be opened.
        """
        try:
            found = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            files.fail("open", self._root, error)
        self.close()
        self._fd = found

    def has_moved(self) -> bool:
        """Tell whether the directory, or the folder that it was in, is now at another path, or unmounted."""
        if _identity(os.path.dirname(self._root)) != self._parent:
            return True  # also a folder that was copied to another volume and deleted here
        found = os.fstat(self._fd)
        return (found.st_dev, found.st_ino) != _identity(self._root) and found.st_nlink > 0

    def close(self) -> None:
        """Let it go; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _identity(path: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None

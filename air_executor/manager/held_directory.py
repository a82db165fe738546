"""Whether a state directory that is no longer at its path was deleted, or moved or unmounted.

A deleted one can be written again from memory, once nothing deletes there any more. One that was moved exists
elsewhere, with all its jobs, so its manager must not recreate it at the old path. Asked before anything is created that
was there before. Writes nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Iterator

from air_executor.errors import DirectoryLostError, DirectoryMovedError, NotFoundError, StoreError
from air_executor.store import files

SETTLING = 0.25
"""Seconds in which nothing may disappear before the directory counts as no longer being deleted."""
SETTLED_FOR = 1.0
"""Seconds that this answer holds."""
LONGEST = 60.0
"""Seconds after which whatever goes on deleting there is something else: a build, say."""
MOST_WATCHED = 5000
"""Names that are watched."""


class HeldDirectory:
    """A state directory, held open so that it is known when its path no longer leads to it."""

    def __init__(self, root: str) -> None:
        """Note the folder in which the directory is, or will be."""
        self._root = root
        self._folder = os.path.dirname(root)
        self._identity = _identity(self._folder)
        self._fd = -1
        self._settled = self._unsettled_since = -LONGEST

    def renew(self) -> None:
        """Hold the directory that is at the path now: it was made, or deleted and made again.

        Raises:
            StoreError: it cannot be opened.
        """
        try:
            found = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            files.fail("open", self._root, error)
        self.close()
        self._fd = found

    def check(self, why: Exception | None = None) -> None:
        """Check that the directory, and the folder that it is in, are where they were, or deleted.

        Raises:
            DirectoryMovedError: one of them is now at another path, or unmounted.
            NotFoundError: the folder did not exist at the beginning: it may have been moved while this process started.
        """
        if self._identity is None:
            msg = f"{self._folder}: not found; create it, or start the manager where the project is now"
            raise NotFoundError(msg)
        moved = _identity(self._folder) != self._identity  # also if it was copied to another volume and deleted here
        if not moved and self._fd >= 0:
            found = os.fstat(self._fd)
            moved = (found.st_dev, found.st_ino) != _identity(self._root) and found.st_nlink > 0
        if moved:
            msg = f"{self._root} was moved or unmounted; start a manager where it is now"
            raise DirectoryMovedError(msg) from why

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Let what fails because the directory was moved say so; raises as `check`."""
        try:
            yield
        except (StoreError, NotFoundError, DirectoryLostError) as error:
            self.check(error)
            raise

    def check_settled(self) -> None:
        """Check that nothing is deleting there: what is created now would be left over, and alone.

        Raises:
            DirectoryMovedError: as `check`.
            StoreError: something is; ask again later.
        """
        now = time.monotonic()
        if now - self._settled < SETTLED_FOR:
            return
        names = list(itertools.islice(_walk(self._root, self._folder), MOST_WATCHED))
        time.sleep(SETTLING)
        self.check()
        if all(map(os.path.lexists, names)):
            self._settled, self._unsettled_since = time.monotonic(), -LONGEST
            return
        if self._unsettled_since < 0:
            self._unsettled_since = now
        if now - self._unsettled_since < LONGEST:
            msg = f"{self._folder} is being deleted; nothing is written there until that ends"
            raise StoreError(msg)

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


def _walk(*folders: str) -> Iterator[str]:
    """Yield what is in these folders and below, the nearest first, in the order in which it will be deleted."""
    waiting = deque(folders)
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.popleft()) as entries:
            for entry in entries:
                yield entry.path
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)

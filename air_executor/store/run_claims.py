"""Claims of run ids by requests that may come twice: whoever handles such a request creates a run with the same id.

A claim is a folder in `tmp/`, which is renamed into place whole, so that one of several processes decides. It is
needed until the run exists; what a crash leaves is removed with other stale files of `tmp/`.
"""

from __future__ import annotations

import contextlib
import errno
import os

from air_executor.store import files, trees
from air_executor.store.layout import Layout


class RunClaims:
    """The ids that the requests of one uid have tried, in their order."""

    def __init__(self, layout: Layout, uid: str) -> None:
        self._tmp = layout.tmp
        self._path = f"{layout.tmp}/claim-{uid}"
        self._count = 0

    def next(self, proposed: str) -> str:
        """Return the next id to try: the proposed one, or the one that another process has claimed already.

        Raises:
            StoreError: the volume refused.
        """
        path = f"{self._path}-{self._count}"
        self._count += 1
        while True:
            with contextlib.suppress(OSError):
                found = os.listdir(path)
                if found:
                    return found[0]
            if self._take(path, proposed):
                return proposed

    def _take(self, path: str, run: str) -> bool:
        """Claim an id, and tell whether nobody else did so before."""
        staging = f"{self._tmp}/claiming-{files.random_hex(6)}"
        files.restore_dir(self._tmp)
        try:
            os.mkdir(staging)
            os.mkdir(f"{staging}/{run}")
            os.rename(staging, path)
        except OSError as error:
            trees.remove_tree(staging)
            if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
                return False
            files.fail("create", path, error)
        return True

    def drop(self) -> None:
        """Remove the claims: the run exists."""
        for number in range(self._count):
            trees.remove_tree(f"{self._path}-{number}")

    EFFECTS = (_take, drop)
    """What changes the volume; see `files`."""

"""One manager per state directory, proved by a kernel lock on `manager.lock` (for managers of one host).

`Lease` is the interface that the loop uses; `leader` implements it for clusters, where no lock file can be trusted.
`wiring` chooses. Knows nothing of jobs.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Collection
from typing import Protocol

from filelock import FileLock, Timeout

from air_executor.errors import DirectoryLostError, ManagerHeldError, StoreError
from air_executor.manager.status_writer import ManagerRecord
from air_executor.model.names import Host
from air_executor.store import files
from air_executor.store.layout import Layout
from air_executor.store.presence import Presence, read_presence, read_record

log = logging.getLogger(__name__)


class Lease(Protocol):
    """The right to manage one state directory."""

    record: ManagerRecord
    """What its holder writes to `manager.json`."""

    def acquire(self, wait: Callable[[float], bool]) -> bool:
        """Acquire it; a lease that allows standing by waits for it with `wait`.

        Args:
            wait: waits that many seconds, or less, and tells whether to go on.

        Returns: False if `wait` says not to go on.

        Raises:
            ManagerHeldError: another manager has it; the message names it.
            StoreError: the volume refused.
        """

    def check(self) -> None:
        """Check that it is still ours. Cheap: called before everything that another manager must not repeat.

        Raises:
            DirectoryLostError: it was removed or replaced, and another manager may have taken over.
            LeaseUnsureError: that is unknown now.
        """

    def reacquire(self) -> None:
        """Acquire it again after `check` failed.

        Raises:
            ManagerHeldError: another manager has it by now.
            StoreError: the volume refused, or the answer is unknown now.
        """

    def release(self) -> None:
        """Release it."""


class FileLease:
    """The lock on one state directory."""

    def __init__(self, layout: Layout, host: Host, only: Collection[str] | None = None) -> None:
        """`only`: the jobs that this manager is limited to; None: all."""
        self._layout = layout
        self._lock = FileLock(layout.lock, timeout=0)
        self._inode: tuple[int, int] | None = None
        self.record = ManagerRecord(layout, host, "file", only)

    def acquire(self, wait: Callable[[float], bool] | None = None) -> bool:  # noqa: ARG002 - nobody stands by for a lock
        """Acquire the lock.

        Raises:
            ManagerHeldError: another manager has it, or one with a Lease is running; the message names it.
            StoreError: the volume refused.
        """
        try:
            self._make_way()
            self._lock.acquire()
            info = os.stat(self._layout.lock)
        except Timeout as error:
            raise _held(self._layout, Presence(running=True, record=read_record(self._layout))) from error
        except OSError as error:
            files.fail("lock", self._layout.lock, error)
        self._inode = (info.st_ino, info.st_dev)
        try:
            self.record.begin()
        except BaseException:
            self._lock.release(force=True)
            raise
        return True

    def _make_way(self) -> None:
        """Move away what is no regular file in the place of the lock, which nobody can hold."""
        path = self._layout.lock
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            log.error("%s: not a regular file; moved to %s", path, files.quarantine(path))

    def check(self) -> None:
        """Check that the lock we hold is still the one at its path.

        Raises:
            DirectoryLostError: it was removed or replaced, and another manager may have taken over.
        """
        if not self._in_place:
            msg = f"{self._layout.lock} was removed or replaced"
            raise DirectoryLostError(msg)
        self.record.check()

    @property
    def _in_place(self) -> bool:
        """Whether the lock we hold is the one at its path."""
        try:
            info = os.stat(self._layout.lock)
        except OSError:
            return False
        return (info.st_ino, info.st_dev) == self._inode

    def reacquire(self) -> None:
        """Acquire the lock again after `check` failed; one that is in place is kept, or another manager might take it.

        Raises:
            ManagerHeldError: another manager has it by now.
        """
        if not self._in_place:
            self._lock.release(force=True)
        files.restore_dir(self._layout.root)
        self.acquire()

    def release(self) -> None:
        """Release the lock."""
        try:
            self.check()
        except (DirectoryLostError, StoreError):
            return  # not ours any more; the exit of this process closes the descriptor
        self._lock.release(force=True)


def refuse_second(layout: Layout) -> None:
    """Refuse if a manager with a lock file is seen to run, before anything else is started; `acquire` alone is certain.

    Raises:
        ManagerHeldError: one is.
    """
    other = read_presence(layout)
    if other.running and other.record.get("kind", "file") == "file":  # of one with a Lease, `acquire` says what to do
        raise _held(layout, other)


def _held(layout: Layout, other: Presence) -> ManagerHeldError:
    name = other.who if other.record else "another process"
    what_to_do = "stop it first, or just submit: it will take the job"
    if other.only is not None:
        what_to_do = f"it handles only {', '.join(other.only)}; wait until it exits, or stop it first"
    return ManagerHeldError(f"{layout.root} is already managed by {name}; {what_to_do}")

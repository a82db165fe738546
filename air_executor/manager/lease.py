"""One manager per state directory, proved by a kernel lock on `manager.lock` (for one host).

`Lease` is what the manager asks of such a proof; `leader` has the one for clusters, where no lock file can be trusted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from filelock import FileLock, Timeout

from air_executor.errors import DirectoryLostError, ManagerHeldError, StoreError
from air_executor.manager.manager_record import ManagerRecord
from air_executor.model.names import Host
from air_executor.store import files
from air_executor.store.layout import Layout
from air_executor.store.presence import Presence, read_record


class Lease(Protocol):
    """The right to manage one state directory."""

    def acquire(self, wait: Callable[[float], bool]) -> bool:
        """Take it; a lease of which somebody may stand by waits for it with `wait`.

        Args:
            wait: waits for so many seconds, or less, and tells whether to go on.

        Returns: False if told not to go on.

        Raises:
            ManagerHeldError: another manager has it; the message says who.
            StoreError: the volume refused.
        """

    def announce(self, epoch: int, version: str, now: float, facts: Mapping[str, Any], *, until: bool = False) -> None:
        """Write `manager.json`, with what else this manager has to tell.

        Raises:
            StoreError: the volume refused.
        """

    def check(self) -> None:
        """Check that it is still ours. Cheap: called before whatever another manager must not see done twice.

        Raises:
            DirectoryLostError: it is not: somebody removed it, and another manager may have taken over.
            LeaseUnsureError: that cannot be told now.
        """

    def retake(self) -> None:
        """Take it anew after `check` failed.

        Raises:
            ManagerHeldError: another manager has it by now.
            StoreError: the volume refused, or it cannot be told now.
        """

    def release(self) -> None:
        """Let go of it."""


class FileLease:
    """The lock on one state directory."""

    def __init__(self, layout: Layout, host: Host, only: Collection[str] | None = None) -> None:
        """`only` are the jobs for whose sake the directory is taken; None: for all."""
        self._layout = layout
        self._lock = FileLock(layout.lock, timeout=0)
        self._inode: tuple[int, int] | None = None
        self._record = ManagerRecord(layout, host, "file", only)

    def acquire(self, wait: Callable[[float], bool] | None = None) -> bool:  # noqa: ARG002 - nobody stands by for a lock
        """Take the lock.

        Raises:
            ManagerHeldError: another manager has it, or one with a Lease is at work; the message says who.
            StoreError: the volume refused.
        """
        try:
            self._lock.acquire()
            info = os.stat(self._layout.lock)
        except Timeout as error:
            other = Presence(running=True, record=read_record(self._layout))
            name = other.who if other.record else "another process"
            what_to_do = "stop it first, or just submit: it will take the job"
            if other.only is not None:
                what_to_do = f"it sees only {', '.join(other.only)} through; wait until it has left, or stop it first"
            msg = f"{self._layout.root} is already managed by {name}; {what_to_do}"
            raise ManagerHeldError(msg) from error
        except OSError as error:
            files.fail("lock", self._layout.lock, error)
        self._inode = (info.st_ino, info.st_dev)
        try:
            self._record.begin()
        except BaseException:
            self._lock.release(force=True)
            raise
        return True

    def announce(self, epoch: int, version: str, now: float, facts: Mapping[str, Any], *, until: bool = False) -> None:
        """Write `manager.json`, with what else this manager has to tell.

        Raises:
            StoreError: the volume refused.
        """
        self._record.write(epoch, version, now, facts, until=until)

    def check(self) -> None:
        """Check that the lock we hold is still the one at its path.

        Raises:
            DirectoryLostError: it is not: somebody removed it, and another manager may have taken over.
        """
        try:
            info = os.stat(self._layout.lock)
        except OSError:
            info = None
        if info is None or (info.st_ino, info.st_dev) != self._inode:
            msg = f"{self._layout.lock} is gone or was replaced"
            raise DirectoryLostError(msg)
        self._record.check()

    def retake(self) -> None:
        """Take the lock anew after `check` failed.

        Raises:
            ManagerHeldError: another manager has it by now.
        """
        self._lock.release(force=True)
        files.make_dir(self._layout.root)
        self.acquire()

    def release(self) -> None:
        """Let go of the lock."""
        try:
            self.check()
        except (DirectoryLostError, StoreError):
            return  # not ours any more: closing the descriptor at exit is all there is to do
        self._lock.release(force=True)

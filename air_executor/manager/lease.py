"""One manager per state directory, proved by a kernel lock on `manager.lock` (for one host).

`manager.json` says who it is, for people and for managers of another kind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import Any

from filelock import FileLock, Timeout

from air_executor.core.names import Host
from air_executor.core.times import to_text
from air_executor.errors import DirectoryLostError, ManagerHeldError, StoreError
from air_executor.store import files
from air_executor.store.layout import Layout
from air_executor.store.presence import Presence, pid_namespace, read_record

KIND = "file"


class FileLease:
    """The lock on one state directory."""

    def __init__(self, layout: Layout, host: Host, only: Collection[str] | None = None) -> None:
        """`only` are the jobs for whose sake the directory is taken; None: for all."""
        self._layout = layout
        self._only = only
        self._host = host
        self._lock = FileLock(layout.lock, timeout=0)
        self._inode: tuple[int, int] | None = None
        self._record: dict[str, Any] = {}

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            ManagerHeldError: another manager has it; the message says who.
            StoreError: the volume refused.
        """
        held = read_record(self._layout)
        if held.get("kind", KIND) != KIND and not held.get("until"):
            msg = f"{self._layout.root} is managed through {held['kind']!r}, not a lock file; stop that manager first"
            raise ManagerHeldError(msg)
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

    def announce(self, epoch: int, version: str, now: float, facts: Mapping[str, Any], *, until: bool = False) -> None:
        """Write `manager.json`, with what else this manager has to tell.

        Raises:
            StoreError: the volume refused.
        """
        if not self._record or self._record["epoch"] != epoch:
            since = to_text(now)
            self._record = {"kind": KIND, "host": self._host.name, "pid": os.getpid(), "boot": self._host.boot}
            self._record |= {"pid_namespace": pid_namespace(), "epoch": epoch, "version": version, "since": since}
        only = None if self._only is None else sorted(self._only)
        record = self._record | {"only": only, "until": to_text(now) if until else None, **facts}
        files.replace(
            self._layout.manager, (json.dumps(record, indent=2) + "\n").encode(), self._layout.tmp, sync=until
        )

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

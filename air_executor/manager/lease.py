"""One manager per state directory, proved by a kernel lock on `manager.lock` (for one host).

`manager.json` says who it is, for people and for managers of another kind.
"""

from __future__ import annotations

import json
import os
from typing import Any

from filelock import FileLock, Timeout

from air_executor.core.names import Host
from air_executor.core.times import to_text
from air_executor.errors import CorruptFileError, DirectoryLostError, ManagerHeldError, StoreError
from air_executor.store import files
from air_executor.store.layout import Layout

KIND = "file"
MAX_RECORD = 1024 * 1024


def read_record(layout: Layout) -> dict[str, Any]:
    """Return what `manager.json` says; empty if there is none or it is unreadable."""
    try:
        found = files.read(layout.manager, MAX_RECORD)
        raw = {} if found is None else json.loads(found[0])
    except (CorruptFileError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


class FileLease:
    """The lock on one state directory."""

    def __init__(self, layout: Layout, host: Host) -> None:
        self._layout = layout
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
            who = read_record(self._layout)
            name = f"pid {who.get('pid')} on {who.get('host')}, since {who.get('since')}" if who else "another process"
            msg = (
                f"{self._layout.root} is already managed by {name}; stop it first, or just submit: it will take the job"
            )
            raise ManagerHeldError(msg) from error
        except OSError as error:
            files.fail("lock", self._layout.lock, error)
        self._inode = (info.st_ino, info.st_dev)

    def announce(
        self, epoch: int, version: str, now: float, problems: list[str] | None = None, *, until: bool = False
    ) -> None:
        """Write `manager.json`.

        Raises:
            StoreError: the volume refused.
        """
        if not self._record or self._record["epoch"] != epoch:
            since = to_text(now)
            self._record = {"kind": KIND, "host": self._host.name, "pid": os.getpid(), "boot": self._host.boot}
            self._record |= {"epoch": epoch, "version": version, "since": since}
        record = self._record | {"until": to_text(now) if until else None, "problems": problems or []}
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

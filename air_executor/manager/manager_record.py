"""`manager.json`: who manages a state directory and through which kind of lock, for people and for the other kind.

Two managers of one kind keep each other out by their lock. A lock file and a record on a server do not know of each
other, so these two meet here: whoever begins refuses while a manager of the other kind is at work, says so before it
reads anything else, and leaves when somebody has written over what it said. Both kinds of lease keep one of these.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping
from typing import Any

from air_executor.errors import DirectoryLostError, ManagerHeldError
from air_executor.model.names import Host
from air_executor.model.times import to_text
from air_executor.store import files
from air_executor.store.layout import Layout
from air_executor.store.presence import pid_namespace, read_presence, read_record

KINDS = {"file": "a lock file", "lease": "a Lease"}


class ManagerRecord:
    """What one manager says of itself."""

    def __init__(self, layout: Layout, host: Host, kind: str, only: Collection[str] | None) -> None:
        """`only` are the jobs for whose sake the directory is taken; None: for all."""
        self._layout = layout
        self._kind = kind
        self._only = only
        self._me = {"kind": kind, "host": host.name, "pid": os.getpid(), "boot": host.boot}
        self._me["pid_namespace"] = pid_namespace()
        self._since: tuple[int, str] | None = None
        """Our epoch, and since when it is."""
        self._written: tuple[int, int] | None = None
        """What tells the file that we wrote from any other."""

    def begin(self) -> None:
        """Say that we are at work here; called with the lock in hand, before anything else is read.

        Raises:
            ManagerHeldError: a manager of the other kind is, or was until it crashed.
            StoreError: the volume refused.
        """
        presence = read_presence(self._layout)
        found = presence.record
        kind = found.get("kind", self._kind)
        if kind != self._kind and not found.get("until") and presence.running is not False:
            msg = (
                f"{self._layout.root} is managed by {presence.who} through {KINDS.get(kind, repr(kind))}, not through "
                f"{KINDS[self._kind]}; stop that manager first (if it is gone for certain: rm {self._layout.manager})"
            )
            raise ManagerHeldError(msg)
        files.make_dir(self._layout.tmp)
        epoch = found.get("epoch") or (self._since[0] if self._since else 0)
        self._put({**self._me, "epoch": epoch, "since": to_text(time.time()), "until": None}, self._layout.tmp)

    def write(self, epoch: int, version: str, now: float, facts: Mapping[str, Any], *, until: bool = False) -> None:
        """Write the whole record; the facts are what else this manager has to tell, `until` that it leaves now.

        Raises:
            StoreError: the volume refused, or a later manager has taken away our place to write.
        """
        if self._since is None or self._since[0] != epoch:
            self._since = epoch, to_text(now)
        record = {**self._me, "epoch": epoch, "version": version, "since": self._since[1]}
        record["only"] = None if self._only is None else sorted(self._only)
        record["until"] = to_text(now) if until else None
        # Built where a manager that was paused and replaced can build nothing any more.
        self._put(record | dict(facts), self._layout.epoch_tmp(epoch), sync=until)

    def check(self) -> None:
        """Check that nobody else has written the record since; that it was removed is no matter.

        Raises:
            DirectoryLostError: somebody has.
        """
        written = self._stamp()
        if written in (None, self._written):
            return
        record = read_record(self._layout)
        if any(record.get(name) != value for name, value in self._me.items()):
            msg = f"{self._layout.manager} was written by another manager"
            raise DirectoryLostError(msg)
        self._written = written

    def _put(self, record: Mapping[str, Any], aside: str, *, sync: bool = False) -> None:
        files.replace(self._layout.manager, (json.dumps(record, indent=2) + "\n").encode(), aside, sync=sync)
        self._written = self._stamp()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            info = os.stat(self._layout.manager)
        except OSError:
            return None
        return info.st_ino, info.st_mtime_ns

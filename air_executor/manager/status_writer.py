"""`manager.json`: who manages a state directory, through which kind of lock, and what users should know.

Two managers of one kind keep each other out by their lock. A lock file and a Lease don't know of each other, so these
two meet in this file: a manager refuses to start while one of the other kind is running, writes itself here before it
reads anything else, and stops once another one has written here. Both kinds of lease own a `ManagerRecord`. The
`StatusWriter` adds problems, a backend that doesn't answer and what tasks wait for; the loop and the request handler
call it. Decides nothing.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from air_executor.errors import DirectoryLostError, ManagerHeldError
from air_executor.model.names import Host
from air_executor.model.records import BackendStatus, ManagerFile
from air_executor.model.times import to_text
from air_executor.model.types import fit
from air_executor.store import files
from air_executor.store.layout import Layout
from air_executor.store.presence import pid_namespace, read_presence, read_record

if TYPE_CHECKING:
    from air_executor.manager.manager_state import ManagerState
    from air_executor.manager.open_runs import OpenRuns
    from air_executor.manager.scheduler import Scheduler

log = logging.getLogger(__name__)

BEAT = 10.0
"""Seconds between two writes of a manager with a Lease that has nothing to say but that it is running."""
MOST_PROBLEMS = 1000
"""Problems that the record names: each is read by everybody who asks for the status."""
KINDS = {"file": "a lock file", "lease": "a Lease"}


class ManagerRecord:
    """One manager's own record in `manager.json`."""

    def __init__(self, layout: Layout, host: Host, kind: str, only: Collection[str] | None) -> None:
        """`only`: the jobs that this manager is limited to; None: all."""
        self._layout = layout
        self._kind = kind
        self._only = only
        self.lease: str | None = None
        """Uid of the Lease that we hold."""
        self._me: dict[str, Any] = {"kind": kind, "host": host.name, "pid": os.getpid(), "boot": host.boot}
        self._me["pid_namespace"] = pid_namespace()
        self._since: tuple[int, str] | None = None
        """Our epoch, and when it began."""
        self._written: tuple[int, int] | None = None
        """Inode and modification time of the file that we wrote."""

    def begin(self) -> None:
        """Write that we manage this directory; called with the lock in hand, before anything else is read.

        Raises:
            ManagerHeldError: a manager of the other kind is running, or was until it crashed.
            StoreError: the volume refused.
        """
        presence = read_presence(self._layout)
        found = presence.record
        kind = found.get("kind", self._kind)
        seen = kind == "lease" or presence.running is not False  # a silent holder of a Lease may be back at any time
        if kind != self._kind and not found.get("until") and seen:
            msg = (
                f"{self._layout.root} is managed by {presence.who} through {KINDS.get(kind, repr(kind))}, not through "
                f"{KINDS[self._kind]}; stop that manager first (if it no longer exists: rm {self._layout.manager})"
            )
            raise ManagerHeldError(msg)
        if self.lease is not None and found.get("lease") not in (None, self.lease):
            msg = (
                f"{self._layout.root} belongs to a manager with another Lease (uid {found['lease']}, not "
                f"{self.lease}): {presence.who}, in another cluster or namespace, where its tasks may still run; "
                f"stop it there with all runners (if that cluster or Lease no longer exists: rm {self._layout.manager})"
            )
            raise ManagerHeldError(msg)
        files.restore_dir(self._layout.tmp)
        epoch = found.get("epoch") or (self._since[0] if self._since else 0)
        begun = ManagerFile(**self._me, lease=self.lease, epoch=epoch, since=to_text(time.time()))
        self._put(begun, self._layout.tmp)

    @property
    def beats(self) -> bool:
        """Whether nothing but its writes shows that this manager is running."""
        return self.lease is not None

    def write(self, epoch: int, version: str, now: float, facts: Mapping[str, Any], *, until: bool = False) -> None:
        """Write the whole record with these facts; `until`: this manager exits now.

        Raises:
            StoreError: the volume refused, or a later manager has removed our staging directory.
        """
        if self._since is None or self._since[0] != epoch:
            self._since = epoch, to_text(now)
        record = ManagerFile(
            **self._me,
            epoch=epoch,
            version=version,
            since=self._since[1],
            only=None if self._only is None else sorted(self._only),
            until=to_text(now) if until else None,
            **facts,
        )
        # Built where a manager that was paused and replaced can build nothing any more.
        self._put(record, self._layout.epoch_tmp(epoch), sync=until)

    def check(self) -> None:
        """Check that nobody else has written the record since; a removed record is fine.

        Raises:
            DirectoryLostError: another manager has.
        """
        written = self._stamp()
        if written in (None, self._written):
            return
        record = read_record(self._layout)
        if any(record.get(name) != value for name, value in self._me.items()):
            msg = f"{self._layout.manager} was written by another manager"
            raise DirectoryLostError(msg)
        self._written = written

    def _put(self, record: ManagerFile, staging: str, *, sync: bool = False) -> None:
        files.replace_own(
            self._layout.manager, (json.dumps(asdict(record), indent=2) + "\n").encode(), staging, sync=sync
        )
        self._written = self._stamp()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            info = os.stat(self._layout.manager)
        except OSError:
            return None
        return info.st_ino, info.st_mtime_ns


class StatusWriter:
    """Publishes what users should know of one running manager."""

    def __init__(
        self,
        record: ManagerRecord,
        state: ManagerState,
        open_runs: OpenRuns,
        scheduler: Scheduler,
        *,
        backend: str,
    ) -> None:
        self._record = record
        self._state = state
        self._open_runs = open_runs
        self._scheduler = scheduler
        self._backend = backend
        self._published: tuple[Mapping[str, Any], float] = ({}, 0.0)
        """The facts published last, and when by the steady clock."""

    @property
    def problems(self) -> list[str]:
        """What was found so far, and what is wrong with files that are followed."""
        return [*self._state.problems, *self._state.rejected_files.values()][-MOST_PROBLEMS:]

    def publish(self, *, until: bool = False) -> None:
        """Write the record; `until`: this manager exits now.

        Raises:
            StoreError: the volume refused.
        """
        clock = self._state.clock
        runners_left = self._open_runs.observed is None or self._open_runs.taken() > 0
        facts = {
            "lease": self._record.lease if runners_left or not until else None,
            "problems": [fit(problem) for problem in self.problems],
            "backend": BackendStatus(name=self._backend, problem=self._open_runs.backend_problem),
            "waiting": self._waiting,
            "undelivered": {name: fit(text) for name, text in self._state.outbox.problems().items()},
            "page": self._state.options.page,
            "max_runners": self._state.options.max_runners,
            "pools": dict(self._state.options.pools),
            "reserved": self._reserved,
        }
        self._published = facts, clock.steady()
        version = self._state.options.version
        self._record.write(self._state.journal.epoch, version, clock.wall(), facts, until=until)

    def publish_news(self) -> None:
        """Publish what has changed; progress of downloads, which changes all the time, once per poll interval.

        Raises:
            StoreError: the volume refused.
        """
        facts, when = self._published
        if facts["problems"] != [fit(problem) for problem in self.problems]:
            self.publish()
        news = (
            facts["lease"] != self._record.lease
            or facts["backend"].problem != self._open_runs.backend_problem
            or facts["waiting"] != self._waiting
            or facts["reserved"] != self._reserved
            or facts["undelivered"] != self._state.outbox.problems()
        )
        silent_for = self._state.clock.steady() - when
        if (news and silent_for >= self._state.options.poll_interval) or (self._record.beats and silent_for >= BEAT):
            self.publish()

    @property
    def _reserved(self) -> dict[str, str]:
        found = self._state.index.ready_queue.reserved
        return {pool: f"{task} of job {job}" for pool, (job, task) in found.items()}

    @property
    def _waiting(self) -> dict[str, str]:
        return self._open_runs.waiting | self._scheduler.waiting

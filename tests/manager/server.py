"""A server that keeps one record of who manages, in memory: it fails, and loses answers, as its test says."""

from __future__ import annotations

import threading
from dataclasses import replace

from air_executor.backends.lease_record import LeaseSnapshot
from air_executor.errors import BackendUnavailableError
from air_executor.manager.leader import LeaderLease
from air_executor.model.names import Host
from air_executor.store.layout import Layout


class Server:
    """The record, and a clock by which nothing moves unless the test says so."""

    name = "the record"

    def __init__(self) -> None:
        self.now = 5000.0
        self.found: LeaseSnapshot | None = None
        self.writes: list[str] = []
        """Who wrote, in order; empty for a release."""
        self.silent = False
        self.loses_answers = False
        """Writes are done, and nobody learns of it."""
        self._made = 0
        self._lock = threading.Lock()

    def clock(self) -> float:
        """Return seconds."""
        return self.now

    def read(self) -> LeaseSnapshot | None:
        """As the protocol says."""
        self._answer()
        return self.found

    def write(self, holder: str, before: LeaseSnapshot | None, lasts: float) -> LeaseSnapshot | None:
        """As the protocol says."""
        self._answer()
        with self._lock:
            if before != self.found:
                return None
            self.writes.append(holder)
            self.found = LeaseSnapshot(holder, str(len(self.writes)), lasts > 1, self._uid())
        if self.loses_answers:
            raise BackendUnavailableError("the answer was lost")
        return self.found

    def _uid(self) -> str:
        """Return the record's uid: a new one if it is created now."""
        if self.found is None:
            self._made += 1
        return f"{id(self):x}-{self._made}"

    def touch(self, holder: str) -> None:
        """Write as a manager that is not of this process."""
        self.writes.append(holder)
        self.found = replace(self.found or LeaseSnapshot(holder, ""), holder=holder, version=str(len(self.writes)))

    def lease(self, layout: Layout, host: str = "here", *, stands_by: bool = True) -> LeaderLease:
        """Return one manager's lease."""
        return LeaderLease(layout, Host(host, "boot"), self, stands_by=stands_by, clock=self.clock)

    def _answer(self) -> None:
        if self.silent:
            raise BackendUnavailableError("the server is silent")

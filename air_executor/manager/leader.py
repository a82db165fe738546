"""One manager per state directory where no lock file can be trusted: a record on a server, renewed or lost.

The same interface as `FileLease`; `wiring` hands in where the record is (a Lease object of Kubernetes). Clocks of two
hosts are never compared: a candidate takes over when the record has not changed for `LEASE` seconds of its own clock,
and whoever holds it stops acting `RENEW_WITHIN` seconds after the last renewal that it knows of, which is earlier.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from air_executor.backends.lease_record import LeaseRecord, LeaseSnapshot
from air_executor.errors import BackendUnavailableError, DirectoryLostError, LeaseUnsureError, ManagerHeldError
from air_executor.manager.manager_record import ManagerRecord
from air_executor.model.names import Host
from air_executor.store import files
from air_executor.store.layout import Layout

log = logging.getLogger(__name__)

KIND = "lease"
LEASE = 15.0
"""Seconds without a change after which a candidate may take the record."""
RENEW_WITHIN = 10.0
"""Seconds after the last renewal in which its holder may act; the rest of `LEASE` is for what is under way then."""
RENEW_EVERY = 5.0
RETRY_EVERY = 2.0
"""Seconds between a candidate's looks, and between a holder's tries while a renewal fails."""


def monotonic() -> float:
    """Return seconds of a clock that nobody sets and that also counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class TakeoverTimer:
    """How long one who does not hold the record has to wait for it: pure, from what was seen and when."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._seen = ""
        self._since = 0.0

    def left(self, found: LeaseSnapshot | None, now: float) -> float:
        """Return for how many seconds the record must stay as it was found before it may be taken; 0: take it now."""
        if found is None or found.holder in {"", self._me}:
            return 0.0
        if found.version != self._seen:
            self._seen, self._since = found.version, now
        return max(0.0, self._since + LEASE - now)


class LeaderLease:
    """The right to manage one state directory, kept as a record on a server."""

    def __init__(
        self,
        layout: Layout,
        host: Host,
        record: LeaseRecord,
        *,
        stands_by: bool,
        only: Collection[str] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`stands_by`: wait while another manager holds it, instead of refusing. `only`: as for `FileLease`."""
        self._layout = layout
        self._server = record
        self._stands_by = stands_by
        self._clock = clock
        self._record = ManagerRecord(layout, host, KIND, only)
        self._me = f"{host.name}_{files.random_hex(4)}"
        self._lock = threading.Lock()
        """Guards the four below, which the renewing thread changes."""
        self._held: LeaseSnapshot | None = None
        self._renewed = 0.0
        """When the last renewal that worked was asked for."""
        self._failing: str | None = None
        """Why the last one did not work."""
        self._lost: str | None = None
        """How we know that the record is ours no more."""
        self._closed = threading.Event()
        self._renewing: threading.Thread | None = None

    # Taking it

    def acquire(self, wait: Callable[[float], bool]) -> bool:
        """Take the record, standing by until it can be had where we may.

        Args:
            wait: waits for so many seconds, or less, and tells whether to go on.

        Returns: False if told not to go on.

        Raises:
            ManagerHeldError: another manager has it and we do not stand by, or one with a lock file is at work.
            StoreError: the volume refused.
        """
        patience, told = TakeoverTimer(self._me), ""
        while True:
            try:
                found = self._server.read()
                left = patience.left(found, self._clock())
                if left <= 0.0 and self._take(found):
                    break
                pause = min(left or RETRY_EVERY, RETRY_EVERY)
                news = "" if found is None or left <= 0.0 else f"{found.holder} holds {self._server.name}"
            except BackendUnavailableError as error:
                pause, news = RETRY_EVERY, str(error)
            if news and not self._stands_by:
                msg = f"{self._layout.root} cannot be managed from here: {news}"
                raise ManagerHeldError(msg)
            if news not in {"", told}:
                log.info("standing by: %s", news)
                told = news
            if not wait(pause):
                return False
        try:
            self._record.begin()
        except BaseException:
            self._give_back()
            raise
        self._renewing = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
        self._renewing.start()
        log.info("holding %s as %s", self._server.name, self._me)
        return True

    def _take(self, found: LeaseSnapshot | None) -> bool:
        asked = self._clock()
        held = self._server.write(self._me, found, LEASE)
        if held is not None:
            self._note(held, asked)
        return held is not None

    def _note(self, held: LeaseSnapshot, asked: float) -> None:
        with self._lock:
            self._held, self._renewed, self._failing = held, asked, None

    # Having it

    def announce(self, epoch: int, version: str, now: float, facts: Mapping[str, Any], *, until: bool = False) -> None:
        """Write `manager.json`, with what else this manager has to tell; raises as `ManagerRecord.write`."""
        self._record.write(epoch, version, now, facts, until=until)

    def check(self) -> None:
        """Check that nobody else can have taken the record by now.

        Raises:
            LeaseUnsureError: it was not renewed in time. Temporary: nothing may be done until it is.
            DirectoryLostError: another manager holds it, or one with a lock file has come.
        """
        with self._lock:
            lost, failing, age = self._lost, self._failing, self._clock() - self._renewed
        if lost is not None:
            raise DirectoryLostError(lost)
        if age > RENEW_WITHIN:
            msg = f"{self._server.name} was last renewed {age:.0f} s ago, so that another manager may take it"
            raise LeaseUnsureError(f"{msg} ({failing})" if failing else msg)
        self._record.check()

    def retake(self) -> None:
        """Make sure that the directory is ours after `check` failed.

        Raises:
            ManagerHeldError: another manager has it by now.
            LeaseUnsureError: that cannot be told now.
        """
        if self._lost is not None:
            msg = f"{self._layout.root} is not ours to manage any more: {self._lost}"
            raise ManagerHeldError(msg)
        files.make_dir(self._layout.root)
        self._record.begin()
        self.check()

    def _keep_renewing(self) -> None:
        while self._lost is None and not self._closed.wait(RENEW_EVERY if self._failing is None else RETRY_EVERY):
            try:
                self._renew()
            except BackendUnavailableError as error:
                if self._failing is None:
                    log.warning("%s cannot be renewed: %s", self._server.name, error)
                self._failing = str(error)

    def _renew(self) -> None:
        asked = self._clock()
        held = self._server.write(self._me, self._held, LEASE)
        if held is None:  # another manager's doing, or a renewal of ours whose answer was lost
            asked = self._clock()
            held = self._server.read()
        if held is not None and held.holder == self._me:
            self._note(held, asked)
            return
        with self._lock:
            self._lost = f"{self._server.name} is held by {(held and held.holder) or 'nobody'}"
        log.error("%s", self._lost)

    # Letting go

    def release(self) -> None:
        """Let go of the record, so that the next manager need not wait."""
        self._closed.set()
        if self._renewing is not None:
            self._renewing.join(RENEW_WITHIN)
            if self._renewing.is_alive():
                return  # it still waits for an answer; the record runs out by itself
        self._give_back()

    def _give_back(self) -> None:
        if self._held is None or self._lost is not None:
            return
        try:
            self._server.write("", self._held, 1.0)
        except BackendUnavailableError as error:
            log.info("%s was not given back: %s", self._server.name, error)
        self._held = None

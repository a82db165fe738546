"""One manager per state directory where no lock file can be trusted: a record on a server, renewed or lost.

Implements `Lease` for the loop, as `FileLease` does; `wiring` passes in the record (a Lease object of Kubernetes). The
clocks of two hosts are never compared: a candidate takes over once the record has not changed for `LEASE` seconds of
its own clock, and the holder stops acting `RENEW_WITHIN` seconds after its last known renewal, which is earlier. Knows
no API.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

from air_executor.backends.lease_record import LeaseRecord, LeaseSnapshot
from air_executor.errors import BackendUnavailableError, DirectoryLostError, LeaseUnsureError, ManagerHeldError
from air_executor.manager.clock import steady
from air_executor.manager.status_writer import ManagerRecord
from air_executor.model.names import Host
from air_executor.store import files
from air_executor.store.layout import Layout

log = logging.getLogger(__name__)

KIND = "lease"
LEASE = 15.0
"""Seconds without a change after which a candidate may take the record."""
RENEW_WITHIN = 10.0
"""Seconds after the last renewal in which the holder may act; the rest of `LEASE` is for actions under way then."""
RENEW_EVERY = 5.0
RETRY_EVERY = 2.0
"""Seconds between two reads of a candidate, and between two attempts of a holder while renewals fail."""


class TakeoverTimer:
    """How long a candidate has to wait for the record: pure, from what it read and when."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._seen = ""
        self._since = 0.0

    def left(self, found: LeaseSnapshot | None, now: float) -> float:
        """Return the seconds for which the record must stay unchanged before it may be taken; 0: take it now."""
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
        clock: Callable[[], float] = steady,
    ) -> None:
        """`stands_by`: wait while another manager holds it, instead of refusing. `only`: as for `FileLease`."""
        self._layout = layout
        self._server = record
        self._stands_by = stands_by
        self._clock = clock
        self.record = ManagerRecord(layout, host, KIND, only)
        self._me = f"{host.name}_{files.random_hex(4)}"
        self._lock = threading.Lock()
        """Guards the four below, which the renewing thread changes."""
        self._held: LeaseSnapshot | None = None
        self._renewed = 0.0
        """When the last successful renewal was requested."""
        self._failing: str | None = None
        """Why the last renewal failed."""
        self._lost: str | None = None
        """Evidence that the record is no longer ours."""
        self._closed = threading.Event()
        self._renewing: threading.Thread | None = None

    # Acquiring

    def acquire(self, wait: Callable[[float], bool]) -> bool:
        """Acquire the record; where standing by is allowed, wait until another manager releases it.

        Args:
            wait: waits that many seconds, or less, and tells whether to go on.

        Returns: False if `wait` says not to go on.

        Raises:
            ManagerHeldError: another manager has it and we do not stand by, or one with a lock file is running.
            StoreError: the volume refused.
        """
        timer, logged = TakeoverTimer(self._me), ""
        while True:
            try:
                found = self._server.read()
                left = timer.left(found, self._clock())
                if left <= 0.0 and self._take(found):
                    break
                pause = min(left or RETRY_EVERY, RETRY_EVERY)
                news = "" if found is None or left <= 0.0 else f"{found.holder} holds {self._server.name}"
            except BackendUnavailableError as error:
                pause, news = RETRY_EVERY, str(error)
            if news and not self._stands_by:
                msg = f"{self._layout.root} cannot be managed from here: {news}"
                raise ManagerHeldError(msg)
            if news not in {"", logged}:
                log.info("standing by: %s", news)
                logged = news
            if not wait(pause):
                return False
        try:
            self.record.begin()
        except BaseException:
            self._give_back()
            raise
        self._renewing = threading.Thread(target=self.keep_renewing, name="lease", daemon=True)
        self._renewing.start()
        log.info("acquired %s as %s", self._server.name, self._me)
        return True

    def _take(self, found: LeaseSnapshot | None) -> bool:
        asked = self._clock()
        held = self._server.write(self._me, found, LEASE)
        if held is not None:
            self._note(held, asked)
        return held is not None

    def _note(self, held: LeaseSnapshot, asked: float) -> None:
        self.record.lease = held.uid or None
        with self._lock:
            self._held, self._renewed, self._failing = held, asked, None

    # Holding

    def check(self) -> None:
        """Check that nobody else can have taken the record by now.

        Raises:
            LeaseUnsureError: it was not renewed in time. Temporary: nothing may be done until it is.
            DirectoryLostError: another manager holds it, or one with a lock file has started.
        """
        with self._lock:
            lost, failing, age = self._lost, self._failing, self._clock() - self._renewed
        if lost is not None:
            raise DirectoryLostError(lost)
        if age > RENEW_WITHIN:
            msg = f"{self._server.name} was last renewed over {RENEW_WITHIN:.0f} s ago, so another manager may take it"
            raise LeaseUnsureError(f"{msg} ({failing})" if failing else msg)
        self.record.check()

    def reacquire(self) -> None:
        """Make sure that the directory is ours after `check` failed.

        Raises:
            ManagerHeldError: another manager has it by now.
            LeaseUnsureError: that is unknown now.
        """
        if self._lost is not None:
            msg = f"this manager no longer manages {self._layout.root}: {self._lost}"
            raise ManagerHeldError(msg)
        files.restore_dir(self._layout.root)
        self.record.begin()
        self.check()

    def keep_renewing(self) -> None:
        """Renew the record regularly, until another manager has it or this one is closed: what its thread does."""
        while self._lost is None and not self._closed.wait(RENEW_EVERY if self._failing is None else RETRY_EVERY):
            try:
                self.renew()
            except BackendUnavailableError as error:
                if self._failing is None:
                    log.warning("%s cannot be renewed: %s", self._server.name, error)
                self._failing = str(error)

    def renew(self) -> None:
        """Renew the record now, or note that another manager holds it. One that was deleted is created again.

        Raises:
            BackendUnavailableError: the server does not answer.
        """
        asked = self._clock()
        held = self._server.write(self._me, self._held, LEASE)
        if held is None:  # another manager's doing, or a renewal of ours whose answer was lost
            asked = self._clock()
            held = self._server.read()
            if held is None and asked - self._renewed <= RENEW_WITHIN:  # before others might have taken the old one
                held = self._server.write(self._me, None, LEASE) or self._server.read()
        if held is not None and held.holder == self._me:
            self._note(held, asked)
            return
        with self._lock:
            self._lost = f"{self._server.name} is held by {(held and held.holder) or 'nobody'}"
        log.error("%s", self._lost)

    # Releasing

    def release(self) -> None:
        """Release the record, so that the next manager need not wait."""
        self._closed.set()
        if self._renewing is not None:
            self._renewing.join(RENEW_WITHIN)
            if self._renewing.is_alive():
                return  # it still waits for an answer; the record expires by itself
        self._give_back()

    def _give_back(self) -> None:
        if self._held is None or self._lost is not None:
            return
        try:
            self._server.write("", self._held, 1.0)
        except BackendUnavailableError as error:
            log.info("%s was not released: %s", self._server.name, error)
        self._held = None

"""What a cycle does to runners and files, once the journal holds the decisions that it follows from.

The parts of the manager append to `acts` while they decide; the loop writes the journal, then carries them out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from air_executor.errors import DirectoryLostError, StoreError
from air_executor.manager.lease import Lease
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.possession import Possession
from air_executor.manager.request_handler import RequestHandler

log = logging.getLogger(__name__)


class ActQueue:
    """Acts that wait for the journal, of one manager."""

    def __init__(
        self, lease: Lease, state: ManagerState, request_handler: RequestHandler, possession: Possession
    ) -> None:
        self._lease = lease
        self._state = state
        self._request_handler = request_handler
        self._possession = possession
        self.acts: list[Callable[[], None]] = []

    def write_journal(self) -> bool:
        """Append all decisions to the journal; False if the volume refused, and then nothing may act on them."""
        journal = self._state.journal
        if not journal.pending and not self._request_handler.answers and not self.acts:
            return True
        # Acts without a decision are checked too: a manager that was replaced must leave the new one's runners alone.
        try:
            self._lease.check()
            journal.flush()
            if self._request_handler.answers:
                journal.sync()
            # If we were paused and replaced in between, nobody will ever read what was written, so nothing may follow.
            self._lease.check()
        except DirectoryLostError as error:
            self._possession.reacquire(error)
        except StoreError as error:
            log.error("journal cannot be written, doing nothing until it can: %s", error)  # noqa: TRY400 - a full disk is no bug
            return False
        self._request_handler.answer()
        return True

    def carry_out(self) -> None:
        """Do what was decided."""
        while self.acts:  # one at a time: if one raises, the rest is done after the next journal write
            self._lease.check()
            self._state.observer.alive()
            self.acts.pop(0)()

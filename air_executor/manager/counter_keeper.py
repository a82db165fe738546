"""Keeps the counters of one manager in the journal, and hands them to the observer once they are there.

The loop calls `note` before each write of the journal and `report` after it. So what a scrape has shown, the next
manager knows, however this one ends. Decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from air_executor.core.counters import Counters, Counts
from air_executor.core.observer import Observer
from air_executor.core.price import FREE
from air_executor.errors import StoreError
from air_executor.manager.manager_state import ManagerOptions, ManagerState
from air_executor.manager.open_runs import OpenRuns
from air_executor.model.records import CountersRecord
from air_executor.store import counters_file

log = logging.getLogger(__name__)


def counters_of(backend: str, options: ManagerOptions, before: CountersRecord | None, observer: Observer) -> Counters:
    """Return the counters of a manager that starts now; `before` is what earlier ones have counted."""
    prices = options.prices.get(backend, FREE)
    counters = Counters(backend, prices, options.pools, before, cost_labels=options.cost_labels)
    observer.counts_by(counters.pools)
    return counters


class CounterKeeper:
    """Keeps the counters of one manager."""

    def __init__(self, state: ManagerState, open_runs: OpenRuns, wake: Callable[[], None]) -> None:
        """`wake` ends the manager's sleep, from any thread."""
        self._state = state
        self._open_runs = open_runs
        self._wake = wake
        self._wanted = False
        self._known = state.counters.goes_on
        """The volume says that the counters are kept from the beginning on."""
        self._counts: Counts | None = None
        """What a scrape waits for, until the journal has it."""

    def request(self) -> None:
        """Have the counters reported after the next write of the journal. Call it from any thread."""
        self._wanted = True
        self._wake()

    def note(self) -> None:
        """Note in the journal what has changed since the last call, and what will be reported."""
        counters = self._state.counters
        if self._wanted:
            self._wanted = False
            counters.sample(self._open_runs.samples())
            self._counts = counters.counts()
        if (changes := counters.changes()) is not None:
            self._state.journal.note_counters(changes)
        elif not self._known and self._state.journal.pending:
            self._state.journal.note_counters(counters.record())
        self._known = self._known or self._state.journal.pending

    def report(self) -> None:
        """Hand over what was asked for; the journal has been written. Where it cannot be synced, later."""
        if self._counts is None:
            return
        try:
            self._state.journal.sync()  # after a power failure, too, no counter is lower than a scrape has shown
        except StoreError as error:
            log.error("counters stay as they were shown last: %s", error)  # noqa: TRY400 - a sick volume is no bug
            return
        self._state.observer.counted(self._counts)
        self._counts = None

    def save(self) -> None:
        """Write the file that has the counters while there is no journal.

        Raises:
            StoreError: the volume refused.
        """
        counters_file.save(self._state.jobs.layout, self._state.counters.record(), self._state.staging)

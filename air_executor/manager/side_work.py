"""Work that may take long and decides nothing: it runs in threads beside the manager's, which stays free meanwhile.

Git's checkouts, and the content of files that is hashed or copied. What came of it is noted in the manager's thread, by
the callback that was given with the order. A thread has one order at a time and no state.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

from air_executor.errors import AirExecutorError
from air_executor.manager.clock import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")
Told = Callable[[T | None, AirExecutorError | None], None]
"""Gets what the work returned, or why it failed."""

THREADS = 4
LINGER = 60.0
"""Seconds that `run` waits at its end for what is still being done."""
LINGER_STOPPED = 2.0
"""Seconds that a manager that was told to stop waits for it; what is left then, the next one does."""


class SideWork:
    """The threads of one manager."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        """`wake` ends the manager's sleep, from any thread."""
        self._clock = clock
        self._wake = wake
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._results: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._threads = 0
        self._lingers_until = 0.0
        self.busy: set[Hashable] = set()
        """What is being done, by the keys of the orders."""

    def order(self, key: Hashable, work: Callable[[], T], done: Told[T]) -> None:
        """Have something done, unless something with that key is: `done` is told of it in the manager's thread."""
        if key in self.busy:
            return
        self.busy.add(key)
        self._orders.put(partial(self._carry_out, key, work, done))
        if self._threads < min(THREADS, len(self.busy)):
            self._threads += 1
            threading.Thread(target=self._serve, name=f"side-work-{self._threads}", daemon=True).start()

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            order()
            self._wake()

    def _carry_out(self, key: Hashable, work: Callable[[], T], done: Told[T]) -> None:
        value, failed = None, None
        try:
            value = work()
        except AirExecutorError as error:
            failed = error
        except Exception as error:
            log.exception("%s", key)
            failed = AirExecutorError(f"a bug in Air-Executor ({type(error).__name__}: {error}); report it")
        self._results.put(partial(self._take, key, partial(done, value, failed)))

    def _take(self, key: Hashable, told: Callable[[], None]) -> None:
        self.busy.discard(key)
        told()

    def take_results(self) -> None:
        """Note what has been done since."""
        for _ in range(self._results.qsize()):
            self._results.get()()

    def lingers(self, seconds: float = LINGER) -> bool:
        """Tell whether a manager that has nothing else to do shall wait for what is still being done.

        It does so for at most `seconds` from the first time that it asks.
        """
        if not self.busy:
            return False
        now = self._clock.steady()
        self._lingers_until = self._lingers_until or now + seconds
        return now < self._lingers_until

    def close(self) -> None:
        """Let the idle threads go; the others end with the process."""
        for _ in range(self._threads):
            self._orders.put(None)

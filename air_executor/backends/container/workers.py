"""A few threads for requests whose answers no caller waits for. They never keep the process alive.

Used by the container backends; knows nothing of runners.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from functools import partial

log = logging.getLogger(__name__)


class Workers:
    """At most `number` threads, started on demand."""

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, work: Callable[..., None], *arguments: object) -> None:
        """Queue a call; dropped after `close`."""
        with self._lock:
            if self._closed:
                return
            self._work.put(partial(work, *arguments))
            if len(self._threads) < self._number:
                name = f"{self._name}-{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
                self._threads[-1].start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:
                log.exception("unexpected failure of a request to the platform")

    def close(self, timeout: float) -> None:
        """Finish what was submitted, but wait no longer than `timeout` seconds."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._work.put(None)
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

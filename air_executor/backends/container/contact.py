"""Whether what is known of a platform is up to date. Set by the threads that follow it, read by the manager's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from air_executor.errors import BackendUnavailableError

FIRST_ANSWER_SECONDS = 5.0
"""Longest time the manager waits for a platform's first answer."""


class Contact:
    """One source of news about a platform.

    Args:
        server: the platform's name in messages.
        wake: called when the source fails.
    """

    def __init__(self, server: str, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._asked = threading.Event()
        """The first answer has arrived, or the first request has failed."""
        self.problem: str | None = f"{server} has not answered yet"
        """Why what is known may be out of date."""
        self.last = time.monotonic()
        """When it was last known for certain what the platform has, monotonic seconds."""
        self.closed = threading.Event()
        """Nobody follows the source any more."""

    def touch(self) -> None:
        """Note that the platform has just reported."""
        self.last = time.monotonic()

    def succeed(self) -> bool:
        """Note that what is known is up to date; return whether it was not before."""
        recovered, self.problem = self.problem is not None, None
        self.touch()
        self._asked.set()
        return recovered

    def fail(self, problem: str) -> None:
        """Note that the platform cannot answer, until `succeed` is called."""
        closed = self.closed.is_set()
        if not closed:
            self.problem = problem
        self._asked.set()
        if not closed:
            self._wake()

    def wait(self) -> None:
        """Wait for the first answer or failure, without limit."""
        self._asked.wait()

    def check(self) -> None:
        """Make sure that what is known is up to date; the first time, wait a moment for it.

        Raises:
            BackendUnavailableError: it is not.
        """
        self._asked.wait(FIRST_ANSWER_SECONDS)
        if (problem := self.problem) is not None:
            raise BackendUnavailableError(problem)

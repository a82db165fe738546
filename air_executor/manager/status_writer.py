"""What people are told of a manager at work: problems, a backend that does not answer, what tasks wait for.

It stands in `manager.json` beside who manages, written by whatever proves that. Called by the loop and by `intake`;
decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from air_executor.core.observer import Observer
from air_executor.manager.lease import Lease
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.scheduler import Scheduler
from air_executor.manager.supervisor import Supervisor

log = logging.getLogger(__name__)


class StatusWriter:
    """What one manager has to tell."""

    def __init__(
        self,
        desk: ManagerState,
        lease: Lease,
        supervisor: Supervisor,
        starter: Scheduler,
        observer: Observer,
        *,
        backend: str,
        version: str,
        page: str | None,
        problems: list[str],
    ) -> None:
        """`problems` are those that were there when it began."""
        self.problems = problems
        self._desk = desk
        self._lease = lease
        self._supervisor = supervisor
        self._starter = starter
        self._observer = observer
        self._backend = backend
        self._version = version
        self._page = page
        self._told: tuple[Mapping[str, Any], float] = ({}, 0.0)
        """What it said last, and when by the steady clock."""

    def report(self, problem: str) -> None:
        """Tell of a file that cannot be read.

        Raises:
            StoreError: the volume refused.
        """
        log.error("%s", problem)
        self.problems.append(problem)
        self._observer.found_corrupt(1)
        self.announce()

    def announce(self, *, until: bool = False) -> None:
        """Write who manages here, and what people should know of it; with `until` that it leaves.

        Raises:
            StoreError: the volume refused.
        """
        clock = self._desk.clock
        facts = {
            "problems": list(self.problems),
            "backend": {"name": self._backend, "problem": self._supervisor.backend_problem},
            "waiting": self._waiting,
            "page": self._page,
        }
        self._told = facts, clock.steady()
        self._lease.announce(self._desk.journal.epoch, self._version, clock.wall(), facts, until=until)

    def tell_news(self, every: float) -> None:
        """Announce what has changed, at most once in so many seconds: downloads change all the time.

        Raises:
            StoreError: the volume refused.
        """
        facts, when = self._told
        news = facts["backend"]["problem"] != self._supervisor.backend_problem or facts["waiting"] != self._waiting
        if news and self._desk.clock.steady() - when >= every:
            self.announce()

    @property
    def _waiting(self) -> dict[str, str]:
        return self._supervisor.waiting | self._starter.waiting

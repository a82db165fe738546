"""Removes run directories that are not kept any longer, a little at each poll, so that a manager can run for years.

Called by the loop, right after it has proven that the directory is still its own. One pass goes over all jobs; the next
begins an hour after it has begun. What may be removed is decided by `store/run_retention`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from air_executor.errors import AirExecutorError
from air_executor.manager.manager_state import ManagerState
from air_executor.model.state import JobState
from air_executor.store import run_retention
from air_executor.store.layout import Layout

log = logging.getLogger(__name__)

PASS_EVERY = 3600.0
"""Seconds between the beginnings of two passes."""

SLICE = 0.02
"""Seconds of each poll."""


class RunTrimmer:
    """Keeps the run directories of one manager's jobs within their limits."""

    def __init__(self, state: ManagerState, layout: Layout) -> None:
        self._state = state
        self._layout = layout
        self._limits = state.options.kept_runs
        self._work: Iterator[None] | None = None
        self._next_pass = 0.0

    def trim_some(self) -> None:
        """Go on for a short time, if there is anything to do."""
        steady = self._state.clock.steady
        # One that manages some jobs only leaves this to another manager.
        if self._limits.keep_all or self._state.options.scope is not None:
            return
        if self._work is None and steady() >= self._next_pass:
            self._next_pass = steady() + PASS_EVERY
            self._work = self._pass()
        until = steady() + SLICE
        while self._work is not None:
            try:
                next(self._work)
            except StopIteration:
                self._work = None
            if steady() >= until:
                return

    def _pass(self) -> Iterator[None]:
        index = self._state.index
        for job in [*index.open, *index.ended]:
            try:
                yield from self._trim(job)
            except AirExecutorError as error:  # reported where it matters
                log.debug("job %s: its run directories are kept: %s", job, error)
            yield

    def _trim(self, job: str) -> Iterator[None]:
        now, removed = self._state.clock.wall(), 0
        for name in run_retention.expired(self._layout, job, lambda: self._load(job), self._limits, now):
            if name is not None:
                removed += 1
                yield from run_retention.remove(self._layout, job, name)
            yield
        if removed:
            log.info("job=%s run directories removed: %d", job, removed)

    def _load(self, job: str) -> JobState:
        live = self._state.index.open.get(job)
        return self._state.jobs.load(job) if live is None else live.state

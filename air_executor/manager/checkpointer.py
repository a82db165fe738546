"""When checkpoints are written: at a job's end at once, otherwise so that they take no more than a share of time."""

from __future__ import annotations

import logging

from air_executor.core.transitions import LiveJob
from air_executor.errors import NotFoundError, StoreError
from air_executor.manager.manager_state import ManagerState

log = logging.getLogger(__name__)

SHARE = 0.05
"""Share of the manager's time that checkpoints of unfinished jobs may take."""
AFTER = 0.2
"""Seconds that a changed job waits for its checkpoint, so that a burst of changes costs one."""
TRY_AGAIN = 1.0
"""Seconds until the next try after the volume has refused one."""


class Checkpointer:
    """Writes checkpoints for one manager."""

    def __init__(self, desk: ManagerState) -> None:
        self._desk = desk
        self._next = 0.0

    def save(self) -> None:
        """Write what is due. A refusal is no harm: the journal holds what the checkpoint would.

        Raises:
            NotFoundError: the place to build it, or the job's directory, is gone.
        """
        clock, catalog = self._desk.clock, self._desk.catalog
        try:
            if self._desk.unsaved or (catalog.dirty and clock.steady() >= self._next):
                # What a checkpoint holds may rest on another job's lines: a power failure must not take those alone.
                self._desk.journal.sync()
            self._save_ended()
            while catalog.dirty and clock.steady() >= self._next:
                begun = clock.steady()
                self._write(catalog.open[next(iter(catalog.dirty))])
                self._next = begun + (clock.steady() - begun) / SHARE
        except StoreError as error:
            log.error("checkpoints wait: %s", error)  # noqa: TRY400 - a full disk is no bug
            self._next = clock.steady() + TRY_AGAIN
        if not catalog.dirty:
            self._next = max(self._next, clock.steady() + AFTER)

    def save_now(self, name: str) -> None:
        """Write one job if its checkpoint is behind, as far as the volume lets us."""
        job = self._desk.catalog.open.get(name) if name in self._desk.catalog.dirty else self._desk.unsaved.get(name)
        if job is not None:
            try:
                self._write(job)
            except StoreError as error:
                log.error("job=%s its checkpoint waits: %s", name, error)  # noqa: TRY400 - the journal holds it

    def due_in(self) -> float | None:
        """Return in how many seconds something is due, or None."""
        if self._desk.unsaved or self._desk.catalog.dirty:
            return max(0.0, self._next - self._desk.clock.steady())
        return None

    def save_all(self) -> None:
        """Write everything now.

        Raises:
            StoreError, NotFoundError: it cannot be written; the journal keeps it.
        """
        for name in list(self._desk.catalog.dirty):
            self._write(self._desk.catalog.open[name])
        self._save_ended()

    def rewrite(self) -> None:
        """Write every job from memory, also where its directory is gone.

        Raises:
            StoreError, NotFoundError: it cannot be written.
        """
        for job in [*self._desk.catalog.open.values(), *self._desk.unsaved.values()]:
            self.recreate(job)

    def recreate(self, job: LiveJob) -> None:
        """Write one job from memory, also where its directory is gone. Raises as `rewrite`."""
        self._desk.jobs.recreate(job.state, self._aside)
        self._saved(job)

    @property
    def _aside(self) -> str:
        return self._desk.jobs.layout.epoch_tmp(self._desk.journal.epoch)

    def _save_ended(self) -> None:
        for job in list(self._desk.unsaved.values()):
            self._write(job)

    def _write(self, job: LiveJob) -> None:
        try:
            self._desk.jobs.checkpoint(job.state, self._aside)
        except NotFoundError:
            # Somebody removed the job's directory (memory wins), or all of ours (then this fails too).
            self._desk.jobs.recreate(job.state, self._aside)
        self._saved(job)

    def _saved(self, job: LiveJob) -> None:
        state = job.state
        self._desk.catalog.dirty.pop(state.id, None)
        self._desk.unsaved.pop(state.id, None)
        self._desk.journal.checkpointed(state.id, state.version)

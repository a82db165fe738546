"""When checkpoints are written: at once when a job ends, otherwise within a fixed share of the manager's time.

The loop calls `save` at the end of each cycle and `save_all` when it stops. A checkpoint that fails loses nothing: the
journal holds the same. Knows nothing of what a state file contains.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from air_executor.core.transitions import LiveJob
from air_executor.errors import NotFoundError, PathBlockedError, StoreError
from air_executor.manager.held_directory import HeldDirectory
from air_executor.manager.manager_state import ManagerState

log = logging.getLogger(__name__)

SHARE = 0.05
"""Share of the manager's time that checkpoints of unfinished jobs may take."""
DELAY = 0.2
"""Seconds from a job's change to its checkpoint, so that a burst of changes costs one."""
RETRY_AFTER = 1.0
"""Seconds until the next attempt after the volume has refused one."""


class Checkpointer:
    """Writes checkpoints for one manager."""

    def __init__(self, state: ManagerState, directory: HeldDirectory) -> None:
        self._state = state
        self._directory = directory
        self._next = 0.0

    def save(self) -> None:
        """Write what is due. A refusal loses nothing: the journal holds the same.

        Raises:
            NotFoundError: the staging directory, or the job's directory, is gone.
        """
        clock, index = self._state.clock, self._state.index
        try:
            if self._state.unsaved or (index.dirty and clock.steady() >= self._next):
                # What a checkpoint holds may rest on another job's lines: a power failure must not take those alone.
                self._state.journal.sync()
            try:
                self._save_ended()
            finally:
                while index.dirty and clock.steady() >= self._next:
                    begun = clock.steady()
                    name = next(iter(index.dirty))
                    with self._in_turn(name, index.dirty):
                        self._write(index.open[name])
                    self._next = begun + (clock.steady() - begun) / SHARE
        except StoreError as error:
            log.error("checkpoints delayed: %s", error)  # noqa: TRY400 - a full disk is no bug
            if clock.steady() >= self._next:  # not again and again, while one job's checkpoint fails each time
                self._next = clock.steady() + RETRY_AFTER
        if not index.dirty:
            self._next = max(self._next, clock.steady() + DELAY)

    def save_now(self, name: str) -> None:
        """Write one job if its checkpoint is behind and the volume allows it."""
        job = self._state.index.open.get(name) if name in self._state.index.dirty else self._state.unsaved.get(name)
        if job is not None:
            try:
                self._write(job)
            except StoreError as error:
                log.error("job=%s checkpoint delayed: %s", name, error)  # noqa: TRY400 - the journal holds it

    def due_in(self) -> float | None:
        """Return the seconds until a checkpoint is due, or None."""
        if self._state.unsaved or self._state.index.dirty:
            return max(0.0, self._next - self._state.clock.steady())
        return None

    def save_all(self) -> None:
        """Write everything now, as far as that can be done.

        Raises:
            StoreError, NotFoundError: it cannot be written; the journal keeps it.
        """
        refused: StoreError | None = None
        for job in [*map(self._state.index.open.__getitem__, self._state.index.dirty), *self._state.unsaved.values()]:
            try:
                with self._state.guard(job.state.id):
                    self._write(job)
            except StoreError as error:
                refused = error
        if refused is not None:
            raise refused

    def rewrite(self) -> None:
        """Write every job from memory, also where its directory is gone.

        Raises:
            StoreError, NotFoundError: it cannot be written.
        """
        for job in [*self._state.index.open.values(), *self._state.unsaved.values()]:
            with self._state.guard(job.state.id):
                self.recreate(job)

    def recreate(self, job: LiveJob) -> None:
        """Write one job from memory, also where its directory is gone. Raises as `rewrite`."""
        self._directory.check_settled()
        self._state.jobs.recreate(job.state, self._state.staging)
        self._saved(job)

    def _save_ended(self) -> None:
        for name, job in list(self._state.unsaved.items()):
            with self._in_turn(name, self._state.unsaved):
                self._write(job)

    @contextlib.contextmanager
    def _in_turn(self, name: str, waiting: dict[str, Any]) -> Iterator[None]:
        """Let a job whose checkpoint fails wait behind all others: what is in its way may be in no other's."""
        try:
            with self._state.guard(name):
                yield
        except StoreError:
            waiting[name] = waiting.pop(name)
            raise

    def _write(self, job: LiveJob) -> None:
        try:
            self._state.jobs.checkpoint(job.state, self._state.staging)
        except NotFoundError:
            # Somebody removed the job's directory (memory wins), or the staging directory (then this fails too).
            try:
                self.recreate(job)
            except NotFoundError as error:
                if not os.path.isdir(self._state.staging) or not os.path.isdir(self._state.jobs.layout.jobs):
                    raise
                # Somebody removes it again and again: the job's own trouble.
                msg = f"{self._state.jobs.layout.job(job.state.id)}: not found"
                raise PathBlockedError(msg) from error
        else:
            self._saved(job)

    def _saved(self, job: LiveJob) -> None:
        state = job.state
        self._state.index.dirty.pop(state.id, None)
        self._state.unsaved.pop(state.id, None)
        self._state.saved(state.id)
        self._state.journal.checkpointed(state.id, state.version)

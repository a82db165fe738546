"""Gives tasks their git worktrees before they start, and takes them away when they have ended.

Git may take long, so it is side work: `prepare` has a worktree made and tells what a task waits for, as
`Backend.prepare` does for images; `settle` has removed what is due once the journal holds the end. There is no decision
to journal: a worktree follows from its task, a note lies beside it, and each start of a manager looks at all that are
there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from air_executor.errors import (
    AirExecutorError,
    BadInputError,
    NotFoundError,
    PathBlockedError,
    SpawnRejectedError,
    StoreError,
)
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.side_work import SideWork
from air_executor.model import state as s
from air_executor.model.state import JobState, TaskState
from air_executor.store.worktrees import Checkout, Owner, Worktrees

log = logging.getLogger(__name__)

PAUSE = 30.0
"""Seconds after which a removal that failed is tried again."""
_ENDED = {s.FAILED: "has failed", s.CANCELLED: "was cancelled"}
_WAITS = "its git worktree"


class WorktreeKeeper:
    """The worktrees of one manager's tasks."""

    def __init__(self, state: ManagerState, side_work: SideWork) -> None:
        self._state = state
        self._side_work = side_work
        self._worktrees = Worktrees(state.jobs.layout, state.options.project)
        self._open: dict[Owner, Checkout | None] = {}
        """Worktrees of tasks that have not ended, as far as is known; None: made by an earlier manager."""
        self._failed: dict[Owner, AirExecutorError] = {}
        """Why they could not be made, until the next start asks."""
        self._again: dict[Owner, float] = {}
        """When to try again to remove one."""

    def find(self) -> None:
        """Look at what earlier managers have left."""
        for found in self._worktrees.existing():
            if isinstance(found, str):
                self._state.report(f"worktree: {found}")
            elif self._state.manages(found.job) and (found.kept is None or found.job in self._state.index.open):
                self._open.setdefault(Owner(found.job, found.uid, found.task))

    # Starts

    def prepare(self, job: JobState, task: TaskState) -> str | None:
        """Have the worktree of a task made, unless it is there; return what the task waits for, or None."""
        if task.worktree is None:
            return None
        owner, wanted = Owner(job.id, job.uid, task.id), task.worktree
        if owner in self._failed or (owner not in self._side_work.busy and self._open.get(owner) is not None):
            return None
        make = partial(self._worktrees.make, owner, wanted, self._state.staging)
        self._side_work.order(owner, make, partial(self._note_made, owner))
        return _WAITS

    def _note_made(self, owner: Owner, made: Checkout | None, error: AirExecutorError | None) -> None:
        if error is not None:
            self._failed[owner] = error
        else:
            self._open[owner] = made
        job = self._state.index.open.get(owner.job)
        if job is not None:
            self._state.index.touch(job, clean=True)

    def of(self, job: JobState, task: TaskState) -> Checkout | None:
        """Return the worktree of a task that starts; None if it has none.

        Raises:
            SpawnRejectedError: it can never be made.
            PathBlockedError: it could not be made this time.
        """
        if task.worktree is None:
            return None
        owner = Owner(job.id, job.uid, task.id)
        error, found = self._failed.pop(owner, None), self._open.get(owner)
        if isinstance(error, BadInputError | NotFoundError):
            raise SpawnRejectedError(str(error)) from error
        if error is not None or found is None:
            msg = str(error or "its worktree is gone")
            raise PathBlockedError(msg) from error
        self._worktrees.make_usable(found)
        return found

    # Ends

    def settle(self) -> None:
        """Have removed what is due; the journal holds all decisions so far."""
        now = self._state.clock.steady()
        for owner in [
            owner for owner in self._open if owner not in self._side_work.busy and self._again.get(owner, 0.0) <= now
        ]:
            try:
                with self._state.guard(owner.job):
                    self._end(owner)
            except StoreError as error:
                self._again[owner] = now + PAUSE
                log.warning("job=%s task=%s worktree: %s", owner.job, owner.task, error)

    def _end(self, owner: Owner) -> None:
        """Order the removal of a worktree, or note why it is kept, if its task has ended."""
        if owner.job in self._state.index.unmanaged:
            return
        known = self._state.index.open.get(owner.job) or self._state.unsaved.get(owner.job)
        job = None if known is None else known.state
        if job is None or job.uid != owner.uid:
            job = self._state.load(owner.job, owner.uid)
        task = None if job is None else job.tasks.get(owner.task)
        if task is not None and task.phase in (s.QUEUED, s.RUNNING):
            return
        if task is not None and task.worktree is not None:
            keep = task.worktree.keep
            if task.runs and (keep == "always" or (keep == "on_failure" and task.phase in (s.FAILED, s.CANCELLED))):
                words = "keep: always" if keep == "always" else f"its task {_ENDED[task.phase]}"
                self._order_end(owner, partial(self._worktrees.keep, owner, words, self._state.staging))
                return
        self._order_end(owner, partial(self._remove, owner, self._state.staging))

    def _order_end(self, owner: Owner, work: Callable[[], None]) -> None:
        self._side_work.order(owner, work, partial(self._note_end, owner))

    def _note_end(self, owner: Owner, _: None, error: AirExecutorError | None) -> None:
        if error is None:
            self._open.pop(owner, None)
            self._again.pop(owner, None)
            return
        self._again[owner] = self._state.clock.steady() + PAUSE
        log.warning("job=%s task=%s worktree is not removed yet: %s", owner.job, owner.task, error)

    def _remove(self, owner: Owner, staging: str) -> None:
        why = self._worktrees.remove(owner, staging)
        if why is not None:
            log.warning("job=%s task=%s worktree is kept: %s", owner.job, owner.task, why)

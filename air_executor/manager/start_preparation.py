"""What a task may need before its run can start, none of which holds up the manager.

A cached result, which saves the run; an image; a git worktree: in this order, because each is for nothing if the one
before says so. The scheduler asks each cycle until there is nothing left to wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from air_executor.backends.base import Backend
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.memo_keeper import MemoKeeper
from air_executor.manager.side_work import SideWork
from air_executor.manager.worktree_keeper import WorktreeKeeper
from air_executor.model.events import Memoized
from air_executor.model.state import JobState, TaskState
from air_executor.store.run_dirs import RunDirs


class StartPreparation:
    """The preparations of one manager."""

    def __init__(self, state: ManagerState, backend: Backend, run_dirs: RunDirs, wake: Callable[[], None]) -> None:
        """`wake` ends the manager's sleep, from any thread."""
        self._backend = backend
        self.side_work = SideWork(state.clock, wake)
        self.memos = MemoKeeper(state, self.side_work, run_dirs, backend.name)
        self.worktrees = WorktreeKeeper(state, self.side_work)

    def prepare(self, job: JobState, task: TaskState, options: Mapping[str, Any], now: float) -> str | Memoized | None:
        """Return what a task waits for, or the decision that saves its run; None: it can start.

        `options` are those of its launch.
        """
        found = self.memos.look_up(job, task, now)
        return found or self._backend.prepare(options) or self.worktrees.prepare(job, task)

    def settle(self) -> None:
        """Do what follows from ends of tasks; the journal holds all decisions so far."""
        self.memos.settle()
        self.worktrees.settle()

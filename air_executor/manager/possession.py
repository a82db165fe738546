"""Whether the state directory is still this manager's, and what it does if not.

Something may remove the lock or the journal (`git clean`), or move the directory, while a manager runs. The loop
verifies its possession before it acts. A directory that was emptied is acquired again and written from memory; one that
is elsewhere now, or belongs to another manager, is left.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from air_executor.errors import AirExecutorError, DirectoryLostError, NotFoundError
from air_executor.manager import recovery
from air_executor.manager.checkpointer import Checkpointer
from air_executor.manager.held_directory import HeldDirectory
from air_executor.manager.lease import Lease
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.runner_files import RunnerFiles
from air_executor.manager.status_writer import StatusWriter

log = logging.getLogger(__name__)


class Possession:
    """One manager's hold on its state directory."""

    def __init__(
        self,
        directory: HeldDirectory,
        lease: Lease,
        state: ManagerState,
        *,
        runner_files: RunnerFiles,
        checkpointer: Checkpointer,
        status_writer: StatusWriter,
        watch: Callable[[], None],
    ) -> None:
        """`watch` begins to watch the inbox, which is another one after the directory was acquired again."""
        self._directory = directory
        self._lease = lease
        self._state = state
        self._runner_files = runner_files
        self._checkpointer = checkpointer
        self._status_writer = status_writer
        self._watch = watch
        self._doubt: AirExecutorError | None = None

    @property
    def doubted(self) -> bool:
        """Whether something says that the directory was taken; until it is verified, nothing else may be done."""
        return self._doubt is not None

    def doubt(self, why: AirExecutorError) -> None:
        """Note evidence that the directory was taken."""
        self._doubt = self._doubt or why

    def verify(self) -> None:
        """Make sure that the directory is ours; raises as `reacquire`."""
        layout = self._state.jobs.layout
        try:
            self._lease.check()
            self._state.journal.check()
            if not os.path.isdir(layout.jobs):
                self._doubt = NotFoundError(f"{layout.jobs}: not found")
        except DirectoryLostError as error:
            self._doubt = error
        if self._doubt is not None:
            self.reacquire(self._doubt)

    def reacquire(self, why: AirExecutorError) -> None:
        """Acquire the directory again, and write every job from memory.

        Raises:
            ManagerHeldError: another manager has it.
            DirectoryMovedError: it is elsewhere now, with all its jobs.
            StoreError, NotFoundError: it failed for now; the next cycle begins with it.
        """
        jobs = self._state.jobs
        self._doubt = why
        self._directory.check(why)
        self._directory.check_settled()
        log.warning("re-acquiring the state directory: %s", why)
        self._lease.reacquire()
        self._directory.renew()
        jobs.prepare()
        self._runner_files.install()
        old = self._state.journal
        self._state.journal = recovery.take_epoch(jobs, old.epoch, self._lease.check)
        old.close()
        self._state.journal.note_counters(self._state.counters.record())
        self._checkpointer.rewrite()
        self._status_writer.publish()
        self._watch()
        self._doubt = None

    def close(self) -> None:
        """Let the directory go; idempotent."""
        self._directory.close()

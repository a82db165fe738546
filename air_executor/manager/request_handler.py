"""What reaches a running manager from the volume: requests, new jobs, and everything that no wake-up announced.

The loop calls `take_requests` each cycle, `answer` once the journal holds the decisions durably, then `rescan_if_due`.
`request_decision` says which requests a job permits as it stands. Starts and stops nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from air_executor.core.request_decision import NothingToDoError, decision_on
from air_executor.core.transitions import LiveJob
from air_executor.errors import (
    BadInputError,
    CorruptFileError,
    FormatTooNewError,
    NotFoundError,
    PathBlockedError,
    StoreError,
)
from air_executor.manager.addition import Addition, check_room
from air_executor.manager.checkpointer import Checkpointer
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRuns
from air_executor.manager.recovery import reconcile_run_dirs
from air_executor.model.records import Request
from air_executor.store import files
from air_executor.store.inbox import Inbox
from air_executor.store.run_dirs import RunDirs

log = logging.getLogger(__name__)

SLICE = 0.05
"""Seconds of each cycle for requests, and for their answers: of thousands, the rest waits for the next cycles."""
RESCAN_EVERY = 60.0
"""Seconds between full scans of `jobs/`."""
STAMP_STEP = 2.0
"""Seconds; no volume's time stamps are coarser."""


class RequestHandler:
    """Takes requests and jobs in for one manager."""

    def __init__(
        self,
        state: ManagerState,
        open_runs: OpenRuns,
        run_dirs: RunDirs,
        checkpointer: Checkpointer,
        inbox: Inbox,
        *,
        stateless: list[str],
    ) -> None:
        """`stateless` are the job directories without a state that recovery found."""
        self._state = state
        self._open_runs = open_runs
        self._run_dirs = run_dirs
        self._checkpointer = checkpointer
        self._inbox = inbox
        self.busy = False
        """Requests or answers are left for the next cycle."""
        self.answers: dict[str, str] = {}
        """Decided requests, each with its job; answered once the journal holds the decision durably."""
        self._scanned = 0.0
        """Modification time of `jobs/` at the last full scan; 0: scan in any case."""
        self._next_rescan = 0.0
        self._until = 0.0
        self._addition: Addition | None = None
        """The request that adds so many tasks that they take more than one cycle."""
        self._behind: set[str] = set()
        """Requests that wait until that one is decided."""
        self.stateless = stateless
        """Job directories without a state, to be moved away once they have no runners."""

    # Requests

    def take_requests(self, now: float, verify: Callable[[], None]) -> None:
        """Decide on every waiting request, or refuse it.

        `verify` raises if another manager has the directory by now; then the requests are for that one.
        """
        waiting = [name for name in self._inbox.pending() if name not in self.answers]
        if waiting:
            verify()
        self._until = self._state.clock.steady() + SLICE
        self.busy = False
        if self._addition is not None:
            if self._addition.name in waiting:
                waiting.remove(self._addition.name)
            else:
                self._forget_addition()  # somebody removed the request
        unread = [name for name in waiting if name not in self._behind]
        for number, name in enumerate(unread):
            if number and not self._has_time():
                self.busy = True
                break
            with self._refusing(name):
                self._take_request(name, now)
        if self._addition is not None:  # after the others: it may take many cycles
            self.busy = True
            with self._refusing(self._addition.name):
                self._go_on(self._addition, now)

    def _has_time(self) -> bool:
        return self._state.clock.steady() < self._until

    @contextlib.contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        """Answer a request that leads to nothing."""
        try:
            yield
        except NothingToDoError:
            self._inbox.done(name)
        except (BadInputError, NotFoundError, CorruptFileError, FormatTooNewError) as error:
            self._refuse(name, str(error), not_found=isinstance(error, NotFoundError))
        except PathBlockedError as error:  # a file that only its owner may read, say: it would stay for ever
            self._refuse(name, str(error))
        except StoreError as error:
            log.warning("request=%s delayed: %s", name, error)
        except Exception as error:
            log.exception("request=%s", name)
            self._refuse(name, f"a bug in Air-Executor ({type(error).__name__}); report it")

    def _refuse(self, name: str, why: str, *, not_found: bool = False) -> None:
        try:
            self._inbox.refuse(name, why, not_found=not_found)
        except StoreError as error:  # a name too long to have a reason beside it, say: that must not hold up the rest
            log.warning("request=%s cannot be refused (%s): %s", name, why, error)

    def _take_request(self, name: str, now: float) -> None:
        request = self._inbox.read(name)
        if request is None or not self._state.manages(request.job):
            return
        if self._addition is not None and request.job == self._addition.request.job:
            self._behind.add(name)  # a job's requests keep their order
            return
        if request.op == "wake" or not self._state.index.knows(request.job):
            self._take_job(request.job)
        if request.op == "wake":
            self._inbox.done(name)
            return
        job = self._find(request)
        addition = None
        if request.op == "add":
            check_room(len(request.tasks), self._inbox.size(name), job.state, self._state.size_of(request.job))
            addition = Addition(name, request, job.state)
            if not addition.check(self._has_time):
                if self._addition is None:
                    self._addition = addition
                else:
                    self._behind.add(name)
                return
        self._decide(request, name, job, now, addition)

    def _go_on(self, addition: Addition, now: float) -> None:
        """Go on with the tasks of a request, and decide on it once all of them are checked."""
        request, name = addition.request, addition.name
        try:
            if not addition.check(self._has_time):
                return
        except BadInputError:
            self._forget_addition()
            raise
        self._forget_addition()
        job = self._find(request)
        if job.state.uid == addition.uid:  # else it was submitted again meanwhile: from the beginning
            check_room(len(request.tasks), self._inbox.size(name), job.state, self._state.size_of(request.job))
            self._decide(request, name, job, now, addition)

    def _forget_addition(self) -> None:
        self._addition = None
        self._behind.clear()

    def _find(self, request: Request) -> LiveJob:
        try:
            job = self._state.find(request.job)
        except CorruptFileError as error:  # recovery has read no more than the head of an ended job
            self._quarantine(request.job, error)
            raise
        if job.state.ended:
            # Its state may be older than its run directories: recovery looks at those of unfinished jobs alone.
            reconcile_run_dirs(self._run_dirs, job.state)
        return job

    def _decide(self, request: Request, name: str, job: LiveJob, now: float, addition: Addition | None) -> None:
        tasks = [] if addition is None else addition.complete(job.state)
        decision = decision_on(request, name, job.state, now, tasks)
        with self._state.guard(request.job):
            self._state.decide(job, decision)
            self.answers[name] = request.job
        if name not in self.answers:
            raise BadInputError(self._state.index.unmanaged[request.job])
        if request.op == "confirm-gone":
            self._open_runs.confirm_gone(request.job)

    def answer(self) -> None:
        """Answer the requests whose decisions are durable now."""
        until = self._state.clock.steady() + SLICE
        gone = []
        for number, (name, job) in enumerate(self.answers.items()):
            if number and self._state.clock.steady() >= until:
                self.busy = True
                break
            with self._state.guard(job):
                self._checkpointer.save_now(job)  # whoever waits for the answer reads the state next
            if self._inbox.done(name):
                gone.append(name)
        self._state.journal.answered(gone)
        for name in gone:  # one that the volume keeps stays here, or it would be applied again
            del self.answers[name]

    # Jobs

    def _take_job(self, name: str) -> None:
        """Add a submitted job if it is new; it replaces a job of that id whose directory was deleted.

        Raises:
            CorruptFileError: it was unreadable, and is quarantined.
        """
        state = self._state
        if name in state.index.unmanaged or name in state.unsaved:
            return
        try:
            found = state.jobs.load(name)
        except NotFoundError:
            return
        except CorruptFileError as error:
            if name in state.index.open:
                return  # the next checkpoint replaces it
            self._quarantine(name, error)
            raise
        known = state.index.uid_of(name)
        if known == found.uid:
            return
        if known is not None:
            log.warning("job=%s was deleted and submitted again", name)
            self._open_runs.forget(name)
            state.drop(name)
        state.admit(LiveJob(found))

    def _quarantine(self, name: str, error: CorruptFileError) -> None:
        index = self._state.index
        where = files.quarantine(self._state.jobs.layout.state(name))
        if name in index.ended:
            index.drop(name)
        index.unmanaged[name] = f"{error}; moved to {where}"
        self._state.report(f"job {name}: {index.unmanaged[name]}")

    def rescan_if_due(self) -> None:
        """Rescan every minute; between that, move what earlier ones could not."""
        if self._state.clock.steady() >= self._next_rescan:
            self._next_rescan = self._state.clock.steady() + RESCAN_EVERY
            self.rescan()
        elif self.stateless:
            self.move_stateless()

    def rescan(self) -> None:
        """Find what no wake-up announced: new jobs, jobs whose directory has gone, directories without a state."""
        state = self._state
        changed = files.changed_at(state.jobs.layout.jobs)
        if changed == self._scanned:
            return  # no name was added or removed
        names = state.jobs.ids()
        existing = set(names)
        for name in names:
            if not state.index.knows(name) and state.manages(name):
                try:
                    with state.guard(name):
                        self._take_job(name)
                except StoreError as error:
                    log.warning("job=%s cannot be read: %s", name, error)
        for name in [name for name in state.index.open if name not in existing]:
            log.warning("job=%s directory is gone, writing it again", name)
            with state.guard(name):
                self._checkpointer.recreate(state.index.open[name])
        for name in [name for name in state.index.ended if name not in existing and name not in state.unsaved]:
            state.drop(name)
        self.move_stateless()
        # A change within one step of the time stamps leaves the stamp as it is.
        self._scanned = changed if state.clock.wall() - changed > STAMP_STEP else 0.0

    def move_stateless(self) -> None:
        """Move job directories without a state to the archive, once their runners are gone."""
        for name in list(self.stateless):
            if self._state.index.knows(name):
                self.stateless.remove(name)  # its state has come back
            elif (observed := self._open_runs.observed) is not None and not any(slot.job == name for slot in observed):
                self.stateless.remove(name)
                try:
                    log.warning("job=%s has no state.json, moved to %s", name, self._state.jobs.quarantine(name))
                except PathBlockedError as error:
                    self._state.quarantine(name, f"has no state.json and cannot be moved away: {error}")

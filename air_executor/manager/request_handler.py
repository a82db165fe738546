"""What comes in from the volume while a manager runs: requests, new jobs, and what no wake-up told."""

from __future__ import annotations

import logging
from collections.abc import Callable

from air_executor.core.transitions import LiveJob
from air_executor.errors import BadInputError, CorruptFileError, FormatTooNewError, NotFoundError, StoreError
from air_executor.manager import request_rules
from air_executor.manager.checkpointer import Checkpointer
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.recovery import reconcile_runs
from air_executor.manager.supervisor import Supervisor
from air_executor.store import files
from air_executor.store.inbox import Inbox

log = logging.getLogger(__name__)

STAMP_STEP = 2.0
"""Seconds that no volume's time stamps are coarser than."""


class RequestHandler:
    """Takes requests and jobs in for one manager."""

    def __init__(
        self,
        desk: ManagerState,
        supervisor: Supervisor,
        saver: Checkpointer,
        inbox: Inbox,
        report: Callable[[str], None],
    ) -> None:
        self._desk = desk
        self._supervisor = supervisor
        self._saver = saver
        self._inbox = inbox
        self._report = report
        self.answers: dict[str, str] = {}
        """Requests that are decided, each with its job, and answered once the journal holds that durably."""
        self._scanned = 0.0
        """When the names in `jobs/` had last changed at the last full look; 0: look again in any case."""
        self.stateless: list[str] = []
        """Job directories without a state, to be set aside once they have no runners."""

    def take_requests(self, now: float, make_sure: Callable[[], None]) -> None:
        """Decide on every request that waits, or refuse it.

        `make_sure` raises if the directory is another manager's by now, whose requests these are then.
        """
        waiting = [name for name in self._inbox.pending() if name not in self.answers]
        if waiting:
            make_sure()
        for name in waiting:
            try:
                self._take_request(name, now)
            except request_rules.NothingToDoError:
                self._inbox.done(name)
            except (BadInputError, NotFoundError, CorruptFileError, FormatTooNewError) as error:
                self._refuse(name, str(error))
            except StoreError as error:
                log.warning("request %s waits: %s", name, error)

    def _refuse(self, name: str, why: str) -> None:
        try:
            self._inbox.refuse(name, why)
        except StoreError as error:  # a name too long to have a reason beside it, say: that must not hold up the rest
            log.warning("request %s cannot be refused (%s): %s", name, why, error)

    def _take_request(self, name: str, now: float) -> None:
        request = self._inbox.read(name)
        scope = self._desk.scope
        if request is None or (scope is not None and request.job not in scope):
            return
        if request.op == "wake" or not self._desk.catalog.knows(request.job):
            self._take_job(request.job)
        if request.op == "wake":
            self._inbox.done(name)
            return
        job = self._desk.find(request.job)
        if job.state.ended:
            # Its state may be older than its run directories: recovery looks at those of unfinished jobs alone.
            reconcile_runs(self._supervisor.runs, job.state)
        decision = request_rules.decide(request, name, job.state, now)
        self.answers[name] = request.job
        self._desk.decide(job, decision)
        if request.op == "confirm-gone":
            self._supervisor.confirm_gone(request.job)

    def answered(self) -> None:
        """Answer the requests whose decisions are durable now."""
        for job in self.answers.values():
            self._saver.save_now(job)  # whoever waits for the answer reads the state next
        gone = [name for name in self.answers if self._inbox.done(name)]
        self._desk.journal.answered(gone)
        for name in gone:  # what the volume will not let go of stays named, or it would be applied again
            del self.answers[name]

    def _take_job(self, name: str) -> None:
        """Take in a job that was submitted, if it is new; one that somebody deleted gives way to its successor.

        Raises:
            CorruptFileError: it was unreadable, and has been set aside.
        """
        desk = self._desk
        if name in desk.catalog.left_alone or name in desk.unsaved:
            return
        try:
            state = desk.jobs.load(name)
        except NotFoundError:
            return
        except CorruptFileError as error:
            if name in desk.catalog.open:
                return  # what is in memory will replace it
            where = files.quarantine(desk.jobs.layout.state(name))
            desk.catalog.left_alone[name] = f"{error}; moved to {where}"
            self._report(f"job {name}: {desk.catalog.left_alone[name]}")
            raise
        known = desk.catalog.uid_of(name)
        if known == state.uid:
            return
        if known is not None:
            log.warning("job=%s was deleted and submitted anew", name)
            self._supervisor.forget(name)
            desk.catalog.drop(name)
        desk.admit(LiveJob(state))

    def rescan(self) -> None:
        """Heal what no wake-up told: new jobs, jobs whose directory has gone, directories without a state."""
        desk = self._desk
        changed = files.changed_at(desk.jobs.layout.jobs)
        if changed == self._scanned:
            return  # no name has come or gone, so ten thousand need not be read again
        there = set(desk.jobs.ids())
        for name in sorted(there):
            if not desk.catalog.knows(name) and (desk.scope is None or name in desk.scope):
                try:
                    self._take_job(name)
                except StoreError as error:
                    log.warning("job=%s cannot be read: %s", name, error)
        for name in [name for name in desk.catalog.open if name not in there]:
            log.warning("job=%s its directory is gone; writing it anew", name)
            self._saver.recreate(desk.catalog.open[name])
        for name in [name for name in desk.catalog.ended if name not in there and name not in desk.unsaved]:
            desk.catalog.drop(name)
        self.set_stateless_aside()
        # A change in the same tick as our look would leave the stamp as it is.
        self._scanned = changed if desk.clock.wall() - changed > STAMP_STEP else 0.0

    def set_stateless_aside(self) -> None:
        """Move away job directories that have no state, once their runners are gone."""
        for name in list(self.stateless):
            if self._desk.catalog.knows(name):
                self.stateless.remove(name)  # its state has come back
            elif self._supervisor.observed is not None and not any(
                slot.job == name for slot in self._supervisor.observed
            ):
                log.warning("job=%s has no state.json; set aside as %s", name, self._desk.jobs.set_aside(name))
                self.stateless.remove(name)

"""Where decisions become known: each is applied, noted for the journal, and put into the catalog's indexes.

Everything in the manager that changes a job goes through `decide`; nothing here touches a runner.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from air_executor.core.transitions import LiveJob
from air_executor.errors import BadInputError, NotFoundError, StoreError
from air_executor.manager.clock import Clock
from air_executor.manager.job_index import JobIndex
from air_executor.model import state as s
from air_executor.model.events import Event, UpstreamFailed
from air_executor.model.state import JobState
from air_executor.store.jobs import Jobs
from air_executor.store.journal import Journal

log = logging.getLogger(__name__)


class ManagerState:
    """The jobs, the journal, and the way from a decision to both."""

    def __init__(self, jobs: Jobs, journal: Journal, catalog: JobIndex, clock: Clock, scope: set[str] | None) -> None:
        self.jobs = jobs
        self.journal = journal
        self.catalog = catalog
        self.clock = clock
        self.scope = scope
        """Ids of the jobs that this manager manages; None means all."""
        self.unsaved: dict[str, LiveJob] = {}
        """Ended jobs whose last checkpoint is not written yet."""
        self.held: dict[str, list[str]] = {}
        """Held jobs by the run that submitted them."""
        self.listeners: list[Callable[[LiveJob, Event], None]] = []
        """Called after each decision, for progress and metrics."""

    def decide(self, job: LiveJob, event: Event) -> None:
        """Carry out one decision in memory; it counts once the journal is flushed."""
        state = job.state
        before = (state.epoch, state.version)
        job.apply(event, self.journal.epoch)
        self.journal.append(state, event, before)
        log.info("job=%s version=%d phase=%s %s", state.id, state.version, state.phase, type(event).__name__)
        failed = None
        if state.ended:  # also one that was reopened and ended at once
            self.unsaved[state.id] = job
            self._tell_waiting(state, self.catalog.close(state))
        else:
            self.unsaved.pop(state.id, None)
            if state.id not in self.catalog.open:
                failed = self._gate(job)
                self.catalog.add(job)
            self.catalog.touch(job)
        for listener in self.listeners:
            listener(job, event)
        if failed is not None:
            self.decide(job, UpstreamFailed(self.clock.wall(), failed))

    def _tell_waiting(self, state: JobState, waiting: list[str]) -> None:
        for name in waiting:
            job = self.catalog.open.get(name)
            if job is None:
                continue
            if state.phase == s.SUCCEEDED:
                self.catalog.unblock(name, state.uid)
                self.catalog.touch(job, clean=True)
            else:
                self.decide(job, UpstreamFailed(self.clock.wall(), state.id))

    def admit(self, job: LiveJob) -> None:
        """Take in a job from the volume: its place in the catalog, and the jobs that it waits for."""
        state = job.state
        if state.ended:
            self.catalog.close(state)
            return
        if state.phase == s.PENDING and state.submitted_by is not None:
            self.held.setdefault(state.submitted_by, []).append(state.id)
        failed = self._gate(job)
        self.catalog.add(job)
        if failed is not None:
            self.decide(job, UpstreamFailed(self.clock.wall(), failed))

    def _gate(self, job: LiveJob) -> str | None:
        """Block a job that has not started until those it waits for have ended; return one that will not succeed."""
        state = job.state
        if state.started_at is not None:  # they had succeeded then
            return None
        failed = None
        for name, uid in state.after_uids.items():
            phase = self._phase_of(name, uid)
            if phase in s.ENDED_PHASES | {None} and phase != s.SUCCEEDED:
                failed = name
            elif phase != s.SUCCEEDED:
                self.catalog.block(state.id, [uid])
        return failed

    def _phase_of(self, name: str, uid: str) -> str | None:
        """Return the phase of a job by id and uid; None if it is nowhere."""
        known = self.catalog.open.get(name)
        if known is not None and known.state.uid == uid:
            return known.state.phase
        ended = self.catalog.ended.get(name)
        if ended is not None and ended.uid == uid:
            return ended.phase
        try:
            state = self.jobs.load(name)
        except (NotFoundError, StoreError) as error:
            if name in self.catalog.left_alone or isinstance(error, StoreError):
                return s.QUEUED  # unknown is not gone: the job goes on waiting for it
            state = None
        if state is None or state.uid != uid:
            state = self.jobs.archived(name, uid)
        return None if state is None else state.phase

    def find(self, name: str) -> LiveJob:
        """Return a job, ended or not, to be changed.

        Raises:
            NotFoundError: there is none.
            BadInputError: it is not this manager's to change.
            StoreError: it cannot be read.
        """
        job = self.catalog.open.get(name) or self.unsaved.get(name)
        if job is not None:
            return job
        if name in self.catalog.left_alone:
            msg = f"job {name} cannot be changed: {self.catalog.left_alone[name]}"
            raise BadInputError(msg)
        try:
            return LiveJob(self.jobs.load(name))
        except NotFoundError as error:
            msg = f"there is no job {name}"
            raise NotFoundError(msg) from error

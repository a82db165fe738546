"""The jobs that the manager knows: unfinished ones whole, ended ones as a line, unmanaged ones by name.

A cycle must not cost more the more jobs exist, so every question "which jobs need something" has an index here: what
has changed, what waits for which job, whose time comes next. `ManagerState` keeps it current; all parts read it. Knows
no files, and decides nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from air_executor.core.job_locks import JobLocks
from air_executor.core.observer import Observer
from air_executor.core.plan import ReadyQueue
from air_executor.core.transitions import LiveJob
from air_executor.manager.run_index import EndedNamedRun, RunIndex
from air_executor.model.state import PENDING, QUEUED, RUNNING, TIMEOUT, JobState
from air_executor.store.job_head import JobHead, head_of


@dataclass(frozen=True, slots=True)
class EndedJob:
    """What stays in memory of a job that has ended."""

    uid: str
    phase: str


class JobIndex:
    """Jobs by id."""

    def __init__(self, ready_queue: ReadyQueue, observer: Observer) -> None:
        self.ready_queue = ready_queue
        self._observer = observer
        self.open: dict[str, LiveJob] = {}
        self.ended: dict[str, EndedJob] = {}
        self.unmanaged: dict[str, str] = {}
        """Jobs on the volume that this manager must not touch (unreadable, too new, out of scope), and why."""
        self.dirty: dict[str, None] = {}
        """Unfinished jobs whose checkpoint is behind, oldest change first."""
        self._waiting: dict[str, set[str]] = {}
        """The jobs that wait, by the uid of the job they wait for."""
        self._blocked: dict[str, set[str]] = {}
        """The uids that a job still waits for, by its id."""
        self._named: dict[str, set[str]] = {}
        """The unfinished jobs that name a job in `after`, by its uid."""
        self.parents: dict[str, str] = {}
        """By the uid of a joined child job, the job with a task that waits for its end."""
        self.runs = RunIndex()
        self.locks = JobLocks()
        self._times: list[tuple[float, str]] = []
        self._next: dict[str, float] = {}

    # Adding and removing

    def add(self, job: LiveJob) -> None:
        """Add an unfinished job."""
        state = job.state
        self.open[state.id] = job
        self.ended.pop(state.id, None)
        self.unmanaged.pop(state.id, None)
        for uid in state.after_uids.values():
            self._named.setdefault(uid, set()).add(state.id)
        if state.spec.name is not None:
            self.runs.declare(state.spec.name, state.submitted_at, state.spec.retention)
        self.touch(job, clean=True)

    def close(self, state: JobState) -> list[str]:
        """Note that a job has ended; return the jobs that waited for it."""
        self._forget(state.id)
        self.add_ended(state.id, head_of(state))
        return sorted(self._waiting.pop(state.uid, ()))

    def add_ended(self, job: str, head: JobHead) -> None:
        """Add an ended job."""
        self.ended[job] = EndedJob(head.uid, head.phase)
        if (run := head.run) is not None:
            self.runs.declare(run.name, run.submitted_at, run.retention)
            self.runs.end(run.name, EndedNamedRun(run.finished_at, job, head.uid, head.phase))
        self._observer.job_ended(job, head.phase)

    def drop(self, job: str) -> None:
        """Forget a job: its directory is gone, it is archived, or it is quarantined."""
        self._forget(job)
        self.ended.pop(job, None)
        self.runs.drop(job)
        self._observer.job_gone(job)

    def _forget(self, job: str) -> None:
        """Remove a job from the unfinished ones."""
        found = self.open.pop(job, None)
        for uid in () if found is None else found.state.after_uids.values():
            self._named.get(uid, set()).discard(job)
        lock = None if found is None else found.state.spec.lock
        turns = [] if lock is None else self.locks.leave(job, lock)
        self.dirty.pop(job, None)
        self._next.pop(job, None)
        self._blocked.pop(job, None)
        self.ready_queue.forget(job)
        self._change_turns(turns)

    def is_named(self, uid: str) -> bool:
        """Tell whether an unfinished job names the job with this uid in `after`, or waits for its end."""
        return bool(self._named.get(uid)) or uid in self.parents

    def knows(self, job: str) -> bool:
        """Tell whether the job is known in any way."""
        return job in self.open or job in self.ended or job in self.unmanaged

    def uid_of(self, job: str) -> str | None:
        """Return the uid of a known job, or None."""
        if job in self.open:
            return self.open[job].state.uid
        return self.ended[job].uid if job in self.ended else None

    # Changes

    def touch(self, job: LiveJob, *, clean: bool = False) -> None:
        """Note that a job has changed; `clean` if its checkpoint already says so."""
        state = job.state
        if not clean:
            self.dirty.setdefault(state.id)
        blocked = self.blocked(state.id)
        self._observer.job_changed(job, blocked=blocked)
        ready = not blocked and state.phase in (QUEUED, RUNNING) and job.progress.startable() > 0
        turns = self.locks.update(state, ready=ready)
        if blocked or state.phase == PENDING or not self.locks.admits(state):
            self.ready_queue.withdraw(state.id)
        else:
            self.ready_queue.offer(job)
        self._change_turns(turns)
        deadline = state.deadline_at if state.stop != TIMEOUT else None
        late = state.expect_by if state.late_since is None and state.phase != PENDING else None
        times = [t for t in (job.progress.next_time(), deadline, state.cleanup_until, late) if t is not None]
        if times and self._next.get(state.id) != min(times):
            self._next[state.id] = min(times)
            heapq.heappush(self._times, (min(times), state.id))

    def hold_lock(self, job: JobState) -> None:
        """Note that a job which this manager does not handle holds its lock, if it does."""
        if job.spec.lock is not None and job.locked_since is not None:
            self._change_turns(self.locks.hold(job.id, job.spec.lock, job.locked_since))

    def _change_turns(self, jobs: Iterable[str]) -> None:
        """Offer the jobs whose turn for their lock has begun, and withdraw those whose turn another one has taken."""
        for name in jobs:
            job = self.open.get(name)
            if job is None:
                continue
            if self.locks.admits(job.state):
                self.ready_queue.offer(job)
            else:
                self.ready_queue.withdraw(name)

    def due(self, now: float) -> list[LiveJob]:
        """Return the jobs for which a time has come: a delay is over, a deadline has passed, the job is late."""
        found: dict[str, LiveJob] = {}
        while self._times and self._times[0][0] <= now:
            at, name = heapq.heappop(self._times)
            if self._next.get(name) == at:
                del self._next[name]
                if name in self.open:
                    found[name] = self.open[name]
        return list(found.values())

    def next_time(self) -> float | None:
        """Return when `due` will next have something, in Unix seconds, or None."""
        while self._times and self._next.get(self._times[0][1]) != self._times[0][0]:
            heapq.heappop(self._times)
        return self._times[0][0] if self._times else None

    # Jobs that wait for jobs

    def block(self, job: str, uids: Iterable[str]) -> None:
        """Keep a job from starting until the jobs with these uids have ended."""
        for uid in uids:
            self._blocked.setdefault(job, set()).add(uid)
            self._waiting.setdefault(uid, set()).add(job)

    def unblock(self, job: str, uid: str) -> None:
        """Note that one of the jobs that it waits for has succeeded."""
        left = self._blocked.get(job)
        if left is not None:
            left.discard(uid)
            if not left:
                del self._blocked[job]

    def blocked(self, job: str) -> bool:
        """Tell whether a job waits for another job."""
        return job in self._blocked

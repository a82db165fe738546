"""Pending child jobs: the jobs that a run submits, which exist before its outcome is committed but don't start.

`commit` creates them, the supervisor releases them when the run succeeded and removes them after any other end, and the
loop resolves at the start what a crash has left. Knows nothing of runners.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from air_executor.core.cycles import show_cycle
from air_executor.core.transitions import LiveJob
from air_executor.errors import BadInputError, StoreError
from air_executor.manager.manager_state import ManagerState
from air_executor.model import state as s
from air_executor.model.events import Released
from air_executor.model.names import parse_run_id
from air_executor.model.state import JobState

log = logging.getLogger(__name__)

REMOVAL_SLICE = 0.05
"""Seconds of each cycle for removing jobs whose run did not succeed."""


class PendingJobs:
    """The pending child jobs of one manager."""

    def __init__(self, state: ManagerState) -> None:
        self._state = state
        self._doomed: deque[str] = deque()
        """Jobs of runs that did not succeed, still to be removed."""

    def create(self, children: list[JobState]) -> Iterator[None]:
        """Create the jobs that a run submitted; one that exists with the same uid counts as created.

        A generator: thousands of jobs take long, and it yields after each.

        Raises:
            AlreadyExistsError: another job has one of the ids; none of them exists any more.
            BadInputError: one of them waits for a job that does not exist, or they wait for each other.
            StoreError: the volume refused; call again.
        """
        while children and self._doomed:  # a repeated run may submit the same ids
            self.remove_some()
            yield
        _check_cycle(children)
        uids = {child.id: child.uid for child in reversed(children)}
        for child in children:
            child.after_uids = {name: uids.get(name) or self._uid_of(name) for name in child.spec.after}
        created: list[JobState] = []
        try:
            for child in children:
                if self._state.jobs.archived(child.id, child.uid) is None:
                    self._state.jobs.create(child)
                    created.append(child)
                yield
        except Exception:
            for child in created:
                self.remove(child.id)
                yield
            raise
        for child in created:
            yield
            found = self._state.jobs.load(child.id)
            if found.phase == s.PENDING and child.id not in self._state.index.open:
                if self._state.options.scope is not None:
                    self._state.options.scope.add(child.id)
                self._state.admit(LiveJob(found))

    def _uid_of(self, name: str) -> str:
        uid = self._state.index.uid_of(name)
        if uid is not None:
            return uid
        found = self._state.jobs.find(name)
        if found is None:
            msg = f"job.after: there is no job {name}"
            raise BadInputError(msg)
        return found.uid

    def release(self, run: str) -> None:
        """Let the jobs that a run submitted start: its success is committed."""
        for name in self._state.pending_children.pop(run, ()):
            job = self._state.index.open.get(name)
            if job is not None and job.state.phase == s.PENDING:
                with self._state.guard(name):
                    self._state.decide(job, Released(self._state.clock.wall()))

    def take(self, run: str) -> list[str]:
        """Return the pending jobs of a run that did not succeed; the caller removes them."""
        return self._state.pending_children.pop(run, [])

    def doom(self, names: Iterable[str]) -> None:
        """Have jobs removed by and by: their run did not succeed, and that is committed."""
        self._doomed.extend(names)

    @property
    def busy(self) -> bool:
        """Whether jobs are left to be removed."""
        return bool(self._doomed)

    def remove_some(self) -> None:
        """Remove jobs that are doomed for about `REMOVAL_SLICE`, one at least."""
        until = self._state.clock.steady() + REMOVAL_SLICE
        while self._doomed:
            name = self._doomed.popleft()
            try:
                self.remove(name)
            except StoreError as error:
                log.warning("job=%s cannot be removed: %s", name, error)
            if self._state.clock.steady() >= until:
                return

    def remove(self, name: str) -> None:
        """Remove a pending job from the volume."""
        self._state.drop(name)
        self._state.jobs.remove(name)

    def resolve(self) -> None:
        """After a crash: release or remove the jobs of runs that are committed; the others keep waiting for that."""
        if not self._state.pending_children:
            return
        ended = {ended.uid: name for name, ended in self._state.index.ended.items()}
        for run in list(self._state.pending_children):
            parsed = parse_run_id(run)
            try:
                parent = None if parsed is None else self._parent(parsed[0], ended)
            except Exception as error:  # noqa: BLE001 - unknown is not gone, and costs these jobs alone
                log.warning("run=%s its child jobs stay pending: %s", run, error)
                continue
            if parsed is not None and parent is not None and parsed[1] in parent.progress.runs:
                continue
            if parent is None and self._state.index.unmanaged:
                continue  # one of those may be the job that submitted it
            if parsed is not None and parent is not None and _succeeded(parent, parsed[1]):
                self.release(run)
            else:
                for name in self.take(run):
                    self.remove(name)

    def _parent(self, uid: str, ended: Mapping[str, str]) -> LiveJob | None:
        unfinished = next((job for job in self._state.index.open.values() if job.state.uid == uid), None)
        if unfinished is not None:
            return unfinished
        return LiveJob(self._state.jobs.load(ended[uid])) if uid in ended else None


def _check_cycle(children: list[JobState]) -> None:
    """Refuse jobs that would wait for each other for ever; older jobs wait for none of these."""
    try:
        TopologicalSorter({job.id: job.spec.after for job in children}).prepare()
    except CycleError as error:
        msg = f"job.after: these jobs would wait for each other for ever: {show_cycle(error.args[1][::-1])}"
        raise BadInputError(msg) from None


def _succeeded(parent: LiveJob, seq: int) -> bool:
    return any(a.seq == seq and a.reason in s.COMMITTED for task in parent.state.tasks.values() for a in task.attempts)

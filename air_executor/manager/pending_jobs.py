"""Whole jobs that a run submits: held until that run is booked, released by its success, removed by any other end."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from air_executor.core.cycles import show_cycle
from air_executor.core.transitions import LiveJob
from air_executor.errors import BadInputError
from air_executor.manager.manager_state import ManagerState
from air_executor.model import state as s
from air_executor.model.events import Released
from air_executor.model.names import parse_run_id
from air_executor.model.state import JobState


class PendingJobs:
    """The held jobs of one manager."""

    def __init__(self, desk: ManagerState) -> None:
        self._desk = desk

    def create(self, children: list[JobState]) -> None:
        """Create the jobs that a run submitted; one that is there already with the same uid counts as created.

        Raises:
            AlreadyExistsError: another job has one of the ids; none of them is there any more.
            BadInputError: one of them waits for a job that does not exist, or they wait for each other.
            StoreError: the volume refused; call again.
        """
        _check_circle(children)
        for child in children:
            child.after_uids = {name: self._uid_of(name, children) for name in child.spec.after}
        created: list[JobState] = []
        try:
            for child in children:
                if self._desk.jobs.archived(child.id, child.uid) is None:
                    self._desk.jobs.create(child)
                    created.append(child)
        except Exception:
            for child in created:
                self.remove(child.id)
            raise
        for child in created:
            there = self._desk.jobs.load(child.id)
            if there.phase == s.PENDING and child.id not in self._desk.catalog.open:
                if self._desk.scope is not None:
                    self._desk.scope.add(child.id)
                self._desk.admit(LiveJob(there))

    def _uid_of(self, name: str, siblings: list[JobState]) -> str:
        desk = self._desk
        uid = next((job.uid for job in siblings if job.id == name), None) or desk.catalog.uid_of(name)
        if uid is not None:
            return uid
        found = desk.jobs.find(name)
        if found is None:
            msg = f"job.after: there is no job {name}"
            raise BadInputError(msg)
        return found.uid

    def release(self, run: str) -> None:
        """Let the jobs that a run submitted run: it was booked as a success."""
        for name in self._desk.held.pop(run, ()):
            job = self._desk.catalog.open.get(name)
            if job is not None and job.state.phase == s.PENDING:
                self._desk.decide(job, Released(self._desk.clock.wall()))

    def take(self, run: str) -> list[str]:
        """Return the held jobs that a run submitted, to be removed: it did not succeed."""
        return self._desk.held.pop(run, [])

    def remove(self, name: str) -> None:
        """Remove a held job from the volume."""
        self._desk.catalog.drop(name)
        self._desk.jobs.remove(name)

    def resolve(self) -> None:
        """After a crash: release or remove held jobs whose submitting run was booked; the rest waits for that."""
        for run in list(self._desk.held):
            parsed = parse_run_id(run)
            parent = None if parsed is None else self._parent(parsed[0])
            if parsed is not None and parent is not None and parsed[1] in parent.progress.runs:
                continue
            if parent is None and self._desk.catalog.left_alone:
                continue  # one of those may be the job that submitted it
            if parsed is not None and parent is not None and _succeeded(parent, parsed[1]):
                self.release(run)
            else:
                for name in self.take(run):
                    self.remove(name)

    def _parent(self, uid: str) -> LiveJob | None:
        for job in self._desk.catalog.open.values():
            if job.state.uid == uid:
                return job
        for name, ended in self._desk.catalog.ended.items():
            if ended.uid == uid:
                return LiveJob(self._desk.jobs.load(name))
        return None


def _check_circle(children: list[JobState]) -> None:
    """Refuse jobs that would wait for each other for ever; others were there before, and wait for none of these."""
    try:
        TopologicalSorter({job.id: job.spec.after for job in children}).prepare()
    except CycleError as error:
        msg = f"job.after: these jobs would wait for each other for ever: {show_cycle(error.args[1][::-1])}"
        raise BadInputError(msg) from None


def _succeeded(parent: LiveJob, seq: int) -> bool:
    return any(a.seq == seq and a.reason == s.OK for task in parent.state.tasks.values() for a in task.attempts)

"""Joined child jobs: a task of the parent stands for each, and ends when the child has ended.

`ManagerState` calls this around each decision. Requests that change the parent reach the child first, so that a crash
in between leaves no child behind whose parent has ended: the request, or the deadline, comes again. What a parent needs
of a child is copied into its task, so the child may be archived from then on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from air_executor.core.transitions import LiveJob
from air_executor.errors import StoreError
from air_executor.model import state as s
from air_executor.model.events import DeadlinePassed, Event, Joined, Requested
from air_executor.model.state import JobState

if TYPE_CHECKING:
    from air_executor.manager.manager_state import ManagerState

MAX_RESULTS = 256 * 1024
"""Bytes of the results of one child, as JSON, that its parent takes."""
_REACHING = ("cancel", "pause", "resume")
"""Requests about a whole job that also reach its children."""


class JoinedJobs:
    """The joined child jobs of one manager."""

    def __init__(self, state: ManagerState) -> None:
        self._state = state
        self._reaching: set[str] = set()
        """Parents whose children are just being told."""

    def reach(self, job: LiveJob, event: Event) -> None:
        """Tell the children of a job what is about to be decided for it."""
        if not job.progress.joining:
            return
        if isinstance(event, DeadlinePassed):
            op, names = "cancel", job.progress.joining
        elif isinstance(event, Requested) and event.op in _REACHING:
            op, names = event.op, job.progress.joining & ({event.task} if event.task else job.progress.joining)
        else:
            return
        self._reaching.add(job.state.id)
        try:
            for name in sorted(names):
                self._ask(op, name, job.state.tasks[name].joins, event.at)
        finally:
            self._reaching.discard(job.state.id)

    def _ask(self, op: str, name: str, uid: str | None, at: float) -> None:
        child = self._state.index.open.get(name)
        if child is None or child.state.uid != uid or child.state.phase == s.PENDING:
            return
        if op == "cancel" or (child.state.phase == s.PAUSED) == (op == "resume"):
            with self._state.guard(name):
                self._state.decide(child, Requested(at, "", op))

    def watch(self, job: LiveJob) -> None:
        """Wait for the children of a job; end the tasks of those that have ended already."""
        for name in sorted(job.progress.joining):
            uid = job.state.tasks[name].joins or ""
            if uid in self._state.index.parents:
                continue
            self._state.index.parents[uid] = job.state.id
            child = self._state.index.open.get(name)
            if child is not None and child.state.uid == uid:
                continue
            try:
                found = self._state.load(name, uid)
            except StoreError:
                continue  # unknown is not gone
            if found is None or found.ended:
                self._end(job, name, uid, found)

    def ended(self, child: JobState) -> None:
        """End the task that stands for a job which has ended."""
        parent = self._state.index.open.get(self._state.index.parents.pop(child.uid, ""))
        if parent is not None and parent.state.id not in self._reaching:
            with self._state.guard(parent.state.id):
                self._end(parent, child.id, child.uid, child)

    def _end(self, job: LiveJob, name: str, uid: str, child: JobState | None) -> None:
        self._state.index.parents.pop(uid, None)
        if name in job.progress.joining and job.state.tasks[name].joins == uid:
            self._state.decide(job, _joined(name, child, self._state.clock.wall()))


def _joined(name: str, child: JobState | None, at: float) -> Joined:
    if child is None:
        return Joined(at, name, s.FAILED, s.LOST, f"job {name} no longer exists")
    if child.phase != s.SUCCEEDED:
        why = f": {child.message}" if child.message else ""
        return Joined(at, name, child.phase, child.reason or s.ERROR, f"job {name} {child.phase}{why}")
    results = {task: result for task, result in child.results().items() if result is not None}
    size = len(json.dumps(results))
    if size > MAX_RESULTS:
        what = f"the results of job {name} have {size} bytes, more than {MAX_RESULTS}; hand over names of files instead"
        return Joined(at, name, s.FAILED, s.REJECTED, what)
    return Joined(at, name, s.SUCCEEDED, s.OK, None, results or None)

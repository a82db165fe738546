"""What a job's tasks may do next: which are ready, which wait for what, which trees are complete.

Derived from the tasks alone and rebuilt from them at any time (`Progress(job)`), kept up to date by `transitions` so
that a step costs the same in a job of ten tasks and of fifty thousand. What is derived of a task lies in a node here,
never on the task. No recursion: a chain can be as long as a job.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable
from enum import Enum
from typing import Any

from air_executor.model.state import (
    CANCELLED,
    FAILED,
    OK,
    QUEUED,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    Done,
    JobState,
    Queued,
    Running,
    TaskState,
)


class Readiness(Enum):
    """What a queued task's `after` and `when` say."""

    READY = "ready"
    WAITS = "waits"
    UPSTREAM = "upstream"
    """What it needs did not succeed: it will never run."""
    NOT_NEEDED = "not-needed"
    """Its `when` did not apply."""


class TaskNode:
    """What is derived of one task."""

    __slots__ = ("cleanup", "complete", "open_children", "place", "task", "tree_failed", "tree_ok")

    def __init__(self, task: TaskState, position: int, parent: TaskNode | None) -> None:
        self.task = task
        self.place = (-task.priority, position)
        """Sorts tasks in the order in which they start."""
        self.cleanup: bool = task.when != "success" or (parent is not None and parent.cleanup)
        """It, or what queued it, has `when: failure` or `always`: failures elsewhere do not skip it."""
        self.open_children = 0
        """Tasks that it queued whose trees are not complete."""
        self.complete = False
        """It and everything that it queued have ended."""
        self.tree_ok = True
        self.tree_failed = False


class Progress:
    """Indexes over one job's tasks. Queued tasks are in none of them until `place` has put them there."""

    def __init__(self, job: JobState) -> None:
        self.job = job
        self.nodes: dict[str, TaskNode] = {}
        """By task id, in the order of the queue."""
        self.counts: dict[str, int] = {}
        """Tasks by phase."""
        self.open = 0
        """Tasks that are queued or running."""
        self.ends: Counter[tuple[str, str]] = Counter()
        """Tasks that have ended since this was built, by phase and reason. Observers count the difference."""
        self.slots: dict[int, str] = {}
        """Task of the open run in each taken slot."""
        self.runs: dict[int, str] = {}
        """Task of each open run, by the run's number."""
        self.results: list[tuple[str, Any]] = []
        """Results of the tasks that have succeeded, in the order of their ends; only grows."""
        self._plain_open = 0
        self._plain_failed = False
        self._queue: list[tuple[tuple[int, int], str]] = []
        self.ready: set[str] = set()
        self._delayed: list[tuple[float, str]] = []
        self._held_places: dict[str, tuple[int, int]] = {}
        self._waiters: dict[str, list[str]] = {}
        self._final_tasks: list[str] = []
        self._rebuild()

    def _rebuild(self) -> None:
        for task in self.job.tasks.values():
            node = self._node(task)
            self._count(task.phase, 1)
            status = task.status
            if isinstance(status, Done):
                node.tree_ok, node.tree_failed = _own_outcome(status)
                self._plain_failed |= node.tree_failed and not node.cleanup
                if task.result is not None:
                    self.results.append((task.id, task.result))
                continue
            self.open += 1
            self._plain_open += not node.cleanup
            if isinstance(status, Running):
                self.slots[status.slot] = task.id
                self.runs[status.seq] = task.id
        for node in reversed(self.nodes.values()):  # children come after what queued them
            node.complete = _has_ended(node.task) and node.open_children == 0
            parent = self._parent(node)
            if parent is None:
                continue
            if node.complete:
                _join(parent, node)
            else:
                parent.open_children += 1

    def _node(self, task: TaskState) -> TaskNode:
        parent = self.nodes.get(task.queued_by) if task.queued_by is not None else None
        node = self.nodes[task.id] = TaskNode(task, len(self.nodes), parent)
        return node

    def _parent(self, node: TaskNode) -> TaskNode | None:
        name = node.task.queued_by
        return None if name is None else self.nodes.get(name)

    def _count(self, phase: str, by: int) -> None:
        self.counts[phase] = self.counts.get(phase, 0) + by

    # Steps that transitions take

    def admit(self, task: TaskState) -> None:
        """Take in a new task (queued, or ended at once because its job is stopping)."""
        node = self._node(task)
        self._count(task.phase, 1)
        self.open += 1
        self._plain_open += not node.cleanup
        parent = self._parent(node)
        if parent is not None:
            parent.open_children += 1

    def place(self, task: TaskState) -> Readiness:
        """Put a queued task where it belongs; the caller ends it if the answer is that it will not run."""
        verdict = self.readiness(task)
        status = task.status
        if verdict is Readiness.WAITS:
            self._wait(task)
        elif verdict is Readiness.READY and isinstance(status, Queued):
            if status.waits_until is None:
                self._push(task)
            else:
                heapq.heappush(self._delayed, (status.waits_until, task.id))
                if status.retrying:
                    self._held_places[task.id] = self.nodes[task.id].place
        return verdict

    def started(self, task: TaskState, run: Running) -> None:
        """Move a task from queued to running."""
        self.ready.discard(task.id)
        self.slots[run.slot] = task.id
        self.runs[run.seq] = task.id
        task.status = run
        self._recount("queued", "running")

    def requeued(self, task: TaskState, run: Running, status: Queued) -> None:
        """Move a task from running back to queued."""
        self._free(run)
        task.status = status
        self._recount("running", "queued")
        self.place(task)

    def ended(self, task: TaskState, done: Done) -> list[TaskState]:
        """Move a task to its end; return the queued tasks whose readiness may have changed by that."""
        before, node = task.phase, self.nodes[task.id]
        if task.run is not None:
            self._free(task.run)
        self.ready.discard(task.id)
        self._held_places.pop(task.id, None)
        task.status = done
        self._recount(before, done.phase)
        self.open -= 1
        self.ends[done.phase, done.reason] += 1
        ok, failed = _own_outcome(done)
        node.tree_ok &= ok
        node.tree_failed |= failed
        if done.result is not None:
            self.results.append((task.id, done.result))
        touched: list[str] = []
        if not node.cleanup:
            self._plain_open -= 1
            self._plain_failed |= failed
            if self._plain_open == 0:
                touched += self._final_tasks
                self._final_tasks = []
        above: TaskNode | None = node
        while above is not None and not above.complete and above.open_children == 0 and _has_ended(above.task):
            above.complete = True
            touched += self._waiters.pop(above.task.id, ())
            parent = self._parent(above)
            if parent is not None:
                parent.open_children -= 1
                _join(parent, above)
            above = parent
        return [t for t in map(self.job.tasks.__getitem__, touched) if t.phase == QUEUED]

    def _free(self, run: Running) -> None:
        self.slots.pop(run.slot, None)
        self.runs.pop(run.seq, None)

    def _recount(self, before: str, after: str) -> None:
        self._count(before, -1)
        self._count(after, 1)

    def _push(self, task: TaskState) -> None:
        self._held_places.pop(task.id, None)
        if task.id not in self.ready:
            self.ready.add(task.id)
            heapq.heappush(self._queue, (self.nodes[task.id].place, task.id))

    def _wait(self, task: TaskState) -> None:
        needs = self.needs(task)
        if needs is None:
            self._final_tasks.append(task.id)
            return
        # One is enough, and the last one is likely to be the last to complete: a task that waits for ten thousand
        # others is then looked at a few times, not ten thousand.
        last = next(need for need in reversed(needs) if not need.complete)
        self._waiters.setdefault(last.task.id, []).append(task.id)

    # What others ask

    def spares(self, task: TaskState) -> bool:
        """Tell whether what stops the job leaves this task its chance: it cleans up, and the job's time is not over."""
        return self.job.stop in (FAILED, CANCELLED) and self.nodes[task.id].cleanup

    def needs(self, task: TaskState) -> list[TaskNode] | None:
        """Return the tasks whose trees `task` waits for; None means all tasks without a `when` of their own."""
        if not task.after:
            return None if task.when != "success" else []
        above = set(self.job.ancestors(task))
        return [self.nodes[need] for need in task.after if need not in above]

    def readiness(self, task: TaskState) -> Readiness:
        """Judge a queued task by what it waits for."""
        if not task.after and task.when == "success":
            return Readiness.READY
        needs = self.needs(task)
        if needs is None:
            complete, ok, failed = self._plain_open == 0, not self._plain_failed, self._plain_failed
        else:
            complete = all(need.complete for need in needs)
            ok = all(need.tree_ok for need in needs if need.complete)
            failed = any(need.tree_failed for need in needs)
        if task.when == "success":
            if not ok:
                return Readiness.UPSTREAM
            return Readiness.READY if complete else Readiness.WAITS
        if not complete:
            return Readiness.WAITS
        if task.when == "always" or failed:
            return Readiness.READY
        return Readiness.NOT_NEEDED

    def promote(self, now: float) -> None:
        """Let tasks whose waiting time is over take their place among the ready ones."""
        while self._delayed and self._delayed[0][0] <= now:
            until, name = heapq.heappop(self._delayed)
            task = self.job.tasks[name]
            if task.phase == QUEUED and task.waits_until == until:
                self._push(task)

    def next_ready(self, passed: Collection[str] = ()) -> TaskState | None:
        """Return the task to start next but for those passed over, or None. `promote` comes first."""
        while self._queue and self._queue[0][1] not in self.ready:
            heapq.heappop(self._queue)
        if not self._queue:
            return None
        place, name = self._queue[0]
        if name in passed:
            others = (entry for entry in self._queue if entry[1] in self.ready and entry[1] not in passed)
            place, name = min(others, default=(place, ""))
            if not name:
                return None
        if self.job.max_runners == 1 and any(held < place for held in self._held_places.values()):
            return None
        return self.job.tasks[name]

    def startable(self) -> int:
        """Return how many tasks could start at once, as far as their job goes."""
        free = self.job.max_runners - len(self.slots)
        if free <= 0 or (self._held_places and self.next_ready() is None):
            return 0
        return min(free, len(self.ready))

    def next_time(self) -> float | None:
        """Return when the next delayed task becomes ready, or None."""
        while self._delayed:
            until, name = self._delayed[0]
            task = self.job.tasks[name]
            if task.phase == QUEUED and task.waits_until == until:
                return until
            heapq.heappop(self._delayed)
        return None

    def queued(self) -> Iterable[TaskState]:
        """Return the tasks that are queued, in order."""
        return [task for task in self.job.tasks.values() if task.phase == QUEUED]

    def open_runs(self) -> list[tuple[TaskState, Running]]:
        """Return the open runs with their tasks."""
        found = []
        for name in self.runs.values():
            task = self.job.tasks[name]
            if task.run is not None:
                found.append((task, task.run))
        return found


def _own_outcome(done: Done) -> tuple[bool, bool]:
    ok = done.phase == SUCCEEDED or (done.phase == SKIPPED and done.reason == OK)
    return ok, done.phase in (FAILED, CANCELLED)


def _has_ended(task: TaskState) -> bool:
    return task.phase not in (QUEUED, RUNNING)


def _join(parent: TaskNode, child: TaskNode) -> None:
    parent.tree_ok &= child.tree_ok
    parent.tree_failed |= child.tree_failed

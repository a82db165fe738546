"""What a job's tasks may do next: which are ready, which wait for what, which trees are complete.

Derived from the tasks alone and rebuilt from them at any time (`Progress(job)`), kept up to date by `transitions` so
that a step costs the same in a job of ten tasks and of fifty thousand. What is derived of a task lies in a node here,
never on the task. No recursion: a chain can be as long as a job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import Any

from air_executor.core.start_order import Place, StartOrder
from air_executor.model.state import (
    CANCELLED,
    FAILED,
    OK,
    QUEUED,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    UPSTREAM,
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
        self.place: Place = (-task.priority, position)
        self.cleanup: bool = task.when != "success" or (parent is not None and parent.cleanup)
        """It, or what queued it, has `when: failure` or `always`: failures elsewhere do not skip it."""
        self.open_children = 0
        """Tasks that it queued whose trees are not complete."""
        self.complete = False
        """It and everything that it queued have ended."""
        self.tree_ok = True
        self.tree_failed = False


def how_ended(task: TaskState) -> dict[str, Any]:
    """Return how a task has ended, as `$AIR_OUTCOMES` says it."""
    return {"phase": task.phase, "reason": task.reason, "exit_code": task.exit_code, "result": task.result}


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
        self.failed = 0
        """Tasks that have failed or were cancelled, but for failures that are allowed."""
        self.ends: Counter[tuple[str, str]] = Counter()
        """Tasks that have ended since this was built, by phase and reason. Observers count the difference."""
        self.slots: dict[int, str] = {}
        """Task of the open run in each taken slot."""
        self.runs: dict[int, str] = {}
        """Task of each open run, by the run's number."""
        self.results: list[tuple[str, Any]] = []
        """Results of the tasks that have succeeded, in the order of their ends; only grows."""
        self.done: list[TaskState] = []
        """The tasks that have ended, in the order of their ends; only grows."""
        self.asking: set[str] = set()
        """Tasks that ask for approval, now or once the jobs that theirs waits for have ended."""
        self.joining: set[str] = set()
        """Tasks that wait for their child job."""
        self._plain_open = 0
        self._plain_failed = False
        self.start_order = StartOrder(job)
        self._waiters: dict[str, list[str]] = {}
        """Tasks to look at once a tree is complete: each waits in one place."""
        self._dependents: dict[str, list[str]] = {}
        """Tasks that need a tree to succeed: each in all places, for the first failure decides."""
        self._final_tasks: list[str] = []
        self._rebuild()

    def _rebuild(self) -> None:
        for task in self.job.tasks.values():
            node = self._node(task)
            self._count(task.phase, 1)
            status = task.status
            if isinstance(status, Done):
                node.tree_ok, node.tree_failed = _own_outcome(task)
                self.failed += node.tree_failed
                self._plain_failed |= node.tree_failed and not node.cleanup
                if not task.superseded:
                    self.done.append(task)
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
            parent = self._parent(node.task)
            if parent is None:
                continue
            if node.complete:
                _join(parent, node)
            else:
                parent.open_children += 1

    def _node(self, task: TaskState) -> TaskNode:
        node = self.nodes[task.id] = TaskNode(task, len(self.nodes), self._parent(task))
        for need in task.after if task.when == "success" else ():
            self._dependents.setdefault(need, []).append(task.id)
        return node

    def _parent(self, task: TaskState) -> TaskNode | None:
        return None if task.queued_by is None else self.nodes.get(task.queued_by)

    def _count(self, phase: str, by: int) -> None:
        self.counts[phase] = self.counts.get(phase, 0) + by

    # Steps that transitions take

    def admit(self, task: TaskState) -> None:
        """Take in a new task (queued, or ended at once because its job is stopping)."""
        node = self._node(task)
        self._count(task.phase, 1)
        self.open += 1
        self._plain_open += not node.cleanup
        parent = self._parent(task)
        if parent is not None:
            parent.open_children += 1

    def place(self, task: TaskState) -> Readiness:
        """Put a queued task where it belongs; the caller ends it if the answer is that it will not run."""
        verdict = self.readiness(task)
        status = task.status
        if verdict is Readiness.WAITS:
            self._wait(task)
        elif verdict is Readiness.READY and task.approve is not None:
            self.asking.add(task.id)
        elif verdict is Readiness.READY and task.joins is not None:
            self.joining.add(task.id)
        elif verdict is Readiness.READY and isinstance(status, Queued):
            self.start_order.add(task, status, self.nodes[task.id].place)
        return verdict

    def started(self, task: TaskState, run: Running) -> None:
        """Move a task from queued to running."""
        self.start_order.drop(task)
        self.slots[run.slot] = task.id
        self.runs[run.seq] = task.id
        task.status = run
        self._recount("queued", "running")

    def requeued(self, task: TaskState, run: Running, status: Queued) -> None:
        """Move a task from running back to queued; the caller places it."""
        self._free(run)
        task.status = status
        self._recount("running", "queued")

    def ended(self, task: TaskState, done: Done) -> list[TaskState]:
        """Move a task to its end; return the queued tasks whose readiness may have changed by that."""
        before, node = task.phase, self.nodes[task.id]
        if task.run is not None:
            self._free(task.run)
        self.start_order.drop(task)
        self.asking.discard(task.id)
        self.joining.discard(task.id)
        task.status = done
        self._recount(before, done.phase)
        self.open -= 1
        self.ends[done.phase, done.reason] += 1
        ok, failed = _own_outcome(task)
        node.tree_ok &= ok
        node.tree_failed |= failed
        self.failed += failed
        self.done.append(task)
        if done.result is not None:
            self.results.append((task.id, done.result))
        touched: list[str] = []
        if not node.cleanup:
            self._plain_open -= 1
            self._plain_failed |= failed
            if self.cleans_up:
                touched, self._final_tasks = self._final_tasks, []
        above: TaskNode | None = node
        while above is not None and not above.complete and above.open_children == 0 and _has_ended(above.task):
            above.complete = True
            touched += self._waiters.pop(above.task.id, ())
            touched += self._failed_by(above)
            parent = self._parent(above.task)
            if parent is not None:
                parent.open_children -= 1
                _join(parent, above)
            above = parent
        return [t for t in map(self.job.tasks.__getitem__, touched) if t.phase == QUEUED]

    def _failed_by(self, node: TaskNode) -> list[str]:
        """Return the queued tasks that will never run because of a complete tree."""
        names = self._dependents.pop(node.task.id, ())
        if node.tree_ok:
            return []
        queued = (task for task in map(self.job.tasks.__getitem__, names) if task.phase == QUEUED)
        return [task.id for task in queued if self.readiness(task) is Readiness.UPSTREAM]

    def _free(self, run: Running) -> None:
        self.slots.pop(run.slot, None)
        self.runs.pop(run.seq, None)

    def _recount(self, before: str, after: str) -> None:
        self._count(before, -1)
        self._count(after, 1)

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

    @property
    def cleans_up(self) -> bool:
        """Whether all tasks without a `when` of their own, nor below one, have ended."""
        return self._plain_open == 0

    def spares(self, task: TaskState) -> bool:
        """Tell whether what stops the job leaves this task its chance: it cleans up, and the time for that is not over.

        A job that was stopped because of another one has done nothing that could be cleaned up.
        """
        job = self.job
        return job.stop not in (None, UPSTREAM) and not job.cleanup_over and self.nodes[task.id].cleanup

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
            complete, ok, failed = self.cleans_up, not self._plain_failed, self._plain_failed
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

    def startable(self) -> int:
        """Return how many tasks could start at once, as far as their job goes."""
        return self.start_order.startable(self.job.max_runners - len(self.slots))

    def next_time(self) -> float | None:
        """Return when the next delayed task becomes ready, or the next question expires; None if neither will."""
        expiry = min((at for name in self.asking if (at := self.expires_at(name)) is not None), default=None)
        promotion = self.start_order.next_promotion()
        return min((at for at in (promotion, expiry) if at is not None), default=None)

    def asking_now(self) -> set[str]:
        """Return the tasks that ask for approval now, or at the end of their delay."""
        if not self.job.waits_for_jobs:
            return set(self.asking)
        return {name for name in self.asking if self.job.tasks[name].ready_at is not None}

    def expires_at(self, name: str) -> float | None:
        """Return until when the question of a task can be answered; None: it does not ask, or for ever."""
        task = self.job.tasks[name]
        if name not in self.asking or task.timeout is None or task.ready_at is None:
            return None
        return task.ready_at + task.timeout

    def phase_so_far(self) -> str:
        """Return the phase that the job will have if nothing more fails; `running` while more than clean-up is left."""
        if self.job.stop == CANCELLED:
            return CANCELLED
        if self.failed or self.job.stop is not None:
            return FAILED
        return SUCCEEDED if self.cleans_up else RUNNING

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


def _own_outcome(task: TaskState) -> tuple[bool, bool]:
    failed = task.has_failed
    ok = task.reason == OK if task.phase == SKIPPED else not failed
    return ok, failed


def _has_ended(task: TaskState) -> bool:
    return task.phase not in (QUEUED, RUNNING)


def _join(parent: TaskNode, child: TaskNode) -> None:
    parent.tree_ok &= child.tree_ok
    parent.tree_failed |= child.tree_failed

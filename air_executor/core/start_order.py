"""The order in which a job's tasks start: those that are ready, and those whose waiting time is not over.

Part of `progress`, which says what each task waits for; the planner asks for the next one. A step costs the same in a
job of ten tasks and of fifty thousand.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection

from air_executor.model.state import QUEUED, JobState, Queued, TaskState

Group = tuple[str, ...]
"""Names of the pools that tasks need besides that of their job."""
Place = tuple[int, int]
"""Sorts tasks in the order in which they start."""
MAX_GROUPS = 32
"""Groups of ready tasks with an order of their own; those of further ones wait with the tasks without such pools."""


class StartOrder:
    """Queued tasks of one job that wait for nothing but time and a runner."""

    def __init__(self, job: JobState) -> None:
        self._job = job
        self._queues: dict[Group, list[tuple[Place, str]]] = {}
        """Ready tasks in their order, by group: a task that waits for a pool holds up those alone that need it, too."""
        self.ready: set[str] = set()
        self.ready_in: Counter[str] = Counter()
        """How many of those need a pool besides that of their job."""
        self.pooled = False
        """There was a ready task with such a pool."""
        self._delayed: list[tuple[float, str, Place]] = []
        self._held_places: dict[str, Place] = {}

    def add(self, task: TaskState, status: Queued, place: Place) -> None:
        """Put a task among the ready ones, or let it wait for its time."""
        if status.waits_until is None:
            self._push(task, place)
            return
        heapq.heappush(self._delayed, (status.waits_until, task.id, place))
        if status.retrying:
            self._held_places[task.id] = place

    def drop(self, task: TaskState) -> None:
        """Take a task out: it starts, has ended, or can never start and must hold up no other.

        One that can never start comes back when these indexes are built again.
        """
        self._held_places.pop(task.id, None)
        if task.id in self.ready:
            self.ready.discard(task.id)
            if task.weights:
                self.ready_in.subtract(task.weights.keys())

    def promote(self, now: float) -> bool:
        """Let tasks whose waiting time is over take their place among the ready ones; tell whether there were any."""
        before = len(self.ready)
        while self._delayed and self._delayed[0][0] <= now:
            until, name, place = heapq.heappop(self._delayed)
            if self._is_delayed(name, until):
                self._push(self._job.tasks[name], place)
        return len(self.ready) > before

    def next_promotion(self) -> float | None:
        """Return when the next delayed task becomes ready, or None."""
        while self._delayed:
            until, name, _ = self._delayed[0]
            if self._is_delayed(name, until):
                return until
            heapq.heappop(self._delayed)
        return None

    def groups(self) -> list[Group]:
        """Return the groups of tasks that may have one that is ready."""
        return list(self._queues)

    def next_ready(self, passed: Collection[str] = (), group: Group = ()) -> TaskState | None:
        """Return the task of a group to start next but for those passed over, or None. `promote` comes first."""
        queue = self._queues.get(group, [])
        while queue and queue[0][1] not in self.ready:
            heapq.heappop(queue)
        if not queue:
            self._queues.pop(group, None)
            return None
        place, name = queue[0]
        if name in passed:
            others = (entry for entry in queue if entry[1] in self.ready and entry[1] not in passed)
            place, name = min(others, default=(place, ""))
            if not name:
                return None
        if self._is_sequence and any(held < place for held in self._held_places.values()):
            return None
        return self._job.tasks[name]

    def startable(self, slots: int) -> int:
        """Return how many tasks could start at once in so many free slots."""
        if slots <= 0 or (self._is_sequence and self._held_places and self.next_ready() is None):
            return 0
        return min(slots, len(self.ready))

    @property
    def _is_sequence(self) -> bool:
        """Its tasks have one order, and one that waits for its retry holds up those behind it."""
        return self._job.max_runners == 1

    def _push(self, task: TaskState, place: Place) -> None:
        self._held_places.pop(task.id, None)
        if task.id not in self.ready:
            self.ready.add(task.id)
            if task.weights:
                self.pooled = True
                self.ready_in.update(task.weights.keys())
            heapq.heappush(self._queues.setdefault(self._group(task), []), (place, task.id))

    def _group(self, task: TaskState) -> Group:
        if not task.weights or self._is_sequence:
            return ()
        group = tuple(sorted(task.weights))
        return group if group in self._queues or len(self._queues) < MAX_GROUPS else ()

    def _is_delayed(self, name: str, until: float) -> bool:
        task = self._job.tasks[name]
        return task.phase == QUEUED and task.waits_until == until

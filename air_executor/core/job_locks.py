"""Which job has which lock (`lock` of a job), and which is next.

A job holds its lock from its first start to its end, which its state says (`locked_since`), so the locks of a manager
that starts are those of the states. Of the jobs that could start, the first one by priority and age has the next turn.
`JobIndex` keeps this current, and offers to the planner only jobs that hold their lock or whose turn it is. Pure.
"""

from __future__ import annotations

import heapq

from air_executor.model.state import JobState

_HOLDS, _WAITS = 0, 1
_Order = tuple[int, float, float, str]


class JobLocks:
    """The locks of the unfinished jobs."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        """By lock, the job that holds it, or whose turn it is."""
        self._orders: dict[str, _Order] = {}
        """By job, its place among those with its lock."""
        self._waiting: dict[str, list[_Order]] = {}
        """By lock, a heap; a place that is not in `_orders` is stale."""

    def admits(self, job: JobState) -> bool:
        """Tell whether a job may start a task, as far as its lock goes."""
        return job.spec.lock is None or self._first.get(job.spec.lock) == job.id

    def update(self, job: JobState, *, ready: bool) -> list[str]:
        """Note how a job stands, and whether it could start; return other jobs whose turn this begins or ends."""
        lock = job.spec.lock
        if lock is None:
            return []
        if job.locked_since is not None:
            return self.hold(job.id, lock, job.locked_since)
        if ready:
            return self._enter(lock, (_WAITS, -job.priority, job.submitted_at, job.id))
        return self.leave(job.id, lock)

    def hold(self, job: str, lock: str, since: float) -> list[str]:
        """Note that a job holds a lock; return others as `update` does."""
        return self._enter(lock, (_HOLDS, since, 0.0, job))

    def leave(self, job: str, lock: str) -> list[str]:
        """Note that a job neither holds its lock nor waits for it; return the job whose turn it is now."""
        self._orders.pop(job, None)
        if self._first.get(lock) != job:
            return []
        del self._first[lock]
        waiting = self._waiting.get(lock, [])
        while waiting:
            order = heapq.heappop(waiting)
            if self._orders.get(order[-1]) == order:
                self._first[lock] = order[-1]
                return [order[-1]]
        self._waiting.pop(lock, None)
        return []

    def _enter(self, lock: str, order: _Order) -> list[str]:
        job = order[-1]
        known = self._orders.get(job)
        self._orders[job] = order
        first = self._first.setdefault(lock, job)
        if first == job or order == known:
            return []
        last = max(order, self._orders[first])
        heapq.heappush(self._waiting.setdefault(lock, []), last)
        if last == order:
            return []
        self._first[lock] = job
        return [first]

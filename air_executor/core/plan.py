"""What to do next, as pure functions of a snapshot and a time.

`reconcile` is the contract's table for one slot (asked by `manager.supervisor`), `ReadyQueue.next_start` picks the next
task (asked by `manager.scheduler`), and `retry_at` says when a task runs again (asked by `manager.commit`). The manager
journals each answer before it acts on it. No I/O, no clock, no platform.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from air_executor.core.transitions import LiveJob
from air_executor.model.names import Slot
from air_executor.model.state import (
    PLATFORMS_FAULT,
    QUEUED,
    RUNNING,
    START_FAILED,
    TIMEOUT,
    USERS_FAULT,
    TaskState,
)

PLATFORM_RETRY_DELAY = 0.1
"""Seconds before the first retry after a platform failure; doubles each time, up to a minute."""
LONGEST_WAIT = 365 * 86400.0
"""Maximum retry delay, in seconds."""


class Action(Enum):
    """What one slot needs."""

    WAIT = "wait"
    REMOVE = "remove"
    """Stop whatever runner holds the slot, and free the name."""
    STOP = "stop"
    """Journal the stop of the run and its reason, then remove its runner."""
    COMMIT = "commit"
    """The run has ended and its runner is gone: commit its outcome."""
    LOST = "lost"
    """Its runner is gone without an outcome: fence the run with its claim, then commit the loss."""


@dataclass(frozen=True, slots=True)
class SlotView:
    """Everything known of one slot now. Ages in seconds."""

    open_run: str | None
    """Run id of the slot's open run in the state; None if there is none."""
    exited: bool = False
    """That run's `exit.json` is complete."""
    exited_for: float = 0.0
    """Age of that knowledge."""
    runner: str | None = None
    """Run id of the runner that the platform shows ("" if it is unknown); None if the name is free."""
    alive: bool = False
    finished: bool = False
    """Nothing of that runner runs any more; it only holds the name."""
    absent_for: float = 0.0
    """Time since the platform has shown that run's runner as exited or absent."""
    stop_requested: bool = False
    """The stop of the run is journaled."""
    never_starts: bool = False
    """The platform has given up on that runner, which has not started: it must be stopped."""
    overdue: bool = False
    """The run is past its timeout."""


LINGER = 1.0
"""Seconds that a runner may outlive its complete outcome before it is removed."""
REMOTE_LINGER = 30.0
"""The same for runners on another machine, which may report an end many seconds late under load. Removing them earlier
would add to that load: stopping a runner costs the platform more than deleting an ended one."""


def reconcile(view: SlotView, grace: float, *, remote: bool = False) -> tuple[Action, str | None]:  # noqa: PLR0911
    """Return what one slot needs and, for `STOP`, the reason: the first row of the contract's table that matches.

    `grace`: seconds that an outcome may take to become visible after its runner has gone. `remote`: the runner is on
    another machine.
    """
    if view.open_run is None:
        return (Action.REMOVE if view.runner is not None else Action.WAIT), None
    ours = view.runner == view.open_run
    gone = view.runner is None or (ours and view.finished)
    if view.exited:
        if gone:
            return Action.COMMIT, None
        linger = REMOTE_LINGER if remote else LINGER
        return (Action.WAIT if ours and view.alive and view.exited_for < linger else Action.REMOVE), None
    if ours and view.alive:
        if view.stop_requested:
            return Action.REMOVE, None
        if view.never_starts:
            return Action.STOP, START_FAILED
        return (Action.STOP, TIMEOUT) if view.overdue else (Action.WAIT, None)
    if view.runner is not None and not ours:
        return Action.REMOVE, None
    if view.absent_for < grace:
        return Action.WAIT, None
    return (Action.LOST if gone else Action.REMOVE), None


@dataclass(frozen=True, slots=True)
class Start:
    """A task to start in a slot."""

    job: LiveJob
    task: TaskState
    slot: Slot


class ReadyQueue:
    """The jobs that may have a task to start, best first: priority, then round-robin, then age.

    Heaps with lazy deletion: a pick costs the same with ten waiting jobs and with ten thousand.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        """`limits`: maximum number of runners by pool."""
        self._limits = limits
        self._heaps: dict[str, list[tuple[int, int, float, str]]] = {}
        """By pool."""
        self._jobs: dict[str, LiveJob] = {}
        """The queued jobs; a heap entry without its job here is stale."""
        self._served: dict[str, int] = {}
        self._turn = 0

    def offer(self, job: LiveJob) -> None:
        """Queue a job if it may have a task to start; call it when the job has changed."""
        state = job.state
        if state.phase not in (QUEUED, RUNNING):
            self.withdraw(state.id)
        elif state.id not in self._jobs:
            self._jobs[state.id] = job
            entry = (-state.priority, self._served.get(state.id, 0), state.submitted_at, state.id)
            heapq.heappush(self._heaps.setdefault(state.pool, []), entry)

    def withdraw(self, job: str) -> None:
        """Take a job out of the queue; it keeps its turn."""
        self._jobs.pop(job, None)

    def forget(self, job: str) -> None:
        """Drop an ended job."""
        self._jobs.pop(job, None)
        self._served.pop(job, None)

    def next_start(
        self,
        now: float,
        taken: Container[Slot],
        room: int,
        in_pool: Callable[[str], int],
        passed: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> Start | None:
        """Return the next task to start, or None.

        `taken`: the slots that cannot be used. `room`: how many more runners the manager may have. `in_pool`: number of
        runners in a pool. `passed`: by job, the tasks that cannot start now. The caller applies the start before it
        asks again.
        """
        while room > 0:
            pools = [
                pool
                for pool, heap in self._heaps.items()
                if heap and in_pool(pool) < self._limits.get(pool, room + in_pool(pool))
            ]
            if not pools:
                return None
            first = min(pools, key=lambda pool: self._heaps[pool][0])
            name = heapq.heappop(self._heaps[first])[3]
            job = self._jobs.pop(name, None)
            if job is None:
                continue
            start = _start_of(job, now, taken, passed.get(name, ()))
            if start is not None:
                self._turn += 1
                self._served[name] = self._turn
                return start
        return None


def _start_of(job: LiveJob, now: float, taken: Container[Slot], passed: Collection[str]) -> Start | None:
    state, progress = job.state, job.progress
    if state.phase not in (QUEUED, RUNNING) or len(progress.slots) >= state.max_runners:
        return None
    progress.promote(now)
    task = progress.next_ready(passed)
    if task is None:
        return None
    for number in range(state.max_runners):
        slot = Slot(state.id, number)
        if number not in progress.slots and slot not in taken:
            return Start(job, task, slot)
    return None


def retry_at(
    job: LiveJob, task: TaskState, reason: str, now: float, *, budget: int, chance: random.Random
) -> float | None:
    """Return when a task that ended with `reason` runs again, in Unix seconds; None if it does not.

    `budget`: retries after platform failures; the user's own budget is in the task. `chance` spreads retries.
    """
    if job.state.stop is not None and not job.progress.spares(task):
        return None
    if reason in PLATFORMS_FAULT:
        return None if task.faults >= budget else now + min(60.0, PLATFORM_RETRY_DELAY * 2.0**task.faults)
    if reason not in USERS_FAULT or task.charged >= task.retries:
        return None
    try:
        delay = task.retry_delay * float(task.retry_backoff) ** task.charged
    except OverflowError:
        delay = LONGEST_WAIT
    delay = min(delay, LONGEST_WAIT if task.retry_max_delay is None else task.retry_max_delay, LONGEST_WAIT)
    return now + delay * (1.0 + chance.random() * task.retry_jitter)

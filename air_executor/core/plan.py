"""What to do next, as pure functions of a snapshot and a time.

`reconcile` is the contract's table for one slot (asked by `manager.supervisor`), `ReadyQueue.next_start` picks the next
task (asked by `manager.scheduler`), and `retry_at` says when a task runs again (asked by `manager.commit`). The manager
journals each answer before it acts on it. No I/O, no clock, no platform.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from air_executor.core.pool_limits import limit_of
from air_executor.core.start_order import Group
from air_executor.core.transitions import LiveJob
from air_executor.model.names import Slot
from air_executor.model.state import (
    ERROR,
    EVICTED,
    LOST,
    PLATFORMS_FAULT,
    QUEUED,
    RUNNING,
    STALLED,
    START_FAILED,
    TIMEOUT,
    USERS_FAULT,
    JobState,
    TaskState,
)

PLATFORM_RETRY_DELAY = 0.1
"""Seconds before the first retry after a platform failure."""
PLATFORM_RETRY_GROWTH = {LOST: 2.0, EVICTED: 20.0, START_FAILED: 20.0}
"""Growth of this delay with each further failure, by reason. The first failure may be chance. But a platform that
removes or refuses a second runner is draining, full or broken, which takes more than seconds to end."""
LONGEST_PLATFORM_DELAY = 60.0
LONGEST_WAIT = 365 * 86400.0
"""Maximum retry delay, in seconds."""


class Action(Enum):
    """What one slot needs."""

    WAIT = "wait"
    REMOVE = "remove"
    """Stop whatever runner holds the slot, and free the name."""
    STOP = "stop"
    """Journal the stop of the run and its reason, then remove its runner."""
    KEEP = "keep"
    """The run has failed, and its runner stays: commit its outcome, or remove the runner if it must not stay."""
    COMMIT = "commit"
    """The run has ended and its runner is gone: commit its outcome."""
    LOST = "lost"
    """Its runner is gone without an outcome: fence the run with its claim, then commit the loss."""


class SlotView(NamedTuple):
    """Everything known of one slot now. Ages in seconds."""

    open_run: str | None
    """Run id of the slot's open run in the state; None if there is none."""
    exited: bool = False
    """That run's outcome is complete."""
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
    given_up: str | None = None
    """Why the platform has given up on that runner: it never starts, or a service of its task has ended."""
    overdue: bool = False
    """The run is past its timeout."""
    stalled: bool = False
    """The run has written nothing for too long."""
    stays: bool = False
    """The run has failed, and its runner stays for people to look around."""


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
        if gone or view.stays:
            return (Action.COMMIT if gone else Action.KEEP), None
        linger = REMOTE_LINGER if remote else LINGER
        return (Action.WAIT if ours and view.alive and view.exited_for < linger else Action.REMOVE), None
    if ours and view.alive:
        if view.stop_requested:
            return Action.REMOVE, None
        if view.given_up is not None:
            return Action.STOP, view.given_up
        if view.overdue or view.stalled:
            return Action.STOP, TIMEOUT if view.overdue else STALLED
        return Action.WAIT, None
    if view.runner is not None and not ours:
        return Action.REMOVE, None
    if view.absent_for < grace:
        return Action.WAIT, None
    return (Action.LOST if gone else Action.REMOVE), None


class Start(NamedTuple):
    """A task to start in a slot."""

    job: LiveJob
    task: TaskState
    slot: Slot


class _ReadyEntry(NamedTuple):
    """The place of a job's tasks of one group in the order of starts: priority, then round-robin, then age."""

    priority: int
    turn: int
    submitted_at: float
    job: str
    place: tuple[int, int]
    """Of the first of them in the order of their job."""
    group: Group


class ReadyQueue:
    """The jobs that may have a task to start, best first: priority, then round-robin, then age.

    A task starts once all its pools have room. One that waits for that reserves its pools: what comes behind it may
    start only without those, so a heavy task is never overtaken in them, and each waits for running tasks alone.

    A heap for each set of pools that tasks need, with lazy deletion: a pick costs the same with ten waiting jobs and
    with ten thousand. Pools without a limit do not count.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        """`limits`: by pool, the weights that may run together."""
        self._limits = limits
        self._heaps: dict[frozenset[str], list[_ReadyEntry]] = {}
        """By the limited pools that the first task of an entry needs."""
        self._jobs: dict[str, LiveJob] = {}
        """The queued jobs."""
        self._entries: dict[str, dict[Group, tuple[frozenset[str], _ReadyEntry]]] = {}
        """By job and group, the entry and its heap; an entry that is not here is stale."""
        self._served: dict[str, int] = {}
        """The turn of each job: that of its last start, or the newest one when it came."""
        self._turn = 0
        self._changed = True
        """Heaps have other first entries than the pick has seen."""
        self.reserved: dict[str, tuple[str, str]] = {}
        """After a pick: the pools that a waiting task reserves, with its job and its id."""

    def offer(self, job: LiveJob) -> None:
        """Queue a job if it may have a task to start; call it when the job has changed."""
        state, progress = job.state, job.progress
        if state.phase not in (QUEUED, RUNNING):
            self.withdraw(state.id)
            return
        self._jobs[state.id] = job
        entries = self._entries.setdefault(state.id, {})
        if not progress.start_order.pooled:  # the usual case
            if () not in entries:
                self._add(state, self._limited((state.pool,)))
            return
        for group in progress.start_order.groups() or ((),):
            task = progress.start_order.next_ready((), group)
            pools = self._limited((state.pool,) if task is None else state.pools_of(task))
            place = (0, 0) if task is None else progress.nodes[task.id].place
            known = entries.get(group)
            if known is None:
                self._add(state, pools, place, group)
            elif (known[0], known[1].place) != (pools, place):  # the first of them is another one now
                self._push(known[1]._replace(place=place), pools)

    def _add(self, job: JobState, pools: frozenset[str], place: tuple[int, int] = (0, 0), group: Group = ()) -> None:
        turn = self._served.setdefault(job.id, self._turn)
        self._push(_ReadyEntry(-job.priority, turn, job.submitted_at, job.id, place, group), pools)

    def _limited(self, pools: Iterable[str]) -> frozenset[str]:
        return frozenset([pool for pool in pools if limit_of(self._limits, pool) is not None])

    def _push(self, entry: _ReadyEntry, pools: frozenset[str]) -> None:
        self._entries[entry.job][entry.group] = pools, entry
        heapq.heappush(self._heaps.setdefault(pools, []), entry)

    def _pop(self, entry: _ReadyEntry, pools: frozenset[str]) -> None:
        heapq.heappop(self._heaps[pools])
        if self._is_valid(entry, pools):
            del self._entries[entry.job][entry.group]

    def _is_valid(self, entry: _ReadyEntry, pools: frozenset[str]) -> bool:
        return self._entries.get(entry.job, {}).get(entry.group) == (pools, entry)

    def withdraw(self, job: str) -> None:
        """Take a job out of the queue; it keeps its turn."""
        self._jobs.pop(job, None)
        self._entries.pop(job, None)

    def forget(self, job: str) -> None:
        """Drop an ended job."""
        self.withdraw(job)
        self._served.pop(job, None)

    def next_start(
        self,
        now: float,
        taken: Container[Slot],
        room: int,
        in_use: Callable[[str], int],
        passed: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> Start | None:
        """Return the next task to start, or None.

        `taken`: the slots that cannot be used. `room`: how many more runners the manager may have. `in_use`: the
        weights that run in a pool. `passed`: by job, the tasks that cannot start now. The caller applies the start
        before it asks again.
        """
        self.reserved = {}
        if room <= 0:
            return None
        firsts = self._firsts(in_use)
        while firsts:
            entry, number, pools = heapq.heappop(firsts)
            start = self._start_of(entry, pools, now, taken, passed.get(entry.job, ()))
            if start is not None and self._has_room(start, in_use):
                self._pop(entry, pools)
                self._take_turn(entry)
                return start
            if start is None and self._heaps[pools]:
                heapq.heappush(firsts, (self._heaps[pools][0], number, pools))
            elif start is None:
                del self._heaps[pools]
            if self._changed:
                firsts = self._firsts(in_use)
        return None

    def _take_turn(self, started: _ReadyEntry) -> None:
        """Put a job behind the others, but for those of its tasks that come first and wait for their pools."""
        self._turn += 1
        self._served[started.job] = self._turn
        for pools, entry in list(self._entries[started.job].values()):
            if entry > started:  # otherwise it waits for its pools
                self._push(entry._replace(turn=self._turn), pools)

    def _firsts(self, in_use: Callable[[str], int]) -> list[tuple[_ReadyEntry, int, frozenset[str]]]:
        """Return the first entry of each heap, with its pools, as a heap; leave out those whose only pool is full."""
        self._changed = False
        self.reserved = {}
        firsts = []
        for number, (pools, heap) in enumerate(self._heaps.items()):
            if heap and not (len(pools) == 1 and all(self._is_full(pool, in_use) for pool in pools)):
                firsts.append((heap[0], number, pools))
        heapq.heapify(firsts)
        return firsts

    def _is_full(self, pool: str, in_use: Callable[[str], int]) -> bool:
        limit = limit_of(self._limits, pool)
        return limit is not None and in_use(pool) >= limit > 0

    def _has_room(self, start: Start, in_use: Callable[[str], int]) -> bool:
        """Tell whether all pools of a start have room; if not, it reserves them."""
        needs = start.job.state.pools_of(start.task)
        limits = {pool: limit for pool in needs if (limit := limit_of(self._limits, pool)) is not None}
        if not [pool for pool in limits if pool in self.reserved or in_use(pool) + needs[pool] > limits[pool]]:
            return True
        for pool in limits:
            self.reserved.setdefault(pool, (start.job.state.id, start.task.id))
        return False

    def _start_of(
        self, entry: _ReadyEntry, pools: frozenset[str], now: float, taken: Container[Slot], passed: Collection[str]
    ) -> Start | None:
        """Return what starts next of the first entry of a heap; None: look at the first one again, if there is one."""
        job = self._jobs.get(entry.job) if self._is_valid(entry, pools) else None
        if job is not None and _may_start(job):
            if job.progress.start_order.promote(now):
                self._pop(entry, pools)
                self.offer(job)
                self._changed = True
                return None
            task = job.progress.start_order.next_ready(passed, entry.group)
            slot = None if task is None else _free_slot(job, taken)
            if task is not None and slot is not None:
                needs = job.state.pools_of(task).items()
                if not [pool for pool, weight in needs if weight > self._limits.get(pool, weight)]:
                    return Start(job, task, slot)
                if job.state.max_runners > 1:  # of a sequence, what cannot start holds up the rest
                    job.progress.start_order.drop(task)
                    return None
        self._pop(entry, pools)
        return None


def _may_start(job: LiveJob) -> bool:
    return job.state.phase in (QUEUED, RUNNING) and len(job.progress.slots) < job.state.max_runners


def _free_slot(job: LiveJob, taken: Container[Slot]) -> Slot | None:
    for number in range(job.state.slots):
        slot = Slot(job.state.id, number)
        if number not in job.progress.slots and slot not in taken:
            return slot
    return None


def retry_at(
    job: LiveJob,
    task: TaskState,
    reason: str,
    now: float,
    *,
    exit_code: int | None = None,
    budget: int,
    chance: random.Random,
) -> float | None:
    """Return when a task that ended with `reason` is retried, in Unix seconds; None if it is not.

    `budget`: retries after platform failures; the user's own budget is in the task. `chance` spreads retries.
    """
    if job.state.stop is not None and not job.progress.spares(task):
        return None
    if reason in PLATFORMS_FAULT:
        growth = PLATFORM_RETRY_GROWTH[reason] ** min(task.faults, 10)
        return None if task.faults >= budget else now + min(LONGEST_PLATFORM_DELAY, PLATFORM_RETRY_DELAY * growth)
    if reason not in USERS_FAULT or task.charged >= task.retries:
        return None
    if reason == ERROR and exit_code is not None and not _is_worth_retrying(task, exit_code):
        return None
    try:
        delay = task.retry_delay * float(task.retry_backoff) ** task.charged
    except OverflowError:
        delay = LONGEST_WAIT
    delay = min(delay, LONGEST_WAIT if task.retry_max_delay is None else task.retry_max_delay, LONGEST_WAIT)
    return now + delay * (1.0 + chance.random() * task.retry_jitter)


def _is_worth_retrying(task: TaskState, exit_code: int) -> bool:
    return exit_code not in task.no_retry_on and (task.retry_on is None or exit_code in task.retry_on)

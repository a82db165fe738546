"""The ledger: every run of some jobs, read from their states, with the job, pool and labels it is grouped by.

`job_cost` sums it, `always_on` simulates an always-on pool with the same load, `advice` compares usage with requests.
Times are Unix seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from air_executor.core.memory import requested_of
from air_executor.core.price import cost_of
from air_executor.model import state as s
from air_executor.model.attempt import MAX_AGAIN_KEPT, MAX_ATTEMPTS_KEPT, Attempt
from air_executor.model.memo import Reused
from air_executor.model.state import Done, JobState, Running, TaskState
from air_executor.model.times import from_text
from air_executor.model.usage import Usage

MOST_DRIFT = 1.0
"""Seconds by which two clocks may disagree that are the same."""
WASTE = ("failed", "retried", "cancelled", "lost")
"""Kinds of runs without success."""


def waste_of(reason: str, *, followed: bool) -> str | None:
    """Return the kind of waste of a run that ended for a reason; `followed`: its task ran again. None: none."""
    if reason in s.COMMITTED or reason == s.SKIP_ON:
        return None
    if reason == s.CANCELLED:
        return "cancelled"
    if reason in s.PLATFORMS_FAULT or reason == s.REQUEUE:
        return "lost"
    return "retried" if followed else "failed"


class Origin(NamedTuple):
    """What a run is grouped by."""

    job: str
    pool: str
    labels: Mapping[str, str]
    """Those of the task override those of the job."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One ended run."""

    origin: Origin
    attempt: Attempt
    ready_at: float
    """When only a runner was missing."""
    waited: float
    """Seconds from then until its command started."""
    followed: bool
    """Its task ran again later."""
    requested: Mapping[str, Any]
    """The resources that its task requested; memory as grown for this run."""
    counts: bool = True
    """It is counted as a run; of one that is divided between windows only the part in which it ended is."""

    @property
    def waste(self) -> str | None:
        """Its kind of waste; None if it succeeded."""
        return waste_of(self.attempt.reason, followed=self.followed)


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """An open run, of which nothing is committed yet."""

    origin: Origin
    since: float
    """When its runner was spawned, or the run decided, while that has no node."""
    ready_at: float
    seq: int = 0
    price: Mapping[str, float] | None = None
    """Per hour, by component; None if it has none, or a version before wrote the state."""
    currency: str | None = None
    exists: bool = True
    """Its runner has a node, or needs none."""

    def seconds(self, now: float, after: float = 0.0) -> float:
        """Return for how many seconds its runner has existed from `after` until `now`."""
        return max(0.0, now - max(self.since, after)) if self.exists else 0.0

    def cost(self, now: float, after: float = 0.0) -> float:
        """Return what it has cost from `after` until `now`."""
        return cost_of(self.price, self.seconds(now, after))


@dataclass(frozen=True, slots=True)
class EarlierRuns:
    """Runs known only as a sum: of a task with very many runs, the state keeps only the newest ones individually."""

    origin: Origin
    usage: Usage
    after: float = 0.0
    """When the first of them may have begun."""
    before: float = math.inf
    """When the last of them had ended at the latest."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """All runs of some jobs."""

    entries: Sequence[Entry] = ()
    open: Sequence[UnfinishedRun] = ()
    earlier: Sequence[EarlierRuns] = ()
    reused: Sequence[tuple[float, Reused]] = field(default_factory=list)
    """Tasks that had the result of an earlier run: when, and whose."""

    def after_clock_step(self) -> Ledger:
        """Return the runs spawned after the clock was last set during a run; itself if it never was."""
        step = max((entry.attempt.gone_at for entry in self.entries if entry.attempt.clock_stepped), default=None)
        if step is None:
            return self
        entries = [entry for entry in self.entries if entry.attempt.spawned >= step and not entry.attempt.clock_stepped]
        return Ledger(entries, self.open, self.earlier, self.reused)


def read(jobs: Iterable[JobState]) -> Ledger:
    """Read the ledger of some jobs. A job that waits for others of them is not ready before these have ended."""
    parts: list[tuple[list[str], list[Entry], list[UnfinishedRun]]] = []
    earlier: list[EarlierRuns] = []
    ends: dict[str, float] = {}
    reused: list[tuple[float, Reused]] = []
    for job in jobs:
        reused += [
            (from_text(task.finished_at), task.cached)
            for task in job.tasks.values()
            if task.cached is not None and task.finished_at is not None
        ]
        entries = [entry for task in job.tasks.values() for entry in _of_task(job, task)]
        if job.usage.runs > len(entries):
            earlier.append(EarlierRuns(origin_of(job), _rest(job.usage, entries), job.started_at or 0.0, _dropped(job)))
        if job.finished_at is not None:
            ends[job.uid] = job.finished_at
        parts.append((list(job.after_uids.values()), entries, open_runs(job)))
    for needed, entries, opened in parts:
        released = max((ends.get(uid, 0.0) for uid in needed), default=0.0)
        for n, entry in enumerate(entries):
            if entry.ready_at < released <= entry.attempt.spawned:
                waited = entry.waited - (released - entry.ready_at)
                entries[n] = replace(entry, ready_at=released, waited=max(entry.attempt.start, waited))
        for n, run in enumerate(opened):
            if run.ready_at < released <= run.since:
                opened[n] = replace(run, ready_at=released)
    return Ledger(
        [e for _, entries, _ in parts for e in entries], [o for _, _, opened in parts for o in opened], earlier, reused
    )


def origin_of(job: JobState, task: TaskState | None = None) -> Origin:
    """Return what the runs of a task are grouped by, or of a job whose tasks are not told apart."""
    labels = job.spec.labels
    own = {} if task is None else job.labels_of(task)
    return Origin(job.id, job.pool, {**labels, **own} if own else labels)


def _dropped(job: JobState) -> float:
    """Return when the last run that a job's state no longer has had ended at the latest: before its task's next one."""
    full = [task.attempts[0].spawned for task in job.tasks.values() if len(task.attempts) >= MAX_ATTEMPTS_KEPT]
    full += [
        next((one.spawned for one in task.attempts if one.reason == s.AGAIN), math.inf)
        for task in job.tasks.values()
        if task.again > MAX_AGAIN_KEPT
    ]
    return max(full, default=math.inf)


def _of_task(job: JobState, task: TaskState) -> Iterator[Entry]:
    origin = origin_of(job, task)
    last = len(task.attempts) - 1
    again = not isinstance(task.status, Done)
    requested = requested_of(task)
    for number, one in enumerate(task.attempts):
        had = requested if one.memory_limit is None else {**requested, "memory": one.memory_limit}
        yield entry_of(origin, one, had, followed=number < last or again)


def entry_of(origin: Origin, one: Attempt, requested: Mapping[str, Any], *, followed: bool) -> Entry:
    """Return an ended run as the ledger has it.

    A run's moments are by the volume's clock, and when it was ready is by the manager's. Where these two disagree only
    the wait counts, which one clock alone has measured.
    """
    queued = one.waited or 0.0
    ready_at = one.spawned - queued
    if one.ready_at is not None and abs(from_text(one.ready_at) - ready_at) <= MOST_DRIFT:
        ready_at = from_text(one.ready_at)
    return Entry(origin, one, ready_at, queued + one.start, followed, requested)


def open_runs(job: JobState) -> list[UnfinishedRun]:
    """Return the open runs of a job."""
    tasks = job.tasks.values()
    return [open_run(job, task, task.status) for task in tasks if isinstance(task.status, Running)]


def open_run(job: JobState, task: TaskState, run: Running) -> UnfinishedRun:
    """Return an open run as the ledger has it."""
    ready_at, wait = run.since - (run.waited or 0.0), run.node_wait
    origin, since = origin_of(job, task), run.since + (wait or 0.0)
    return UnfinishedRun(origin, since, ready_at, run.seq, run.price, run.currency, exists=wait is not None)


def _rest(usage: Usage, entries: Iterable[Entry]) -> Usage:
    """Return the part of a job's usage that its entries do not account for."""
    rest = replace(usage, other_costs=dict(usage.other_costs), reported=dict(usage.reported))
    for entry in entries:
        one = entry.attempt
        rest.runs -= 1
        rest.succeeded = max(0, rest.succeeded - (entry.waste is None))
        rest.start_seconds = max(0.0, rest.start_seconds - one.start)
        rest.work_seconds = max(0.0, rest.work_seconds - one.work)
        rest.finish_seconds = max(0.0, rest.finish_seconds - one.finish)
        rest.cpu_seconds = max(0.0, rest.cpu_seconds - (one.cpu or 0.0))
        for name, amount in one.reported.items():
            if name in rest.reported:
                rest.reported[name] = round(max(0.0, rest.reported[name] - amount), 9)
        if one.currency == rest.currency:
            rest.cost = max(0.0, rest.cost - one.cost)
        elif one.currency in rest.other_costs:
            rest.other_costs[one.currency] = max(0.0, rest.other_costs[one.currency] - one.cost)
    return rest

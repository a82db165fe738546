"""What the managers of a state directory have counted since its beginning: ends of runs, tasks and jobs, and money.

Every manager counts, also one that nobody scrapes, and the next one goes on where it stopped: `changes` go into the
journal together with the decisions that they count, and `record` into a file when the journal is emptied. What a scrape
may show is in the journal first, so a counter never goes back, whenever a manager is killed. The manager's thread owns
this; knows nothing of Prometheus, nor of files.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote
from weakref import WeakKeyDictionary

from air_executor.core.ledger import origin_of, waste_of
from air_executor.core.pool_labels import PoolLabels
from air_executor.core.price import COMPONENTS, Prices
from air_executor.core.progress import Progress
from air_executor.core.transitions import LiveJob
from air_executor.core.usage_meter import BUSY, COST, IDLE, RUNNER_SECONDS, MeteredRun, RunSample, Series
from air_executor.model import state as s
from air_executor.model.events import Ended, Event, KeepEnded, Late, NoticeSettled, Started
from air_executor.model.records import CountersRecord
from air_executor.model.state import Done, JobState, Running, TaskState
from air_executor.model.usage import Stages, stages

BOUNDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Upper bounds in seconds of what is counted as a distribution, from a local start to a long task."""
BEYOND = "+Inf"
_BUCKETS = (*map(str, BOUNDS), BEYOND)
BUCKET, SUM = "_bucket", "_sum"
"""Endings of a distribution's series: a bucket, with its bound as last label, counts the values in it alone."""
DELIVERED, GIVEN_UP = "delivered", "given-up"
_POOL_AT = {
    RUNNER_SECONDS: 2,
    COST: 2,
    "cpu_seconds_total": 2,
    "runs_total": 2,
    "runner_stage_seconds": None,
    "notifications_total": None,
    "label_cost_total": None,
}
"""Where a series has its pool, if not right after the name."""


@dataclass(frozen=True, slots=True)
class Counts:
    """All counters at one moment; what is in the journal by then."""

    pools: tuple[str, ...]
    """Labels in use."""
    new_pools: frozenset[str]
    """Those that no earlier manager has shown, and that are not known in advance."""
    values: Mapping[Series, float]
    """A series that is not here is 0."""
    open_runs: Mapping[str, int]
    """By pool."""
    in_use: Mapping[str, int] = field(default_factory=dict)
    """What the tasks of those take, by pool that has a limit."""


class Counters:
    """The counters of one state directory, in the hands of one manager."""

    def __init__(
        self,
        backend: str,
        prices: Prices,
        limited: Collection[str] = (),
        before: CountersRecord | None = None,
        *,
        cost_labels: Iterable[str] = (),
    ) -> None:
        """`limited`: pools that have a limit; `before`: what earlier managers have counted, None if that is unknown."""
        self.goes_on = before is not None
        """The counters of earlier managers are known."""
        before = before or CountersRecord({}, {})
        self._backend = backend
        self._prices = prices
        self._values = defaultdict(float, _series(before.counters))
        self._shown = _series(before.shown)
        """What a scrape may have shown of runner-seconds and cost, open runs included."""
        self._changed: set[Series] = set()
        self._changed_shown: set[Series] = set()
        shown = {series[2] for series in self._shown}
        counted = [pool_of(series) for series in (*self._shown, *self._values)]
        self.pools = PoolLabels((*limited, "default"), [pool for pool in counted if pool is not None])
        self._limited = limited
        self._usage_names = PoolLabels((), [one[2] for one in self._values if one[0] == "reported_usage_total"])
        """Names of usage that have a label of their own: tasks write what they like."""
        costs = [one for one in self._values if one[0] == "label_cost_total"]
        self._cost_values = {
            name: PoolLabels((), [unquote(one[2]) for one in costs if one[1] == name]) for name in cost_labels
        }
        """Values of labels that the cost is divided by."""
        self._old_pools = shown | {*limited, "default"}
        self.open: dict[tuple[str, int], MeteredRun] = {}
        """Open runs by job and number."""
        self._counted_ends: WeakKeyDictionary[Progress, dict[tuple[str, str], int]] = WeakKeyDictionary()
        """How many of a job's ends are counted, or are not ours to count."""
        self._pulls: dict[tuple[str, str], float] = {}

    # What happens

    def recovered(self, job: LiveJob) -> None:
        """Note that what a job's recovery has replayed was counted when it was decided."""
        self._counted_ends[job.progress] = dict(job.progress.ends)

    def decided(self, job: LiveJob, event: Event, steady: float) -> None:
        """Count a decision that was applied to a job; `steady` is the time by the steady clock."""
        state = job.state
        if isinstance(event, Started):
            self._begin(job, state.tasks[event.task], event.seq, steady)
            return
        pool = self.pools.label(state.pool)
        if isinstance(event, NoticeSettled):
            self._add(("notifications_total", event.on, DELIVERED if event.failed is None else GIVEN_UP), 1)
            return
        if isinstance(event, KeepEnded):
            self._stay(state, pool, event)
            return
        if isinstance(event, Late):
            self._add(("jobs_late_total", pool), 1)
        if isinstance(event, Ended):
            self._end(state, pool, event)
        self._count_ends(job.progress, pool)
        if state.ended and state.finished_at == event.at:
            self._add(("jobs_total", pool, state.phase, state.reason or s.OK), 1)

    def adopted(self, job: LiveJob, task: TaskState, seq: int, elapsed: float, steady: float) -> None:
        """Meter an open run of an earlier manager, whose runner started `elapsed` seconds ago."""
        self._begin(job, task, seq, steady, 0.0 if self.goes_on else elapsed)

    def waits_for_backend(self, job: str, task: str, steady: float) -> None:
        """Note that a task waits until its backend has what it needs; repeated while it waits."""
        self._pulls.setdefault((job, task), steady)

    def sample(self, samples: Iterable[RunSample]) -> None:
        """Meter open runs whose runners were just seen alive."""
        for sample in samples:
            if (run := self.open.get((sample.job.state.id, sample.seq))) is not None:
                run.sample(sample, self._prices)

    def drop(self, job: str) -> None:
        """Stop metering the open runs of a job that is gone or quarantined; what was shown of them stays."""
        for key in [key for key in self.open if key[0] == job]:
            del self.open[key]

    def _begin(self, job: LiveJob, task: TaskState, seq: int, steady: float, age: float = 0.0) -> None:
        name, pool = job.state.id, self.pools.label(job.state.pool)
        waited = task.status.waited if isinstance(task.status, Running) else None
        run = MeteredRun(task, pool, self._backend, self._prices.currency, waited, age)
        waiting_since = self._pulls.pop((name, task.id), None)
        if waiting_since is not None:
            run.pulled = steady - waiting_since
        self.open[name, seq] = run
        self._divide(job.state, task, 0.0, None)

    def _end(self, job: JobState, pool: str, event: Ended) -> None:
        spent, backend = stages(event.moments), event.backend or self._backend
        self._add(("runs_total", backend, pool, event.reason), 1)
        if event.moments.cpu:
            self._add(("cpu_seconds_total", backend, pool), event.moments.cpu)
        for name, amount in event.reported.items():
            self._add(("reported_usage_total", pool, self._usage_names.label(name)), amount)
        if event.reason in s.COMMITTED and event.queued:
            self._add(("queued_tasks_total",), len(event.queued))
        run = self.open.pop((job.id, event.seq), None)
        if run is None:
            return
        self._divide(job, run.task, event.cost, event.currency)
        run.backend, run.currency = backend, event.currency or run.currency
        run.commit(spent, event.price)
        for series, amount in run.used():
            self._add(series, amount)
        waited = (run.waited or 0.0) + event.delay
        self._observe_stages(waited, run.pulled, event.node_wait, spent)
        if event.reason != s.REQUEUE:
            self._observe("task_wait_seconds", pool, waited + spent.start)
        kind = waste_of(event.reason, followed=not isinstance(run.task.status, Done))
        if kind is not None:
            self._add(("waste_seconds_total", pool, kind), run.busy + run.idle)

    def _divide(self, job: JobState, task: TaskState, cost: float, currency: str | None) -> None:
        """Count a cost by the values of labels; 0 begins the series."""
        labels = origin_of(job, task).labels if self._cost_values else {}
        for name, known in self._cost_values.items():
            value = quote(known.label(labels.get(name, "")))
            series = ("label_cost_total", name, value, currency or self._prices.currency)
            self._values[series] += cost
            self._changed.add(series)

    def _stay(self, job: JobState, pool: str, event: KeepEnded) -> None:
        """Count what a runner that stayed has used since its run was committed."""
        task = job.tasks[event.task]
        attempt = next((one for one in task.attempts if one.seq == event.seq), None)
        if attempt is None:
            return
        backend, currency = attempt.backend or self._backend, attempt.currency or self._prices.currency
        self._divide(job, task, event.cost, currency)
        run = MeteredRun(task, pool, backend, currency, waited=None)
        run.commit(Stages(0.0, 0.0, event.seconds), attempt.price)
        for series, amount in run.used():
            self._add(series, amount)
        self._observe("runner_stage_seconds", "kept", event.seconds)
        kind = waste_of(attempt.reason, followed=not isinstance(task.status, Done))
        if kind is not None:
            self._add(("waste_seconds_total", pool, kind), event.seconds)

    def _observe_stages(self, waited: float, pulled: float, node_wait: float, spent: Stages) -> None:
        pulled = min(pulled, waited)
        name = "runner_stage_seconds"
        self._observe(name, "queue", max(0.0, waited - pulled - node_wait))
        if pulled:
            self._observe(name, "pull", pulled)
        if node_wait:
            self._observe(name, "node_wait", node_wait)
        self._observe(name, "start", spent.start)
        self._observe(name, "work", spent.work)
        self._observe(name, "finish", spent.finish)

    def _count_ends(self, progress: Progress, pool: str) -> None:
        counted = self._counted_ends.setdefault(progress, {})
        for end, count in progress.ends.items():
            if more := count - counted.get(end, 0):
                self._add(("tasks_total", pool, *end), more)
                counted[end] = count

    def _observe(self, name: str, label: str, value: float) -> None:
        bound = _BUCKETS[bisect_left(BOUNDS, value)]
        self._add((f"{name}{BUCKET}", label, bound), 1)
        self._add((f"{name}{SUM}", label), value)

    def _add(self, series: Series, amount: float) -> None:
        if amount:
            self._values[series] += amount
            self._changed.add(series)

    # What is kept and shown

    def counts(self) -> Counts:
        """Return all counters for a scrape, which may show them once `changes` are in the journal.

        No value is ever lower than the last time: a clock that was set can make a run shorter than its samples, and the
        job of an open run may be removed while no manager runs.
        """
        values = dict(self._values)
        for run in self.open.values():
            for series, amount in run.used():
                values[series] = values.get(series, 0.0) + amount
        pools = tuple(self.pools.labels())
        known = [(RUNNER_SECONDS, self._backend, pool, state) for pool in pools for state in (BUSY, IDLE)]
        known += [(COST, self._prices.currency, pool, component) for pool in pools for component in COMPONENTS]
        for series in {*known, *self._shown, *(one for one in values if one[0] in (RUNNER_SECONDS, COST))}:
            values[series] = max(values.get(series, 0.0), self._shown.get(series, 0.0))
            if self._shown.get(series) != values[series]:
                self._shown[series] = values[series]
                self._changed_shown.add(series)
        runs = Counter(run.pool for run in self.open.values())
        in_use: Counter[str] = Counter()
        for run in self.open.values():
            in_use.update({run.pool: 1, **run.task.weights})
        limited = {pool: in_use[pool] for pool in self._limited}
        return Counts(pools, frozenset(pools) - self._old_pools, values, runs, limited)

    def changes(self) -> CountersRecord | None:
        """Return what has changed since the last call, to be kept; None if nothing has."""
        if not self._changed and not self._changed_shown:
            return None
        changed, self._changed = self._changed, set()
        shown, self._changed_shown = self._changed_shown, set()
        return _record({one: self._values[one] for one in changed}, {one: self._shown[one] for one in shown})

    def record(self) -> CountersRecord:
        """Return everything that is to be kept."""
        return _record(self._values, self._shown)


def pool_of(series: Series) -> str | None:
    """Return the label of a series' pool; None if it has none."""
    name = series[0].removesuffix(BUCKET).removesuffix(SUM)
    at = _POOL_AT.get(name, 1)
    return series[at] if at is not None and at < len(series) else None


def _record(counters: Mapping[Series, float], shown: Mapping[Series, float]) -> CountersRecord:
    return CountersRecord(
        {" ".join(series): value for series, value in counters.items()},
        {" ".join(series): value for series, value in shown.items()},
    )


def _series(values: Mapping[str, float]) -> dict[Series, float]:
    return {tuple(text.split(" ")): value for text, value in values.items()}

"""Observes a manager, and is the collector that Prometheus' client asks at each scrape.

The manager's thread calls the observer's methods, a scrape comes from another thread: both hold the lock for
microseconds and never while a platform or a volume is asked, so neither waits for something that hangs.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from air_executor.core.ledger import waste_of
from air_executor.core.observer import Observer, Snapshot
from air_executor.core.price import COMPONENTS, FREE, Prices
from air_executor.core.progress import Progress
from air_executor.core.transitions import LiveJob
from air_executor.metrics.definitions import COUNTER, DEFINITIONS, PREFIX
from air_executor.metrics.event_metrics import EventMetrics
from air_executor.metrics.health import Health
from air_executor.metrics.phase_counts import PhaseCounts
from air_executor.metrics.pool_labels import PoolLabels
from air_executor.metrics.usage_meter import BUSY, IDLE, MeteredRun, UsageMeter
from air_executor.model import state as s
from air_executor.model.events import Ended, Event, Started
from air_executor.model.names import Slot
from air_executor.model.state import Done, Running, TaskState
from air_executor.model.usage import Stages, stages
from air_executor.store.space import Space

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Not OpenMetrics, in which `tasks` and `tasks_total` could not be two metrics."""
SAMPLE_WITHIN = 0.25
"""Seconds that a scrape waits for a sample of the open runs, so that their counters are those of now."""
CHECK_VOLUME_EVERY = 15.0
"""Seconds between two checks of the free space on the volume."""

Readings = dict[str, Mapping[tuple[str, ...], float]]
"""What is read at a scrape: values by metric (without prefix) and labels."""


@dataclass(frozen=True, slots=True)
class ManagerInfo:
    """What is known of a manager before it starts."""

    version: str
    backend: str
    max_runners: int
    baseline_pool: int
    """Workers of the always-on pool to compare with."""
    pools: Mapping[str, int] = field(default_factory=dict)
    """Limits by pool."""
    prices: Prices = FREE
    patience: float = 60.0
    """Seconds without a heartbeat after which the manager counts as hanging."""


class Collector(Observer):
    """The metrics of one manager."""

    def __init__(
        self,
        about: ManagerInfo,
        volume: Callable[[], Space | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.about = about
        self.health = Health(about.backend, about.patience)
        self.registry = CollectorRegistry()
        self._events = EventMetrics(self.registry)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        self._volume = volume
        self._clock = clock
        self._sample: Callable[[], None] | None = None
        """Makes the manager report a sample."""
        self._fresh = threading.Event()
        self._lock = threading.Lock()
        """Guards everything below."""
        self._pools = PoolLabels(about.pools)
        self._phase_counts = PhaseCounts()
        self._usage = UsageMeter(about.prices)
        self._counted_ends: WeakKeyDictionary[Progress, dict[tuple[str, str], int]] = WeakKeyDictionary()
        """How many of a job's ends are counted, or are not ours to count."""
        self._pulls: dict[tuple[str, str], float] = {}
        self._spent = {"working": 0.0, "asleep": 0.0}
        self._doing, self._since = "working", clock()
        self._baseline_since: float | None = None
        self._baseline_seconds = 0.0
        self._snapshot = Snapshot(answers=False, last_contact=None, samples=(), removing=())
        self._removing: dict[Slot, float] = {}
        self._space: Space | None = None
        self._next_volume_check = 0.0
        self._open_pools: set[str] = set()
        for pool in self._pools.labels():
            self._open_pool(pool)
        self._unseen_pools: set[str] = set()
        """Pools that are new since the last scrape."""

    # Jobs

    def job_changed(self, job: LiveJob, *, blocked: bool) -> None:
        """See `Observer.job_changed`."""
        with self._lock:
            self._phase_counts.update(job, self._pool_label(job), blocked=blocked)
            if not self.health.holds and job.progress.ends:
                # What recovery has replayed, an earlier manager has counted.
                self._counted_ends[job.progress] = dict(job.progress.ends)

    def job_ended(self, name: str, phase: str) -> None:
        """See `Observer.job_ended`."""
        with self._lock:
            self._phase_counts.end(name, phase)

    def job_gone(self, name: str) -> None:
        """See `Observer.job_gone`."""
        with self._lock:
            self._phase_counts.remove(name)
            self._usage.drop(name)

    def decided(self, job: LiveJob, event: Event) -> None:
        """See `Observer.decided`."""
        state = job.state
        with self._lock:
            pool = self._pool_label(job)
            if isinstance(event, Started):
                self._begin(state.id, pool, state.tasks[event.task], event.seq)
                return
            if isinstance(event, Ended):
                self._end(state.id, pool, event)
            self._count_ends(job.progress, pool)
        if state.ended and state.finished_at == event.at:
            self._events.jobs[pool, state.phase, state.reason or s.OK].inc()

    def _begin(self, job: str, pool: str, task: TaskState, seq: int, age: float = 0.0) -> None:
        run = MeteredRun(task, pool, task.status.waited if isinstance(task.status, Running) else None, age)
        waiting_since = self._pulls.pop((job, task.id), None)
        if waiting_since is not None:
            run.pulled = self._clock() - waiting_since
        self._usage.begin(job, seq, run)

    def _end(self, job: str, pool: str, event: Ended) -> None:
        events, spent = self._events, stages(event.moments)
        run = self._usage.commit(job, event.seq, spent, event.price, event.currency)
        backend = event.backend or self.about.backend
        events.runs[backend, pool, event.reason].inc()
        if event.moments.cpu:
            events.cpu[backend, pool].inc(event.moments.cpu)
        if event.reason == s.OK and event.queued:
            events.queued_tasks.inc(len(event.queued))
        if run is None:
            return
        waited = (run.waited or 0.0) + event.delay
        self._observe_stages(waited, run.pulled, spent)
        if event.reason != s.REQUEUE:
            events.waits[pool,].observe(waited + spent.start)
        kind = waste_of(event.reason, followed=not isinstance(run.task.status, Done))
        if kind is not None:
            events.waste[pool, kind].inc(run.busy + run.idle)

    def _observe_stages(self, waited: float, pulled: float, spent: Stages) -> None:
        seconds, pulled = self._events.stages, min(pulled, waited)
        seconds["queue",].observe(waited - pulled)
        if pulled:
            seconds["pull",].observe(pulled)
        seconds["start",].observe(spent.start)
        seconds["work",].observe(spent.work)
        seconds["finish",].observe(spent.finish)

    def _count_ends(self, progress: Progress, pool: str) -> None:
        counted = self._counted_ends.setdefault(progress, {})
        for end, count in progress.ends.items():
            if more := count - counted.get(end, 0):
                self._events.tasks[pool, *end].inc(more)
                counted[end] = count

    def adopted(self, job: LiveJob, task: TaskState, seq: int, elapsed: float) -> None:
        """See `Observer.adopted`."""
        self._events.orphans["adopted",].inc()
        with self._lock:
            self._begin(job.state.id, self._pool_label(job), task, seq, elapsed)

    def waits_for_backend(self, job: str, task: str) -> None:
        """See `Observer.waits_for_backend`."""
        with self._lock:
            self._pulls.setdefault((job, task), self._clock())

    # What goes wrong

    def prevented_duplicate(self) -> None:
        """See `Observer.prevented_duplicate`."""
        self._events.duplicates.inc()

    def removed_orphan(self) -> None:
        """See `Observer.removed_orphan`."""
        self._events.orphans["removed",].inc()

    def found_corrupt(self, files: int) -> None:
        """See `Observer.found_corrupt`."""
        self._events.corrupt_files.inc(files)

    def requested(self, verb: str, code: str) -> None:
        """See `Observer.requested`."""
        self._events.requests[verb, code].inc()

    # Its life

    def stands_by(self) -> None:
        """See `Observer.stands_by`."""
        self.health.stands_by()

    def holds(self) -> None:
        """See `Observer.holds`."""
        with self._lock:
            self._baseline_since = self._clock()
        self.health.took_over()

    def left(self) -> None:
        """See `Observer.left`."""
        with self._lock:
            self._baseline_seconds, self._baseline_since = self._baseline(), None
        self.health.left()

    def can_sample(self, sample: Callable[[], None]) -> None:
        """See `Observer.can_sample`."""
        self._sample = sample

    def sampled(self, snapshot: Snapshot) -> None:
        """See `Observer.sampled`."""
        samples, now = list(snapshot.samples), self._clock()  # before the lock: this reads files
        if now >= self._next_volume_check:
            self._space = self._volume()
            self._next_volume_check = now + CHECK_VOLUME_EVERY
        self.health.backend_answers(answers=snapshot.answers)
        with self._lock:
            self._snapshot = snapshot
            self._removing = {slot: self._removing.get(slot, now) for slot in snapshot.removing}
            for sample in samples:
                self._usage.sample(sample)
        self._fresh.set()

    def alive(self) -> None:
        """See `Observer.alive`."""
        self.health.beat()

    def sleeps(self) -> None:
        """See `Observer.sleeps`."""
        self.health.beat()
        with self._lock:
            worked = self._switch("asleep")
        self._events.cycles.observe(worked)

    def wakes(self) -> None:
        """See `Observer.wakes`."""
        self.health.beat()
        with self._lock:
            self._switch("working")

    def _switch(self, doing: str) -> float:
        now = self._clock()
        passed = now - self._since
        self._spent[self._doing] += passed
        self._doing, self._since = doing, now
        return passed

    def _baseline(self) -> float:
        since = 0.0 if self._baseline_since is None else self._clock() - self._baseline_since
        return self._baseline_seconds + since * self.about.baseline_pool

    def _pool_label(self, job: LiveJob) -> str:
        label = self._pools.label(job.state.pool)
        if label not in self._open_pools:
            self._open_pool(label)
            self._unseen_pools.add(label)
        return label

    def _open_pool(self, pool: str) -> None:
        self._open_pools.add(pool)
        self._events.open_pool(pool, self.about.backend)
        self._phase_counts.ready[pool] += 0

    # Scrapes, from another thread

    def scrape(self) -> bytes:
        """Return all metrics as they are now, as text; of a manager that is busy, as of its last poll."""
        if self._sample is not None and self.health.holds and self._usage.open:
            self._fresh.clear()
            self._sample()
            self._fresh.wait(SAMPLE_WITHIN)
        return generate_latest(self.registry)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield what is read now; the registry has the rest."""
        with self._lock:
            readings = self._passing_time() | self._gauges()
        for name, rows in readings.items():
            metric = DEFINITIONS[name]
            family = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
            made = family(f"{PREFIX}{name}", metric.help, labels=metric.labels)
            for labels, value in rows.items():
                made.add_metric(labels, value)
            yield made

    def _passing_time(self) -> Readings:
        """Return the counters that grow while nothing happens."""
        about, totals, pools = self.about, self._usage.totals(), self._pools.labels()
        # A pool's first scrape shows 0: Prometheus counts nothing of the value at which a series begins.
        unseen, self._unseen_pools = self._unseen_pools, set()
        spent = dict(self._spent)
        spent[self._doing] += self._clock() - self._since
        return {
            "runner_seconds_total": {
                (about.backend, pool, state): 0.0 if pool in unseen else totals.seconds[pool, state]
                for pool in pools
                for state in (BUSY, IDLE)
            },
            "cost_total": {(about.prices.currency, pool, part): 0.0 for pool in pools for part in COMPONENTS}
            | {labels: 0.0 if labels[1] in unseen else cost for labels, cost in totals.costs.items()},
            "manager_seconds_total": {(state,): seconds for state, seconds in spent.items()},
            "baseline_pool_seconds_total": {(): self._baseline()},
        }

    def _gauges(self) -> Readings:
        about, snapshot, space, now = self.about, self._snapshot, self._space, self._clock()
        runners = Counter(run.pool for run in self._usage.open.values())
        prices = about.prices
        hours = zip(COMPONENTS, (prices.runner_hour, prices.cpu_hour, prices.memory_hour, prices.gpu_hour), strict=True)
        files = space if space is not None and space.files else None
        return {
            "tasks": {(phase,): count for phase, count in self._phase_counts.tasks.items()},
            "ready_tasks": {(pool,): count for pool, count in self._phase_counts.ready.items()},
            "jobs": {(phase,): count for phase, count in self._phase_counts.jobs.items()},
            "runners": {(pool,): runners[pool] for pool in self._pools.labels()},
            "runners_limit": {(pool,): limit for pool, limit in about.pools.items()},
            "max_runners": {(): about.max_runners},
            "baseline_pool_runners": {(): about.baseline_pool},
            "price": {(about.backend, part, prices.currency): price for part, price in hours},
            "build_info": {(about.version, about.backend): 1},
            "manager_holds": {(): self.health.holds},
            "backend_up": {(about.backend,): self.health.holds and snapshot.answers},
            "oldest_removal_seconds": {(): max((now - at for at in self._removing.values()), default=0.0)},
            "watch_age_seconds": {}
            if snapshot.last_contact is None
            else {(about.backend,): max(0.0, time.monotonic() - snapshot.last_contact)},
            "volume_size_bytes": {} if space is None else {(): space.size},
            "volume_free_bytes": {} if space is None else {(): space.free},
            "volume_files": {} if files is None else {(): files.files},
            "volume_free_files": {} if files is None else {(): files.free_files},
        }

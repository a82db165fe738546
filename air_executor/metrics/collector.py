"""Observes a manager, and is the collector that Prometheus' client asks at each scrape.

The manager's thread calls the observer's methods, a scrape comes from another thread: both hold the lock for
microseconds and never while a platform or a volume is asked, so neither waits for something that hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from air_executor.core.counters import Counts
from air_executor.core.observer import Observer, Snapshot
from air_executor.core.pool_labels import PoolLabels
from air_executor.core.price import COMPONENTS, FREE, Prices
from air_executor.core.spending_limits import Spending
from air_executor.core.transitions import LiveJob
from air_executor.metrics.counter_families import counter_families
from air_executor.metrics.definitions import COUNTER, DEFINITIONS, PREFIX
from air_executor.metrics.event_metrics import EventMetrics
from air_executor.metrics.health import Health
from air_executor.metrics.phase_counts import PhaseCounts
from air_executor.model.events import Event
from air_executor.model.names import Slot
from air_executor.store.space import Space

COUNT_WITHIN = 0.25
"""Seconds that a scrape waits for the manager, so that the counters are those of now."""
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
        *,
        memory: int | None = None,
    ) -> None:
        """`memory` is what other processes read `Health` from; None: none does."""
        self.about = about
        self.health = Health(about.backend, about.patience, memory)
        self.health.beat()
        self.registry = CollectorRegistry()
        self._events = EventMetrics(self.registry)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        self._volume = volume
        self._clock = clock
        self._count: Callable[[], None] | None = None
        """Makes the manager report its counters."""
        self._fresh = threading.Event()
        self._lock = threading.Lock()
        """Guards everything below."""
        self._pools = PoolLabels((*about.pools, "default"))
        self._phase_counts = PhaseCounts()
        self._counts = Counts((), frozenset(), {}, {})
        """The counters of the state directory; none before the manager holds it: 0 would be a step back."""
        self._stale = True
        """They may have grown since."""
        self._scraped_pools: set[str] = set()
        self._spent = {"working": 0.0, "asleep": 0.0}
        self._doing, self._since = "working", clock()
        self._baseline_since: float | None = None
        self._baseline_seconds = 0.0
        self._snapshot = Snapshot(answers=False, last_contact=None, removing=())
        self._removing: dict[Slot, float] = {}
        self._space: Space | None = None
        self._next_volume_check = 0.0

    # Jobs

    def counts_by(self, pools: PoolLabels) -> None:
        """See `Observer.counts_by`."""
        self._pools = pools

    def job_changed(self, job: LiveJob, *, blocked: bool) -> None:
        """See `Observer.job_changed`."""
        with self._lock:
            self._phase_counts.update(job, self._pools.label(job.state.pool), blocked=blocked)
        self._stale = True

    def job_ended(self, name: str, phase: str) -> None:
        """See `Observer.job_ended`."""
        with self._lock:
            self._phase_counts.end(name, phase)

    def job_gone(self, name: str) -> None:
        """See `Observer.job_gone`."""
        with self._lock:
            self._phase_counts.remove(name)

    def decided(self, job: LiveJob, event: Event) -> None:  # noqa: ARG002 - the counters have counted it
        """See `Observer.decided`."""
        self._stale = True

    def adopted(self) -> None:
        """See `Observer.adopted`."""
        self._events.orphans.labels("adopted").inc()
        self._stale = True

    # What goes wrong

    def prevented_duplicate(self) -> None:
        """See `Observer.prevented_duplicate`."""
        self._events.duplicates.inc()

    def removed_orphan(self) -> None:
        """See `Observer.removed_orphan`."""
        self._events.orphans.labels("removed").inc()

    def found_corrupt(self, files: int) -> None:
        """See `Observer.found_corrupt`."""
        self._events.corrupt_files.inc(files)

    def requested(self, verb: str, code: str) -> None:
        """See `Observer.requested`."""
        self._events.requests.labels(verb, code).inc()

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

    def can_count(self, count: Callable[[], None]) -> None:
        """See `Observer.can_count`."""
        self._count = count

    def counted(self, counts: Counts) -> None:
        """See `Observer.counted`."""
        with self._lock:
            self._counts, self._stale = counts, bool(counts.open_runs)
        self._fresh.set()

    def polled(self, snapshot: Snapshot) -> None:
        """See `Observer.polled`."""
        now = self._clock()
        if now >= self._next_volume_check:
            self._space = self._volume()
            self._next_volume_check = now + CHECK_VOLUME_EVERY
        self.health.backend_answers(answers=snapshot.answers)
        with self._lock:
            self._snapshot = snapshot
            self._removing = {slot: self._removing.get(slot, now) for slot in snapshot.removing}

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

    # Scrapes, from another thread

    def scrape(self) -> bytes:
        """Return all metrics as they are now, as text; counters of a busy manager as of an earlier scrape."""
        if self._count is not None and self.health.holds and self._stale:
            self._fresh.clear()
            self._count()
            self._fresh.wait(COUNT_WITHIN)
        return generate_latest(self.registry)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Yield what is read now; the registry has the rest."""
        with self._lock:
            counts, readings = self._counts, self._passing_time() | self._gauges()
            new = counts.new_pools - self._scraped_pools
            self._scraped_pools |= new
        # A pool's first scrape shows 0: Prometheus counts nothing of the value at which a series begins.
        yield from counter_families(counts, new, self.about.backend, self.about.prices.currency)
        for name, rows in readings.items():
            metric = DEFINITIONS[name]
            family = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
            made = family(f"{PREFIX}{name}", metric.help, labels=metric.labels)
            for labels, value in rows.items():
                made.add_metric(labels, value)
            yield made

    def _passing_time(self) -> Readings:
        """Return the counters of this manager that grow while nothing happens."""
        spent = dict(self._spent)
        spent[self._doing] += self._clock() - self._since
        return {
            "manager_seconds_total": {(state,): seconds for state, seconds in spent.items()},
            "baseline_pool_seconds_total": {(): self._baseline()},
        }

    def _gauges(self) -> Readings:
        about, snapshot, space, now = self.about, self._snapshot, self._space, self._clock()
        pools, ready = self._pools.labels(), self._phase_counts.ready
        prices = about.prices
        hours = zip(COMPONENTS, (prices.runner_hour, prices.cpu_hour, prices.memory_hour, prices.gpu_hour), strict=True)
        files = space if space is not None and space.files else None
        return {
            "tasks": {(phase,): count for phase, count in self._phase_counts.tasks.items()},
            "ready_tasks": {(pool,): ready[pool] for pool in pools},
            "jobs": {(phase,): count for phase, count in self._phase_counts.jobs.items()},
            "runners": {(pool,): self._counts.open_runs.get(pool, 0) for pool in pools},
            "runners_limit": {(pool,): limit for pool, limit in about.pools.items()},
            "pool_used": {(pool,): self._counts.in_use.get(pool, 0) for pool in about.pools},
            "pool_waiting": {(pool,): self._phase_counts.waiting[pool] for pool in about.pools},
            "task_progress_ratio": {(pool,): share for pool, share in snapshot.progress.items()},
            "max_runners": {(): about.max_runners},
            "baseline_pool_runners": {(): about.baseline_pool},
            "budget_amount": {_budget(one): one.limit.amount for one in snapshot.spendings},
            "budget_used": {_budget(one): one.used for one in snapshot.spendings},
            "price": {(about.backend, part, prices.currency): price for part, price in hours},
            "build_info": {(about.version, about.backend): 1},
            "manager_holds": {(): self.health.holds},
            "backend_up": {(about.backend,): self.health.holds and snapshot.answers},
            "kept_runners": {(): snapshot.kept},
            "oldest_removal_seconds": {(): max((now - at for at in self._removing.values()), default=0.0)},
            "watch_age_seconds": {}
            if snapshot.last_contact is None
            else {(about.backend,): max(0.0, time.monotonic() - snapshot.last_contact)},
            "volume_size_bytes": {} if space is None else {(): space.size},
            "volume_free_bytes": {} if space is None else {(): space.free},
            "volume_files": {} if files is None else {(): files.files},
            "volume_free_files": {} if files is None else {(): files.free_files},
        }


def _budget(one: Spending) -> tuple[str, str, str]:
    return one.limit.name, one.limit.period, one.limit.currency

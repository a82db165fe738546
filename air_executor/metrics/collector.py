"""Hears a manager and counts; whoever serves metrics asks it for a snapshot.

The manager's thread calls it at each step, a scrape comes from another thread: both hold the lock for microseconds and
never while a platform or a volume is asked, so neither waits for what hangs. Knows nothing of how metrics are written.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from air_executor.core.ledger import WASTE, waste_of
from air_executor.core.observer import Observer, Snapshot
from air_executor.core.price import COMPONENTS, FREE, Prices
from air_executor.core.transitions import LiveJob
from air_executor.metrics.health import Health
from air_executor.metrics.histogram import SECONDS, SHORT, Histogram
from air_executor.metrics.phase_counts import PhaseCounts
from air_executor.metrics.pool_labels import PoolLabels
from air_executor.metrics.usage_meter import BUSY, IDLE, MeteredRun, UsageMeter
from air_executor.model import state as s
from air_executor.model.events import Ended, Event, Started
from air_executor.model.names import Slot
from air_executor.model.state import Done, Running, TaskState
from air_executor.model.usage import Stages, stages
from air_executor.store.space import Space

STAGES = ("queue", "pull", "start", "work", "finish")
_FAILURES = (s.ERROR, s.TIMEOUT, s.OOM, s.LOST, s.EVICTED, s.START_FAILED, s.REJECTED, s.BUDGET)
RUN_REASONS = (s.OK, *_FAILURES, s.CANCELLED, s.REQUEUE)
TASK_ENDS = (
    (s.SUCCEEDED, s.OK),
    *((s.FAILED, reason) for reason in _FAILURES),
    (s.CANCELLED, s.CANCELLED),
    *((s.SKIPPED, reason) for reason in (s.OK, s.UPSTREAM, s.TIMEOUT)),
)
JOB_ENDS = (
    (s.SUCCEEDED, s.OK),
    *((s.FAILED, reason) for reason in (*_FAILURES, s.UPSTREAM, s.CANCELLED)),
    (s.CANCELLED, s.CANCELLED),
)
LOOK_AT_VOLUME = 15.0
"""Seconds between two looks at how full the volume is."""

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ManagerInfo:
    """What is known of a manager before it begins."""

    version: str
    backend: str
    max_runners: int
    pool: int
    """Workers of the always-on pool to compare with."""
    queues: Mapping[str, int] = field(default_factory=dict)
    """Limits by queue."""
    prices: Prices = FREE
    patience: float = 60.0
    """Seconds without a sign of life after which the manager counts as hanging."""


Values = dict[str, dict[Labels, float]]
"""Values by metric (without prefix) and labels."""
Histograms = dict[str, dict[Labels, tuple[list[tuple[str, float]], float]]]
"""Buckets and sum by metric and labels."""


class Collector(Observer):
    """Counts what one manager does."""

    def __init__(
        self,
        about: ManagerInfo,
        volume: Callable[[], Space | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.about = about
        self.pulse = Health(about.backend, about.patience)
        self._volume = volume
        self._clock = clock
        self._lock = threading.Lock()
        self._queues = PoolLabels(about.queues)
        self._census = PhaseCounts()
        self._runs = UsageMeter(about.prices)
        self._counts: dict[str, defaultdict[Labels, float]] = {
            name: defaultdict(float)
            for name in ("tasks_total", "jobs_total", "runs_total", "waste_seconds_total", "cpu_seconds_total")
        }
        self._stages = {stage: Histogram(SECONDS) for stage in STAGES}
        self._waits: dict[str, Histogram] = {}
        self._cycles = Histogram(SHORT)
        self._pulls: dict[tuple[str, str], float] = {}
        self._plain = Counter({"queued_tasks": 0, "duplicates": 0, "corrupt": 0, "adopted": 0, "removed": 0})
        self._requests: Counter[Labels] = Counter()
        self._requests_lock = threading.Lock()
        self._spent = {"working": 0.0, "asleep": 0.0}
        self._doing, self._since = "working", clock()
        self._pool_since: float | None = None
        self._pool_seconds = 0.0
        self._look = Snapshot(answers=False, last_contact=None, samples=(), removing=())
        self._removing: dict[Slot, float] = {}
        self._space: Space | None = None
        self._next_space = 0.0
        for queue in self._queues.labels():
            self._open_series(queue)

    # Jobs

    def job_changed(self, job: LiveJob, *, blocked: bool) -> None:
        """See `Observer.job_changed`."""
        with self._lock:
            self._census.note(job, self._label(job.state.pool), blocked=blocked)
            if not self.pulse.holds:
                job.progress.ends.clear()  # what recovery has replayed, an earlier manager has counted

    def job_ended(self, name: str, phase: str) -> None:
        """See `Observer.job_ended`."""
        with self._lock:
            self._census.end(name, phase)

    def job_gone(self, name: str) -> None:
        """See `Observer.job_gone`."""
        with self._lock:
            self._census.drop(name)
            self._runs.forget(name)

    def decided(self, job: LiveJob, event: Event) -> None:
        """See `Observer.decided`."""
        state = job.state
        with self._lock:
            queue = self._label(state.pool)
            if isinstance(event, Started):
                self._begin(state.id, queue, state.tasks[event.task], event.seq)
            elif isinstance(event, Ended):
                self._end(state.id, queue, event)
            for (phase, reason), count in job.progress.ends.items():
                self._counts["tasks_total"][queue, phase, reason] += count
            job.progress.ends.clear()
            if state.ended and state.finished_at == event.at:
                self._counts["jobs_total"][queue, state.phase, state.reason or s.OK] += 1

    def _begin(self, job: str, queue: str, task: TaskState, seq: int, before: float = 0.0) -> None:
        run = MeteredRun(task, queue, task.status.waited if isinstance(task.status, Running) else None, before)
        waiting_since = self._pulls.pop((job, task.id), None)
        if waiting_since is not None:
            run.pulled = self._clock() - waiting_since
        self._runs.begin(job, seq, run)

    def _end(self, job: str, queue: str, event: Ended) -> None:
        spent = stages(event.moments)
        run = self._runs.book(job, event.seq, spent, event.price, event.currency)
        backend = event.backend or self.about.backend
        self._counts["runs_total"][backend, queue, event.reason] += 1
        self._counts["cpu_seconds_total"][backend, queue] += event.moments.cpu or 0.0
        if event.reason == s.OK:
            self._plain["queued_tasks"] += len(event.queued)
        if run is None:
            return
        waited = run.waited or 0.0
        self._observe_stages(waited, run.pulled, spent)
        if event.reason != s.REQUEUE:
            self._waits[queue].add(waited + spent.start)
        kind = waste_of(event.reason, followed=not isinstance(run.task.status, Done))
        if kind is not None:
            self._counts["waste_seconds_total"][queue, kind] += run.busy + run.idle

    def _observe_stages(self, waited: float, pulled: float, spent: Stages) -> None:
        pulled = min(pulled, waited)
        self._stages["queue"].add(waited - pulled)
        if pulled:
            self._stages["pull"].add(pulled)
        self._stages["start"].add(spent.start)
        self._stages["work"].add(spent.work)
        self._stages["finish"].add(spent.finish)

    def adopted(self, job: LiveJob, task: TaskState, seq: int, elapsed: float) -> None:
        """See `Observer.adopted`."""
        with self._lock:
            self._plain["adopted"] += 1
            self._begin(job.state.id, self._label(job.state.pool), task, seq, elapsed)

    def waits_for_backend(self, job: str, task: str) -> None:
        """See `Observer.waits_for_backend`."""
        with self._lock:
            self._pulls.setdefault((job, task), self._clock())

    # What goes wrong

    def prevented_duplicate(self) -> None:
        """See `Observer.prevented_duplicate`."""
        self._add("duplicates")

    def removed_orphan(self) -> None:
        """See `Observer.removed_orphan`."""
        self._add("removed")

    def found_corrupt(self, files: int) -> None:
        """See `Observer.found_corrupt`."""
        self._add("corrupt", files)

    def _add(self, what: str, count: int = 1) -> None:
        with self._lock:
            self._plain[what] += count

    def requested(self, verb: str, code: str) -> None:
        """See `Observer.requested`."""
        with self._requests_lock:
            self._requests[verb, code] += 1

    # Its life

    def stands_by(self) -> None:
        """See `Observer.stands_by`."""
        self.pulse.stands_by()

    def holds(self) -> None:
        """See `Observer.holds`."""
        with self._lock:
            self._pool_since = self._clock()
        self.pulse.holds_it()

    def left(self) -> None:
        """See `Observer.left`."""
        with self._lock:
            self._pool_seconds, self._pool_since = self._pool(), None
        self.pulse.left()

    def sampled(self, look: Snapshot) -> None:
        """See `Observer.sampled`."""
        samples, now = list(look.samples), self._clock()  # before the lock: this reads files
        if now >= self._next_space:
            self._space = self._volume()
            self._next_space = now + LOOK_AT_VOLUME
        self.pulse.looked(answers=look.answers)
        with self._lock:
            self._look = look
            self._removing = {slot: self._removing.get(slot, now) for slot in look.removing}
            for sight in samples:
                self._runs.see(sight)

    def alive(self) -> None:
        """See `Observer.alive`."""
        self.pulse.beat()

    def sleeps(self) -> None:
        """See `Observer.sleeps`."""
        self.pulse.beat()
        with self._lock:
            self._cycles.add(self._switch("asleep"))

    def wakes(self) -> None:
        """See `Observer.wakes`."""
        self.pulse.beat()
        with self._lock:
            self._switch("working")

    def _switch(self, doing: str) -> float:
        now = self._clock()
        passed = now - self._since
        self._spent[self._doing] += passed
        self._doing, self._since = doing, now
        return passed

    def _pool(self) -> float:
        since = 0.0 if self._pool_since is None else self._clock() - self._pool_since
        return self._pool_seconds + since * self.about.pool

    # Series

    def _label(self, queue: str) -> str:
        label = self._queues.label(queue)
        if label not in self._waits:
            self._open_series(label)
        return label

    def _open_series(self, queue: str) -> None:
        """Let all series of a queue begin at 0: of one that begins at 1, Prometheus never sees the first increase."""
        backend, counts = self.about.backend, self._counts
        self._waits[queue] = Histogram(SECONDS)
        begins: dict[str, list[Labels]] = {
            "tasks_total": [(queue, *end) for end in TASK_ENDS],
            "jobs_total": [(queue, *end) for end in JOB_ENDS],
            "runs_total": [(backend, queue, reason) for reason in RUN_REASONS],
            "waste_seconds_total": [(queue, kind) for kind in WASTE],
            "cpu_seconds_total": [(backend, queue)],
        }
        for name, series in begins.items():
            for labels in series:
                counts[name][labels] += 0.0
        self._census.ready[queue] += 0

    def snapshot(self) -> tuple[Values, Histograms]:
        """Return all values as they are now."""
        with self._lock:
            values = self._counters() | self._gauges()
            histograms: Histograms = {
                "runner_stage_seconds": {(stage,): (h.buckets(), h.total) for stage, h in self._stages.items()},
                "task_wait_seconds": {(queue,): (h.buckets(), h.total) for queue, h in self._waits.items()},
                "cycle_seconds": {(): (self._cycles.buckets(), self._cycles.total)},
            }
        with self._requests_lock:
            values["backend_requests_total"] = dict(self._requests)
        return values, histograms

    def _counters(self) -> Values:
        about, plain, sums = self.about, self._plain, self._runs.sums()
        spent = dict(self._spent)
        spent[self._doing] += self._clock() - self._since
        queues = self._queues.labels()
        return {
            **{name: dict(counts) for name, counts in self._counts.items()},
            "runner_seconds_total": {
                (about.backend, queue, state): sums.seconds[queue, state] for queue in queues for state in (BUSY, IDLE)
            },
            "cost_total": {(about.prices.currency, queue, part): 0.0 for queue in queues for part in COMPONENTS}
            | dict(sums.costs),
            "queued_tasks_total": {(): plain["queued_tasks"]},
            "duplicates_prevented_total": {(): plain["duplicates"]},
            "orphans_total": {("adopted",): plain["adopted"], ("removed",): plain["removed"]},
            "corrupt_files_total": {(): plain["corrupt"]},
            "manager_seconds_total": {(state,): seconds for state, seconds in spent.items()},
            "baseline_pool_seconds_total": {(): self._pool()},
        }

    def _gauges(self) -> Values:
        about, look, now = self.about, self._look, self._clock()
        runners = Counter(run.queue for run in self._runs.open.values())
        prices = about.prices
        hours = zip(COMPONENTS, (prices.runner_hour, prices.cpu_hour, prices.memory_hour, prices.gpu_hour), strict=True)
        found: Values = {
            "tasks": {(phase,): count for phase, count in self._census.tasks.items()},
            "ready_tasks": {(queue,): count for queue, count in self._census.ready.items()},
            "jobs": {(phase,): count for phase, count in self._census.jobs.items()},
            "runners": {(queue,): runners[queue] for queue in self._queues.labels()},
            "runners_limit": {(queue,): limit for queue, limit in about.queues.items()},
            "max_runners": {(): about.max_runners},
            "baseline_pool_runners": {(): about.pool},
            "price": {(about.backend, part, prices.currency): price for part, price in hours},
            "build_info": {(about.version, about.backend): 1},
            "manager_holds": {(): self.pulse.holds},
            "backend_up": {(about.backend,): self.pulse.holds and look.answers},
            "oldest_removal_seconds": {(): max((now - at for at in self._removing.values()), default=0.0)},
        }
        if look.last_contact is not None:
            found["watch_age_seconds"] = {(about.backend,): max(0.0, time.monotonic() - look.last_contact)}
        if (space := self._space) is not None:
            found["volume_size_bytes"], found["volume_free_bytes"] = {(): space.size}, {(): space.free}
            if space.files:
                found["volume_files"], found["volume_free_files"] = {(): space.files}, {(): space.free_files}
        return found

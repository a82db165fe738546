"""The counters and histograms that grow with what a manager does: Prometheus' own, in the registry of one manager.

The manager's thread updates them, a scrape reads them from another; each holds a lock of its own for an instant. What
is read at a scrape instead (gauges, and counters of time that passes) is `collector`'s.
"""

from __future__ import annotations

from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from air_executor.core.ledger import WASTE
from air_executor.metrics.definitions import DEFINITIONS, PREFIX
from air_executor.model import state as s

STAGES = ("queue", "pull", "start", "work", "finish")
"""Of a run: its task waits for a runner, then for its image; the runner starts, works, and is removed."""
RUN_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Upper bounds in seconds, from a local start to a long task."""
CYCLE_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""The same for a cycle, which ought to be quick."""

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

M = TypeVar("M", Counter, Histogram)


class Series(dict[tuple[str, ...], M]):
    """The series of one metric by label values: `labels()` validates and locks each time, this looks up."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric: M = metric

    def __missing__(self, values: tuple[str, ...]) -> M:
        """Create a series at 0."""
        made: M = self._metric.labels(*values)
        self[values] = made
        return made


class EventMetrics:
    """The counters and histograms of one manager."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str) -> Counter:
            made = DEFINITIONS[name]
            return Counter(f"{PREFIX}{name}", made.help, made.labels, registry=registry)

        def histogram(name: str, buckets: tuple[float, ...]) -> Histogram:
            made = DEFINITIONS[name]
            return Histogram(f"{PREFIX}{name}", made.help, made.labels, registry=registry, buckets=buckets)

        disable_created_metrics()  # type: ignore[no-untyped-call] # they would double the number of series
        self.tasks = Series(counter("tasks_total"))
        self.jobs = Series(counter("jobs_total"))
        self.runs = Series(counter("runs_total"))
        self.waste = Series(counter("waste_seconds_total"))
        self.cpu = Series(counter("cpu_seconds_total"))
        self.requests = Series(counter("backend_requests_total"))
        self.orphans = Series(counter("orphans_total"))
        self.queued_tasks = counter("queued_tasks_total")
        self.duplicates = counter("duplicates_prevented_total")
        self.corrupt_files = counter("corrupt_files_total")
        self.stages = Series(histogram("runner_stage_seconds", RUN_BUCKETS))
        self.waits = Series(histogram("task_wait_seconds", RUN_BUCKETS))
        self.cycles = histogram("cycle_seconds", CYCLE_BUCKETS)
        for stage in STAGES:
            _ = self.stages[stage,]
        for action in ("adopted", "removed"):
            _ = self.orphans[action,]

    def open_pool(self, pool: str, backend: str) -> None:
        """Create all series of a pool at 0: the first increase of one that begins at 1 is invisible to Prometheus."""
        begins: list[tuple[Series[Counter] | Series[Histogram], list[tuple[str, ...]]]] = [
            (self.tasks, [(pool, *end) for end in TASK_ENDS]),
            (self.jobs, [(pool, *end) for end in JOB_ENDS]),
            (self.runs, [(backend, pool, reason) for reason in RUN_REASONS]),
            (self.waste, [(pool, kind) for kind in WASTE]),
            (self.cpu, [(backend, pool)]),
            (self.waits, [(pool,)]),
        ]
        for series, labels in begins:
            for values in labels:
                _ = series[values]

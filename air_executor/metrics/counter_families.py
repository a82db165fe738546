"""The counters of a state directory as Prometheus wants them, with the series that each pool has from the start."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from urllib.parse import unquote

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from air_executor.core.counters import BEYOND, BOUNDS, BUCKET, DELIVERED, GIVEN_UP, SUM, Counts, pool_of
from air_executor.core.ledger import WASTE
from air_executor.core.price import COMPONENTS
from air_executor.core.usage_meter import BUSY, IDLE, Series
from air_executor.metrics.definitions import DEFINITIONS, HISTOGRAM, PREFIX
from air_executor.model import state as s
from air_executor.model.types import OCCASIONS

STAGES = ("queue", "pull", "node_wait", "start", "work", "finish")
"""Of a run: its task waits for a runner, then for its image or a node; the runner starts, works, and is removed."""
_FAILURES = (s.ERROR, s.TIMEOUT, s.STALLED, s.OOM, s.LOST, s.EVICTED, s.START_FAILED, s.REJECTED, s.BUDGET)
RUN_REASONS = (s.OK, *_FAILURES, s.CANCELLED, s.REQUEUE, s.AGAIN, s.SKIP_ON)
TASK_ENDS = (
    (s.SUCCEEDED, s.OK),
    *((s.FAILED, reason) for reason in (*_FAILURES, s.DECLINED)),
    (s.CANCELLED, s.CANCELLED),
    *((s.SKIPPED, reason) for reason in (s.OK, s.UPSTREAM, s.TIMEOUT, s.SKIP_ON, s.ONLY_IF)),
)
JOB_ENDS = (
    (s.SUCCEEDED, s.OK),
    *((s.FAILED, reason) for reason in (*_FAILURES, s.DECLINED, s.UPSTREAM, s.CANCELLED)),
    (s.CANCELLED, s.CANCELLED),
)


def series_of_pool(pool: str, backend: str, currency: str) -> dict[str, list[tuple[str, ...]]]:
    """Return the labels, by metric, of the series that a pool has from the start: seen before they grow."""
    return {
        "runner_seconds_total": [(backend, pool, state) for state in (BUSY, IDLE)],
        "cost_total": [(currency, pool, component) for component in COMPONENTS],
        "cpu_seconds_total": [(backend, pool)],
        "tasks_total": [(pool, *end) for end in TASK_ENDS],
        "jobs_total": [(pool, *end) for end in JOB_ENDS],
        "jobs_late_total": [(pool,)],
        "runs_total": [(backend, pool, reason) for reason in RUN_REASONS],
        "waste_seconds_total": [(pool, kind) for kind in WASTE],
        "task_wait_seconds": [(pool,)],
        "reported_usage_total": [],
    }


SERIES_WITHOUT_POOL: dict[str, list[tuple[str, ...]]] = {
    "label_cost_total": [],
    "queued_tasks_total": [()],
    "notifications_total": [(occasion, result) for occasion in OCCASIONS for result in (DELIVERED, GIVEN_UP)],
    "runner_stage_seconds": [(stage,) for stage in STAGES],
}


def counter_families(
    counts: Counts, new_pools: Collection[str], backend: str, currency: str
) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
    """Yield the counters; those of new pools at 0."""
    values = {series: value for series, value in counts.values.items() if pool_of(series) not in new_pools}
    known = {} if not counts.pools else {name: [*labels] for name, labels in SERIES_WITHOUT_POOL.items()}
    for pool in counts.pools:
        for name, labels in series_of_pool(pool, backend, currency).items():
            known.setdefault(name, []).extend(labels)
    for name in (*series_of_pool("", "", ""), *SERIES_WITHOUT_POOL):
        if DEFINITIONS[name].kind == HISTOGRAM:
            yield _histogram(name, known.get(name, ()), values)
        else:
            yield _counter(name, known.get(name, ()), values)


def _counter(name: str, known: Iterable[tuple[str, ...]], values: Mapping[Series, float]) -> CounterMetricFamily:
    made = CounterMetricFamily(f"{PREFIX}{name}", DEFINITIONS[name].help, labels=DEFINITIONS[name].labels)
    rows = dict.fromkeys(known, 0.0) | {series[1:]: value for series, value in values.items() if series[0] == name}
    for labels, value in rows.items():
        made.add_metric([unquote(label) for label in labels] if name == "label_cost_total" else labels, value)
    return made


def _histogram(name: str, known: Iterable[tuple[str, ...]], values: Mapping[Series, float]) -> HistogramMetricFamily:
    made = HistogramMetricFamily(f"{PREFIX}{name}", DEFINITIONS[name].help, labels=DEFINITIONS[name].labels)
    bounds = [*map(str, BOUNDS), BEYOND]
    for labels in dict.fromkeys([*known, *(series[1:] for series in values if series[0] == f"{name}{SUM}")]):
        counts = accumulate(values.get((f"{name}{BUCKET}", *labels, bound), 0.0) for bound in bounds)
        made.add_metric(labels, list(zip(bounds, counts, strict=True)), values.get((f"{name}{SUM}", *labels), 0.0))
    return made

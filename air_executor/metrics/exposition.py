"""The metrics that there are, and one scrape of them in Prometheus' text format.

A metric is declared once, here: its type, labels and help, which the documentation repeats word for word. The only
module that imports the Prometheus client.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from air_executor.metrics.collector import Collector, Histograms, Labels, Values

PREFIX = "air_executor_"
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Not OpenMetrics, in which `tasks` and `tasks_total` could not be two metrics."""

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


class Metric(NamedTuple):
    """One metric."""

    name: str
    """Without prefix."""
    kind: str
    labels: tuple[str, ...]
    help: str


METRICS = (
    Metric(
        "runner_seconds_total",
        COUNTER,
        ("backend", "queue", "state"),
        "Seconds during which runners existed, open ones included; busy: the command ran, idle: before and after it.",
    ),
    Metric(
        "runner_stage_seconds",
        HISTOGRAM,
        ("stage",),
        "How long the stages of runs took that have ended: queue, pull, start, work, finish.",
    ),
    Metric("cpu_seconds_total", COUNTER, ("backend", "queue"), "CPU time of runs that have ended, where it is known."),
    Metric("runs_total", COUNTER, ("backend", "queue", "reason"), "Runs that have ended."),
    Metric(
        "waste_seconds_total",
        COUNTER,
        ("queue", "kind"),
        "Runner-seconds of runs that came to nothing: failed, retried, cancelled, lost.",
    ),
    Metric("cost_total", COUNTER, ("currency", "queue", "component"), "What runners have cost, open runs included."),
    Metric(
        "price",
        GAUGE,
        ("backend", "component", "currency"),
        "Price per hour in force: of a runner, a CPU, a GiB of memory, a GPU.",
    ),
    Metric(
        "baseline_pool_seconds_total",
        COUNTER,
        (),
        "Runner-seconds of an always-on pool of the size to compare with, while this manager managed.",
    ),
    Metric("baseline_pool_runners", GAUGE, (), "Size of the always-on pool to compare with."),
    Metric("tasks_total", COUNTER, ("queue", "result", "reason"), "Tasks that have ended for good."),
    Metric("tasks", GAUGE, ("phase",), "Tasks of jobs that have not ended."),
    Metric(
        "ready_tasks",
        GAUGE,
        ("queue",),
        "Tasks that wait for nothing but a runner: only limits, or the backend, keep them from starting.",
    ),
    Metric(
        "task_wait_seconds",
        HISTOGRAM,
        ("queue",),
        "How long runs waited from when their task was ready until their command began.",
    ),
    Metric("queued_tasks_total", COUNTER, (), "Tasks that were queued by running tasks."),
    Metric("jobs_total", COUNTER, ("queue", "result", "reason"), "Jobs that have ended."),
    Metric("jobs", GAUGE, ("phase",), "Jobs in the state directory, archived ones excepted."),
    Metric("runners", GAUGE, ("queue",), "Open runs: runners that exist, are being started, or are not booked yet."),
    Metric("runners_limit", GAUGE, ("queue",), "Most runners at once, of the queues that have a limit."),
    Metric("max_runners", GAUGE, (), "Most runners at once, of all queues together."),
    Metric(
        "duplicates_prevented_total", COUNTER, (), "Runners that were not started because their slot had one already."
    ),
    Metric(
        "orphans_total",
        COUNTER,
        ("action",),
        "Runners of an earlier manager: adopted, or removed because no open run needs them.",
    ),
    Metric("corrupt_files_total", COUNTER, (), "Files that could not be read and were set aside as *.corrupt."),
    Metric("oldest_removal_seconds", GAUGE, (), "For how long the longest removal of a runner has been under way."),
    Metric("backend_up", GAUGE, ("backend",), "1 if the backend answers."),
    Metric(
        "backend_requests_total",
        COUNTER,
        ("verb", "code"),
        "Requests to the backend's platform, by the HTTP status of the answer.",
    ),
    Metric(
        "watch_age_seconds",
        GAUGE,
        ("backend",),
        "Since when nothing was heard from the platform that shows what it has.",
    ),
    Metric("volume_size_bytes", GAUGE, (), "Size of the volume of the state directory."),
    Metric("volume_free_bytes", GAUGE, (), "Room on the volume of the state directory."),
    Metric("volume_files", GAUGE, (), "Most files on the volume of the state directory, where it has such a limit."),
    Metric(
        "volume_free_files",
        GAUGE,
        (),
        "Room for files on the volume of the state directory, where it has such a limit.",
    ),
    Metric("manager_seconds_total", COUNTER, ("state",), "How long the manager has been working and asleep."),
    Metric(
        "manager_holds", GAUGE, (), "1 if this manager has the state directory, 0 if it starts, stands by or leaves."
    ),
    Metric("cycle_seconds", HISTOGRAM, (), "How long the manager worked between two sleeps."),
    Metric("build_info", GAUGE, ("version", "backend"), "1, with what runs."),
)


class Exposition:
    """One manager's metrics as text."""

    def __init__(self, tally: Collector) -> None:
        self._tally = tally
        self._process = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Family]:
        """Yield all metrics as they are now."""
        values, histograms = self._tally.snapshot()
        for metric in METRICS:
            yield _family(metric, values, histograms)
        yield from self._process.collect()

    def text(self) -> bytes:
        """Return one scrape."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)


def _family(metric: Metric, values: Values, histograms: Histograms) -> Family:
    name, about, labels = f"{PREFIX}{metric.name}", metric.help, metric.labels
    if metric.kind == HISTOGRAM:
        histogram = HistogramMetricFamily(name, about, labels=labels)
        for key, (buckets, total) in sorted(histograms[metric.name].items()):
            histogram.add_metric(key, buckets, total)
        return histogram
    plain = (CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily)(name, about, labels=labels)
    rows: Mapping[Labels, float] = values.get(metric.name, {})
    for key, value in sorted(rows.items()):
        plain.add_metric(key, value)
    return plain

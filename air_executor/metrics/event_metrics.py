"""The counters that one manager counts from its own start: requests, cycles, and what went wrong.

The manager's thread updates them, a scrape reads them from another; each holds a lock of its own for an instant. What
is read at a scrape instead is `collector`'s.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from air_executor.metrics.definitions import DEFINITIONS, PREFIX

CYCLE_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""Upper bounds in seconds for a cycle, which ought to be quick."""


class EventMetrics:
    """The counters of one manager."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str) -> Counter:
            made = DEFINITIONS[name]
            return Counter(f"{PREFIX}{name}", made.help, made.labels, registry=registry)

        disable_created_metrics()  # type: ignore[no-untyped-call] # they would double the number of series
        self.requests = counter("backend_requests_total")
        self.orphans = counter("orphans_total")
        self.duplicates = counter("duplicates_prevented_total")
        self.corrupt_files = counter("corrupt_files_total")
        cycles = DEFINITIONS["cycle_seconds"]
        self.cycles = Histogram(f"{PREFIX}cycle_seconds", cycles.help, registry=registry, buckets=CYCLE_BUCKETS)
        for action in ("adopted", "removed"):
            self.orphans.labels(action)

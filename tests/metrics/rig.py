"""How these tests ask a manager's server, and a collector."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from air_executor.metrics.collector import Collector
from air_executor.metrics.definitions import DEFINITIONS, PREFIX

Samples = dict[str, dict[tuple[str, ...], float]]
"""Values by metric (without prefix) and labels, in the order of its definition."""


@dataclass(frozen=True)
class HttpResponse:
    """One response."""

    status: int
    body: str
    headers: dict[str, str]


def get(port: int, path: str, headers: dict[str, str] | None = None, *, host: str = "127.0.0.1") -> HttpResponse:
    """Request one path.

    Raises:
        OSError: nobody listens.
    """
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return HttpResponse(response.status, response.read().decode(), found)
    finally:
        connection.close()


def samples(collector: Collector) -> Samples:
    """Return the samples of a scrape, those of histograms excepted."""
    found: Samples = {}
    for family in collector.registry.collect():
        for sample in family.samples:
            metric = DEFINITIONS.get(sample.name.removeprefix(PREFIX))
            if metric is not None:
                labels = tuple(sample.labels[label] for label in metric.labels)
                found.setdefault(metric.name, {})[labels] = sample.value
    return found

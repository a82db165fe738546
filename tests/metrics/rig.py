"""How these tests ask a manager's server, and a collector."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from air_executor.core.counters import Counters
from air_executor.core.transitions import LiveJob
from air_executor.metrics.collector import Collector, ManagerInfo
from air_executor.metrics.definitions import DEFINITIONS, PREFIX
from air_executor.model.events import Event
from air_executor.web.server import HttpServer
from air_executor.web.server_process import listen

if TYPE_CHECKING:
    from starlette.types import ASGIApp

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


@contextmanager
def serving(app: ASGIApp) -> Iterator[int]:
    """Serve an application in a thread; return the port."""
    listening = listen("127.0.0.1", 0)
    port = int(listening.getsockname()[1])
    server = HttpServer(app)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield port
    finally:
        server.stop()
        thread.join()


class CountingCollector(Collector):
    """A collector that counts for itself, as a manager would for it, and has all counts at once."""

    def __init__(self, about: ManagerInfo) -> None:
        super().__init__(about, lambda: None)
        self.counters = Counters(about.backend, about.prices, about.pools)
        self.counts_by(self.counters.pools)

    def holds(self) -> None:
        """See `Observer.holds`."""
        super().holds()
        self.counted(self.counters.counts())

    def job_changed(self, job: LiveJob, *, blocked: bool) -> None:
        """See `Observer.job_changed`."""
        super().job_changed(job, blocked=blocked)
        self.counted(self.counters.counts())

    def decided(self, job: LiveJob, event: Event) -> None:
        """See `Observer.decided`."""
        self.counters.decided(job, event, 0.0)
        super().decided(job, event)
        self.counted(self.counters.counts())


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

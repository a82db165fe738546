"""What being watched costs: throughput with metrics on and scraped, and a scrape where there are ten thousand jobs."""

from __future__ import annotations

import socket
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.place import Place
from benchmarks.scale import fill
from benchmarks.table import Line, Row, median_ratio, percentile

RUNNERS = 4
JOBS = 20
SCRAPE_EVERY = 1.0
"""Seconds; Prometheus is mostly told 15 to 60."""


def overhead(*, quick: bool) -> Sequence[Line]:
    """Measure 2,000 times `true` with metrics on, scraped every second, next to the same with the port off."""
    tasks, pairs = (400, 1) if quick else (2000, 9)
    watched: list[float] = []
    alone: list[float] = []
    for number in range(pairs):
        # Whoever comes first in a pair has the cooler machine.
        for ours in (True, False) if number % 2 else (False, True):
            (watched if ours else alone).append(_rate(tasks, free_port() if ours else 0))
    note = f"{statistics.median(watched):.0f} to {statistics.median(alone):.0f} tasks/s, a scrape each second"
    detail = {"watched": watched, "alone": alone}
    ratio = median_ratio(watched, alone)
    return [Line("metrics", "tasks/s with metrics ÷ without", ratio, 0.97, note=note, detail=detail)]


def _rate(tasks: int, port: int) -> float:
    with Place(AIR_MAX_RUNNERS=str(RUNNERS), AIR_HTTP_PORT=str(port)) as place:
        place.start()
        if port:
            read(port)  # the server's process begins with it
        names = [f"job{number}" for number in range(JOBS)]
        with _scraping(port):
            for name in names:
                place.submit(name, [["true"]] * (tasks // JOBS))
            ended = place.wait(names)
        begun = min(place.client.status(name).started_at or ended for name in names)
        return tasks / (ended - begun)


@contextmanager
def _scraping(port: int) -> Iterator[None]:
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(SCRAPE_EVERY):
            read(port)

    thread = threading.Thread(target=scrape)
    if port:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if port:
            thread.join()


def read(port: int) -> bytes:
    """Scrape once."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return bytes(answer.read())


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def scrape(*, quick: bool) -> Sequence[Line]:
    """Measure scrapes of a manager with 10,000 finished jobs and 10 open ones in 10 pools."""
    many, times = (500, 5) if quick else (10_000, 50)
    port = free_port()
    with Place(AIR_HTTP_PORT=str(port)) as place:
        fill(place, many)
        for number in range(10):
            place.submit(f"open{number}", [["true"], {"command": "true", "delay": 3600}], pool=f"pool{number}")
        place.start()
        time.sleep(2)  # until what follows a start is over
        size, took = len(read(port)), []  # the server's process begins with it
        for _ in range(times):
            begun = time.monotonic()
            size = len(read(port))
            took.append((time.monotonic() - begun) * 1000)
    at = f"{many} jobs"
    return [
        Line("scrape", f"{at}: p50, ms", statistics.median(took), 50, at_most=True, detail={"all": took}),
        Line("scrape", f"{at}: p99, ms", percentile(took, 0.99)),
        Line("scrape", f"{at}: size, KiB", size / 1024, 200, at_most=True),
    ]


ROWS = (Row("metrics", overhead), Row("scrape", scrape))

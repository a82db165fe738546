"""What people and programs at the server cost: throughput with a crowd of viewers, latency of a submission, idle pages.

Viewers and submitters are a process of their own, which reads bytes and hardly looks at them. Elsewhere it would be on
other machines, so what it takes from the two cores here is no cost of the server: the manager with a crowd is compared
with one beside a process that uses as much CPU and asks for nothing. What the crowd costs in all stands next to it.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass

from benchmarks.metrics import free_port
from benchmarks.place import Place, cpu_of_process
from benchmarks.table import Line, Row, median_ratio, percentile

RUNNERS = 4
JOBS = 20
VIEWERS = 200
SUBMITS_PER_SECOND = 50
TOKEN = "air_" + "benchmark" * 5
WITH_TOKEN = {"AIR_ADMIN_TOKEN_FILE": "token"}
BUSY = "job0"
"""The job that all viewers look at."""
BURN_EVERY = 0.005
"""Seconds between two pieces of work of the process that stands for the clients."""
_VERSION = re.compile(rb'data-version="([0-9a-f]*)"')


def crowd(*, quick: bool) -> Sequence[Line]:
    """Measure `true` 4,000 times with 200 viewers of one of the jobs and 50 submissions a second, next to nobody.

    The submitted jobs wait for one that does not end, so all sides run the same tasks. The manager's work for them
    counts, as does all that the server does.
    """
    tasks, rounds = (400, 1) if quick else (4000, 5)
    crowded: list[Load] = []
    beside: list[Load] = []
    alone: list[Load] = []
    for number in range(rounds):
        if number % 2:
            alone.append(_load(tasks, _nobody))
        crowded.append(_load(tasks, _visitors))
        share = statistics.median(one.clients for one in crowded)
        beside.append(_load(tasks, _burner(share)))
        if not number % 2:
            alone.append(_load(tasks, _nobody))
    rates, rates_beside, rates_alone = ([one.rate for one in loads] for loads in (crowded, beside, alone))
    note = f"{statistics.median(rates):.0f} to {statistics.median(rates_beside):.0f} tasks/s"
    note += f"; {statistics.median(one.submissions for one in crowded):.0f} submissions/s arrived"
    figure = f"tasks/s with {VIEWERS} viewers and {SUBMITS_PER_SECOND} submissions/s ÷ "
    detail = {
        name: [asdict(one) for one in loads]
        for name, loads in (("crowded", crowded), ("beside", beside), ("alone", alone))
    }
    cycle, cycle_alone = (statistics.median(one.cycle for one in loads) for loads in (crowded, alone))
    server, clients = (statistics.median(getattr(one, name) for one in crowded) for name in ("server", "clients"))
    return [
        Line(
            "viewers",
            f"{figure}with the clients' CPU used by nobody's client",
            median_ratio(rates, rates_beside),
            0.95,
            note=note,
            detail=detail,
        ),
        Line(
            "viewers",
            f"{figure}with the machine to itself",
            median_ratio(rates, rates_alone),
            note=f"{statistics.median(rates_alone):.0f} tasks/s alone",
        ),
        Line("viewers", "CPU of the clients, % of a core", clients * 100),
        Line("viewers", "CPU of the server, % of a core", server * 100),
        Line("viewers", "CPU of the manager's own thread, ms a task", cycle, note=f"without them {cycle_alone:.2f}"),
    ]


@dataclass(frozen=True)
class Load:
    """What a manager did, with visitors or without."""

    rate: float
    """Tasks a second."""
    submissions: float
    """A second, over HTTP."""
    cycle: float
    """Milliseconds of CPU of the thread with the cycle, a task."""
    server: float
    """CPU of the server's process, in cores."""
    clients: float
    """CPU of the process beside the manager, in cores."""


Beside = Callable[[int], AbstractContextManager[int | None]]
"""What runs beside a manager with this port; it gives the process, if there is one."""


def _load(tasks: int, runs_beside: Beside) -> Load:
    """Measure the tasks a second."""
    port = free_port()
    with Place(AIR_MAX_RUNNERS=str(RUNNERS), AIR_HTTP_PORT=str(port), **WITH_TOKEN) as place:
        _put_token(place)
        names = [f"job{number}" for number in range(JOBS)]
        place.submit("wait", [{"command": "true", "delay": 3600}])
        place.start()
        with runs_beside(port) as other:

            def used() -> tuple[float, float, float]:
                return place.cpu_of_cycle(), place.cpu_of_server(), 0.0 if other is None else cpu_of_process(other)

            before, begun = used(), time.time()
            sent = len(place.client.ids())
            for name in names:
                place.submit(name, [["true"]] * (tasks // JOBS))
            seconds = place.wait(names) - begun
            cycle, server, clients = (after - earlier for after, earlier in zip(used(), before, strict=True))
            sent = len(place.client.ids()) - sent - JOBS
            return Load(tasks / seconds, sent / seconds, cycle / tasks * 1000, server / seconds, clients / seconds)


def _put_token(place: Place) -> None:
    with open(f"{place.folder}/token", "w", encoding="ascii") as file:
        file.write(TOKEN)


def _nobody(_: int) -> AbstractContextManager[None]:
    return nullcontext()


def _visitors(port: int) -> AbstractContextManager[int]:
    return _process("visit", port, VIEWERS, SUBMITS_PER_SECOND)


def _burner(share: float) -> Beside:
    return lambda _: _process("burn", share)


@contextmanager
def _process(*words: object) -> Iterator[int]:
    """Run this module as a process until the `with` ends; give its id once it says that it has begun."""
    command = [sys.executable, "-m", "benchmarks.server", *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - as asked for
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


async def visit(port: int, viewers: int, rate: float) -> None:
    """Look and submit until killed."""
    opened = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(_view(port, opened)) for _ in range(viewers)]
    for _ in range(viewers):
        await opened.acquire()
    print("all are there", flush=True)
    await asyncio.gather(_submit(port, rate), *tasks)


def burn(share: float) -> None:
    """Use a share of a core until killed, in as small pieces as clients do."""
    print("begun", flush=True)
    begun, used = time.monotonic(), time.thread_time()
    while True:
        time.sleep(BURN_EVERY)
        while time.thread_time() - used < (time.monotonic() - begun) * share:
            pass


async def _view(port: int, opened: asyncio.Semaphore) -> None:
    """Do what the page's script does: hold a stream, and fetch the page where it tells of another version."""
    version, free_at, is_open = b"", 0.0, False
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET /jobs/{BUSY}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            if b" 200 " not in await reader.readuntil(b"\r\n\r\n"):
                raise ConnectionRefusedError
            if not is_open:
                is_open = True
                opened.release()
            while line := await reader.readline():
                if not line.startswith(b"data: ") or line[6:].strip() == version:
                    continue
                await asyncio.sleep(max(0.0, free_at - time.monotonic()))
                begun = time.monotonic()
                body = await _fetch(port)
                if found := _VERSION.search(body):
                    version = found[1]
                free_at = time.monotonic() + max(0.5, 20 * (time.monotonic() - begun))
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(1)


async def _fetch(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await _ask(reader, writer, "GET", f"/jobs/{BUSY}")
    finally:
        writer.close()


async def _submit(port: int, rate: float) -> None:
    connection = await asyncio.open_connection("127.0.0.1", port)
    number, next_at = 0, time.monotonic()
    while True:
        number += 1
        try:
            await _post(connection, f"sent-{number}")
        except (OSError, asyncio.IncompleteReadError):  # among so many, the server ends one that waits for a moment
            connection = await asyncio.open_connection("127.0.0.1", port)
        next_at = max(next_at + 1 / rate, time.monotonic() - 1)
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))


async def _post(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], name: str) -> None:
    job = {"id": name, "after": ["wait"], "tasks": [{"command": "true"}]}
    data = json.dumps(job).encode()
    sent = [b"Authorization: Bearer " + TOKEN.encode(), b"Content-Type: application/json"]
    body = await _ask(*connection, "POST", "/api/v1/jobs", sent, data)
    while body.startswith(b"too many requests"):  # as the command line does
        await asyncio.sleep(0.1)
        body = await _ask(*connection, "POST", "/api/v1/jobs", sent, data)
    if b'"uid"' not in body:
        msg = body.decode()
        raise RuntimeError(msg)


async def _ask(  # noqa: PLR0917 - a request has as many parts
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    headers: Sequence[bytes] = (),
    data: bytes = b"",
) -> bytes:
    """Send a request on an open connection; return the body of the answer."""
    first = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n".encode()
    writer.write(first + b"".join(line + b"\r\n" for line in headers) + b"\r\n" + data)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    found = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    return await reader.readexactly(int(found["content-length"]))


def submission(*, quick: bool) -> Sequence[Line]:
    """Measure a submission over a connection that is open, until its answer: the job is on the volume then."""
    times = 30 if quick else 500
    port = free_port()
    with Place(AIR_HTTP_PORT=str(port), **WITH_TOKEN) as place:
        _put_token(place)
        place.submit("wait", [{"command": "true", "delay": 3600}])
        place.start()
        cycle = place.cpu_of_cycle()
        took, over_files, server = asyncio.run(_timed(place, port, times))
        cycle = (place.cpu_of_cycle() - cycle) / (2 * times)
    note = f"over files, in turns: {statistics.median(over_files):.1f}"
    return [
        Line("submit-http", "p50, ms", statistics.median(took), 15, at_most=True, note=note, detail={"all": took}),
        Line("submit-http", "p50 ÷ over files", statistics.median(took) / statistics.median(over_files)),
        Line("submit-http", "p99, ms", percentile(took, 0.99)),
        Line("submit-http", "CPU of the server, ms", server / times * 1000, note=f"of the manager {cycle * 1000:.2f}"),
    ]


async def _timed(place: Place, port: int, times: int) -> tuple[list[float], list[float], float]:
    """Return the milliseconds of submissions over HTTP and over files, and the seconds of CPU of the server."""
    connection = await asyncio.open_connection("127.0.0.1", port)
    await _post(connection, "first")  # the API is built with its first request
    found, over_files = [], []
    server = place.cpu_of_server()
    for number in range(times):
        begun = time.monotonic()
        await _post(connection, f"sent-{number}")
        found.append((time.monotonic() - begun) * 1000)
        await asyncio.sleep(0.02)
        begun = time.monotonic()
        place.submit(f"put-{number}", ["true"], after=["wait"])
        over_files.append((time.monotonic() - begun) * 1000)
        await asyncio.sleep(0.02)
    return found, over_files, place.cpu_of_server() - server


def idle(*, quick: bool) -> Sequence[Line]:
    """Measure the manager's CPU with one open page of a job that waits, beyond that without a page."""
    seconds = 5.0 if quick else 60.0
    port = free_port()
    with Place(AIR_HTTP_PORT=str(port)) as place:
        place.submit(BUSY, [{"command": "true", "delay": 3600}])
        place.start()
        time.sleep(2)  # until what follows a start is over
        alone = _used(place, seconds)
        used = asyncio.run(_open_page(place, port, seconds))
    figure = "one open page without changes: CPU, % of a core"
    return [Line("idle-page", figure, used * 100, 0.3, at_most=True, note=f"without it {alone * 100:.2f}")]


def _used(place: Place, seconds: float) -> float:
    before = place.cpu_exactly()
    time.sleep(seconds)
    return (place.cpu_exactly() - before) / seconds


async def _open_page(place: Place, port: int, seconds: float) -> float:
    task = asyncio.create_task(_view(port, opened := asyncio.Semaphore(0)))
    await opened.acquire()
    await asyncio.sleep(1)
    used = await asyncio.to_thread(_used, place, seconds)
    task.cancel()
    return used


ROWS = (Row("viewers", crowd), Row("submit-http", submission), Row("idle-page", idle))

if __name__ == "__main__":
    if sys.argv[1] == "burn":
        burn(float(sys.argv[2]))
    else:
        asyncio.run(visit(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))

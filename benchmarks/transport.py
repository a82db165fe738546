"""What it costs that a runner has no volume: its files over HTTP, next to a claim that pods mount, and under load."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from air_executor.model.names import run_id
from air_executor.runner import carrier
from air_executor.store.run_tokens import RunAddress, RunTokens
from benchmarks import containers
from benchmarks.cluster import JobsPlace, Namespace, missing
from benchmarks.jobs import RUNNERS, free_port
from benchmarks.place import Place
from benchmarks.table import Line, Row, median_ratio, percentile

JOBS = 8
RUNS, OUTPUT = 100, 10 << 20
"""Runs at a time, and bytes that each prints."""
PIECE = 1 << 18
PATIENCE = 600.0


def _measure(namespace: Namespace, tasks: int, *, over_http: bool) -> dict[str, Any]:
    """Run so many times `true`; return the rate, and the median seconds before and after the command of a run."""
    settings = {}
    port = free_port()
    if over_http:
        # The node is this machine, so its address is that of the manager.
        url = f"http://{namespace.node_address()}:{port}"
        settings = {
            "AIR_HTTP_HOST": "0.0.0.0",  # noqa: S104 - pods shall reach it
            "AIR_KUBERNETES_TRANSPORT": "http",
            "AIR_KUBERNETES_TRANSPORT_URL": url,
        }
    with JobsPlace(namespace, port, AIR_MAX_RUNNERS=str(RUNNERS), **settings) as place:
        names = [f"job{number}" for number in range(JOBS)]
        for name in names:
            place.submit(name, [["true"]] * (tasks // JOBS))
        place.start()
        cpu = place.cpu()
        ended = place.wait(names)
        cpu = place.cpu() - cpu
        states = [place.client.status(name) for name in names]
    namespace.settle()
    if any(one.phase != "succeeded" for one in states):
        raise RuntimeError("not every job has succeeded")
    attempts = [task.attempts[-1] for state in states for task in state.tasks.values()]
    return {
        "rate": tasks / (ended - min(one.started_at or ended for one in states)),
        "start": statistics.median(one.start for one in attempts),
        "finish": statistics.median(one.finish for one in attempts),
        "cpu": cpu / tasks * 1000,
    }


def transport(*, quick: bool) -> Sequence[Line]:
    """Measure Jobs with `true`, 8 at a time, their files over HTTP, each time next to the volume."""
    tasks, pairs = (16, 1) if quick else (64, 5)
    name = f"Jobs/s, {tasks} x true, {RUNNERS} at a time, files over HTTP ÷ on a volume"
    if reason := missing():
        return [Line("kubernetes-transport", name, None, 0.9, note=reason)]
    http: list[dict[str, Any]] = []
    volume: list[dict[str, Any]] = []
    with Namespace() as namespace:
        for number in range(pairs):
            for over_http in (True, False) if number % 2 else (False, True):
                (http if over_http else volume).append(_measure(namespace, tasks, over_http=over_http))
    rates = [[one["rate"] for one in side] for side in (http, volume)]
    note = " to ".join(f"{statistics.median(one):.2f}" for one in rates) + " Jobs/s"
    lines = [
        Line(
            "kubernetes-transport", name, median_ratio(*rates), 0.9, note=note, detail={"http": http, "volume": volume}
        )
    ]
    more = [a["start"] + a["finish"] - b["start"] - b["finish"] for a, b in zip(http, volume, strict=True)]
    parts = []
    for part in ("start", "finish"):
        middle = [statistics.median(one[part] for one in side) for side in (http, volume)]
        parts.append(f"{part} {middle[0]:.2f} to {middle[1]:.2f} s")
    lines.append(
        Line(
            "kubernetes-transport",
            "ms more before and after the command of a run",
            statistics.median(more) * 1000,
            300,
            at_most=True,
            note=", ".join(parts),
        )
    )
    lines.append(
        Line("kubernetes-transport", "manager's own CPU, ms a task", statistics.median(one["cpu"] for one in http))
    )
    return lines


class _Run:
    """A run far from the volume: its folders, a process that looks like its runner, and a real carrier."""

    def __init__(self, place: Place, tokens: RunTokens, url: str, number: int) -> None:
        state = place.client.status(f"job{number}")
        address = RunAddress(state.id, 1, "a", run_id(state.uid, 1))
        self.there = Path(place.layout.run(state.id, 1, "a"))
        self.there.mkdir(parents=True)
        self.folder = Path(place.folder, f"far{number}")
        self.out = self.folder / "out"
        self.out.mkdir(parents=True)
        self._env = {
            **os.environ,
            "AIR_CARRIER_URL": url,
            "AIR_CARRIER_TOKEN": tokens.make(address, time.time()),
            "AIR_CARRIER_HOLDER": f"far{number}",
            "AIR_CARRIER_ROOT": str(self.folder),
        }
        self._runner: subprocess.Popen[bytes] | None = None
        self._carrier: subprocess.Popen[bytes] | None = None
        self.printed = 0

    def begin(self) -> None:
        """Start both."""
        words = ["air-runner", "-c", "read line", str(self.out)]
        self._runner = subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE)
        words = [sys.executable, "-m", carrier.__name__, "carry"]
        self._carrier = subprocess.Popen(words, env=self._env)

    def print(self, size: int) -> None:
        """Print so many bytes, once the run has begun."""
        if self.printed == 0:
            (self.out / "claim").touch()
        with open(self.out / "output.log", "ab") as file:
            file.write(b"x" * (size - 1) + b"\n")
        self.printed += size

    @property
    def fetched(self) -> bool:
        """Whether its carrier has all that it fetches."""
        return (self.folder / "carrier" / "snapshot.json").exists()

    @property
    def arrived(self) -> int:
        """How many bytes of its output are on the volume."""
        with contextlib.suppress(FileNotFoundError):
            return (self.there / "output.log").stat().st_size
        return 0

    def end(self) -> None:
        """Let it end."""
        (self.out / "exit.json").write_text('{"exit_code": 0}\n', encoding="ascii")

    def close(self) -> None:
        """Wait for the carrier, and leave nothing running."""
        if self._carrier is not None and self._carrier.wait(PATIENCE) != 0:
            raise RuntimeError("a carrier has failed")
        if self._runner is not None and self._runner.stdin is not None:
            self._runner.stdin.close()
            self._runner.wait()


def load(*, quick: bool) -> Sequence[Line]:
    """Measure 100 runs that print 1 GB in all, with real carriers: how late it is there, and what the manager takes."""
    runs, size = (10, OUTPUT // 10) if quick else (RUNS, OUTPUT)
    name = f"p95 of seconds until output is on the volume, {runs} runs that print {runs * size >> 20} MiB"
    if reason := containers.missing():
        return [Line("transport-load", name, None, 2, at_most=True, note=reason)]
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    settings = {"AIR_DOCKER_TRANSPORT": "http", "AIR_DOCKER_TRANSPORT_URL": url, "AIR_HTTP_PORT": str(port)}
    with Place(AIR_BACKEND="docker", **settings) as place:
        for number in range(runs):
            place.submit(f"job{number}", [{"id": "a", "command": "true", "delay": "10h"}])
        place.start()
        _await(lambda: not place.client.inbox.pending())
        time.sleep(2)  # until the manager has read all jobs: it moves away what it finds there of unknown runs
        made = [_Run(place, RunTokens(place.layout), url, number) for number in range(runs)]
        for one in made:
            one.begin()
        _await(lambda: all(one.fetched for one in made))
        cpu, begun = place.cpu_exactly(), time.monotonic()
        late: list[float] = []
        while made[0].printed < size:
            for one in made:
                one.print(min(PIECE, size - one.printed))
            probe, written, at = made[0], made[0].printed, time.monotonic()
            _await(lambda probe=probe, written=written: probe.arrived >= written)  # type: ignore[misc]
            late.append(time.monotonic() - at)
        _await(lambda: all(one.arrived == size for one in made))
        seconds, cpu = time.monotonic() - begun, place.cpu_exactly() - cpu
        for one in made:
            one.end()
        for one in made:
            one.close()
    return [
        Line(
            "transport-load",
            name,
            percentile(late, 0.95),
            2,
            at_most=True,
            note=f"median {statistics.median(late):.2f} s",
        ),
        Line("transport-load", "MiB/s", runs * size / seconds / (1 << 20)),
        Line("transport-load", "the manager's own CPU meanwhile, % of a core", cpu / seconds * 100, 5, at_most=True),
    ]


def _await(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > until:
            raise RuntimeError("it does not come about")
        time.sleep(0.01)


ON_REQUEST = (Row("kubernetes-transport", transport), Row("transport-load", load))

"""A cluster in memory under a real manager with 100,000 jobs on a real volume: does a cycle cost what has changed?

No machine at hand carries 200 pods at once, so pods are simulated, each in its own time: what costs is the manager, and
that is real, as are its files. Each size is measured in a process of its own, because memory that was freed is not
given back. The row takes minutes, and is measured only where it is named.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from air_executor.backends.base import Launch, RunnerStatus
from air_executor.client import Client
from air_executor.core.submission import initial_state, parse_job
from air_executor.manager.loop import Manager
from air_executor.manager.manager_state import ManagerOptions
from air_executor.model import state as s
from air_executor.model.names import Host, Slot
from air_executor.model.times import to_text
from air_executor.store import codec
from air_executor.store.layout import Layout
from benchmarks.table import Line, Row, percentile
from tests.fake_backend import FakeBackend, FakePlatform

MANY, FEW = 100_000, 1_000
AT_ONCE = 200
"""Runners at once."""
TASKS = 20
"""Tasks of each unfinished job: more than can end while it is measured, so that there is always one to start."""
START, WORK, NEWS, REMOVAL = 1.5, 0.5, 0.1, 0.3
"""Seconds until a pod's command begins, of work, until the watch tells of an end, and until a deleted Job has gone."""
WARM_UP = 4.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Cluster(FakeBackend):
    """A platform whose runners start, end and go in their own time, and which counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__(FakePlatform(on_spawn=self._spawned, keeps_names=True, slow_removal=True))
        self.asked: Counter[str] = Counter()
        """Requests that a real platform would get; looks are answered from what its watch has told."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def spawn(self, launch: Launch) -> None:
        """See `Backend.spawn`."""
        self.asked["create"] += 1
        super().spawn(launch)

    def remove(self, slot: Slot) -> None:
        """See `Backend.remove`."""
        runner = self.platform.runners.get(slot)
        if runner is None or runner.stopping:
            return
        self.asked["delete"] += 1
        super().remove(slot)
        self._later(REMOVAL, lambda: self.platform.lose(slot))

    def confirm_gone(self, slot: Slot) -> None:
        """See `Backend.confirm_gone`."""
        self.asked["get"] += 1
        super().confirm_gone(slot)

    def pass_time(self) -> float:
        """Let all happen whose time has come; return the seconds until more will."""
        now = time.monotonic()
        while self._events and self._events[0][0] <= now:
            heapq.heappop(self._events)[2]()
        return max(0.0, self._events[0][0] - now) if self._events else 1.0

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time.monotonic() + seconds, next(self._order), what))

    def _spawned(self, launch: Launch) -> None:
        self._later(START, lambda: _leave(launch, "claim", ""))
        self._later(START + WORK, lambda: _leave(launch, "exit.json", '{"exit_code": 0}\n'))
        self._later(START + WORK + NEWS, lambda: self._ended(launch))

    def _ended(self, launch: Launch) -> None:
        runner = self.platform.runners[launch.slot]
        runner.status = RunnerStatus(launch.run, alive=False, finished=True, exit_code=0)
        self.platform.wake()


def _leave(launch: Launch, name: str, text: str) -> None:
    with open(f"{launch.out_dir}/{name}", "w", encoding="utf-8") as file:
        file.write(text)


def fill(layout: Layout, ended: int, unfinished: int) -> None:
    """Put jobs on the volume as a manager would have left them."""
    tasks = [{"id": f"n{n}", "command": "true"} for n in range(TASKS)]
    phases: tuple[tuple[s.JobPhase, int], ...] = ((s.SUCCEEDED, ended), (s.QUEUED, unfinished))
    for phase, number in phases:
        state = initial_state(parse_job({"id": "model", "tasks": tasks}), uid="0" * 8, now=1.7e9)
        if phase == s.SUCCEEDED:
            state.phase, state.reason, state.seq = phase, s.OK, TASKS
            state.started_at = state.finished_at = 1.7e9
            state.epoch, state.version = 1, 4
            for task in state.tasks.values():
                task.status = s.Done(s.SUCCEEDED, s.OK, to_text(1.7e9), 0)
        text = codec.dump_job(state)
        for n in range(number):
            name, uid = f"{phase}-{n}", f"{n + (phase == s.QUEUED) * MANY:08x}"
            os.makedirs(layout.job(name))
            with open(layout.state(name), "wb") as file:
                file.write(text.replace(b'"model"', f'"{name}"'.encode()).replace(b'"00000000"', f'"{uid}"'.encode()))


def simulate(root: str, jobs: int, seconds: float) -> dict[str, Any]:
    """Manage so many jobs for so long, and return what it took; seconds and bytes."""
    client = Client(f"{root}/.air-executor")
    # Half of few must be unfinished, or there would not be enough for all runners.
    unfinished = max(jobs // 10, 500)
    fill(client.layout, jobs - unfinished, unfinished)
    cluster = Cluster()
    options = ManagerOptions(version="benchmark", max_runners=AT_ONCE, runner_files={}, project=root, events=False)
    before = _memory()
    manager = Manager(client.layout, cluster, Host("here", "this-boot"), options)
    begun = time.monotonic()
    manager.start()
    started = time.monotonic() - begun
    memory = _memory() - before
    _cycles(manager, cluster, WARM_UP)
    ended, asked, written = len(manager.state.index.ended), Counter(cluster.asked), _journaled(client.layout)
    cpu = time.process_time()
    cycles = _cycles(manager, cluster, seconds)
    cpu = time.process_time() - cpu
    asked = cluster.asked - asked
    runs = asked["delete"]
    rescans = []
    for name in ("new", "newer"):  # a name that has come is what a look at all of them is for
        os.mkdir(client.layout.job(name))
        begun = time.monotonic()
        manager.request_handler.rescan()
        rescans.append(time.monotonic() - begun)
    begun = time.monotonic()
    submitted = 200
    for n in range(submitted):
        client.submit(parse_job({"id": f"late-{n}", "tasks": [{"command": "true"}]}))
    rate = submitted / (time.monotonic() - begun)
    return {
        "start": started,
        "memory": memory,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "cycle": {"median": statistics.median(cycles), "p99": percentile(cycles, 0.99), "max": max(cycles)},
        "cycles": len(cycles),
        "cpu_per_task": cpu / runs,
        "tasks_per_second": runs / seconds,
        "requests_per_task": asked.total() / runs,
        "asked": asked,
        "journal_per_task": (_journaled(client.layout) - written) / runs,
        "rescan": max(rescans),
        "submit_rate": rate,
        "jobs_ended_meanwhile": len(manager.state.index.ended) - ended,
    }


def _cycles(manager: Manager, cluster: Cluster, seconds: float) -> list[float]:
    """Let the manager do its work for a time; return how long each of its cycles took."""
    found = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pause = cluster.pass_time()
        begun = time.monotonic()
        manager.cycle()
        found.append(time.monotonic() - begun)
        time.sleep(min(pause, 0.02))
    return found


def _journaled(layout: Layout) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(layout.journal))


def _memory() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE


def crowd(*, quick: bool) -> Sequence[Line]:
    """Measure cycles, start, memory and requests with 100,000 jobs, next to 1,000."""
    many, seconds = (5_000, 5.0) if quick else (MANY, 65.0)
    few, large = _apart(FEW, seconds), _apart(many, seconds)
    row = "jobs-100k"
    cycle, other = large["cycle"], few["cycle"]
    at = f"{many} jobs, {AT_ONCE} running"
    return [
        Line(row, f"median cycle, {many} ÷ {FEW} jobs", cycle["median"] / other["median"], 1.5, at_most=True),
        Line(
            row,
            f"{at}: cycle, median, ms",
            cycle["median"] * 1e3,
            note=f"p99 {cycle['p99'] * 1e3:.1f}, max {cycle['max'] * 1e3:.0f}; with {FEW}: "
            f"{other['median'] * 1e3:.2f}, {other['p99'] * 1e3:.1f}, {other['max'] * 1e3:.0f}",
            detail={"many": large, "few": few},
        ),
        Line(row, f"manager's CPU a task, {many} ÷ {FEW} jobs", large["cpu_per_task"] / few["cpu_per_task"]),
        Line(
            row, f"{at}: CPU, ms a task", large["cpu_per_task"] * 1e3, note=f"{large['tasks_per_second']:.0f} tasks/s"
        ),
        Line(row, f"{at}: requests a task", large["requests_per_task"], 3, at_most=True, note="looks cost none"),
        Line(row, f"{at}: start, s", large["start"], note=f"with {FEW}: {few['start']:.2f}"),
        Line(row, f"{at}: rescan after a change, s", large["rescan"], note=f"with {FEW}: {few['rescan']:.4f}"),
        Line(row, f"{at}: memory for 1,000 jobs, KiB", large["memory"] / many * 1000 / 1024, note="after the start"),
        Line(row, f"{at}: journal, bytes a task", large["journal_per_task"]),
        Line(
            row,
            f"{at}: submissions/s of one process",
            large["submit_rate"],
            note=f"with {FEW}: {few['submit_rate']:.0f}",
        ),
    ]


def _apart(jobs: int, seconds: float) -> Mapping[str, Any]:
    """Simulate in a process of its own."""
    root = tempfile.mkdtemp(prefix="air-crowd-")
    command = [sys.executable, "-m", "benchmarks.crowd", root, str(jobs), str(seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


ON_REQUEST = (Row("jobs-100k", crowd),)

if __name__ == "__main__":
    print(json.dumps(simulate(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))

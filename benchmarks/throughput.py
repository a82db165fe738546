"""Many short tasks at once: against the bare platform (`xargs` over the runner) and against the peers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.place import LOOK, PATIENCE, Place, runner_words
from benchmarks.table import Line, Row, median_ratio

RUNNERS = 4
JOBS = 20


def ours(tasks: int) -> tuple[float, float, float]:
    """Return tasks per second, the manager's own CPU in milliseconds per task, and inodes per task that stay.

    The jobs lie there before the manager comes, as the run directories do for xargs. Time runs from its first decision
    to the moment at which the last checkpoint is on the volume.
    """
    with Place(AIR_MAX_RUNNERS=str(RUNNERS)) as place:
        names = [f"job{number}" for number in range(JOBS)]
        for name in names:
            place.submit(name, [["true"]] * (tasks // JOBS))
        place.start()
        cpu = place.cpu()
        ended = place.wait(names)
        cpu = place.cpu() - cpu
        begun = min(place.client.status(name).started_at or ended for name in names)
        left = sum(1 + len(os.listdir(run)) for name in names for run in os.scandir(place.layout.runs(name)))
        return tasks / (ended - begun), cpu / tasks * 1000, left / tasks


def bare(tasks: int, *, runners: int = RUNNERS) -> float:
    """Return the tasks per second of `xargs` over the runner, in run directories that lie there already."""
    folder = tempfile.mkdtemp(prefix="bare-")
    outs = [f"{folder}/runs/{number}" for number in range(tasks)]
    for out in outs:
        os.makedirs(out)
    # The runner wants its slot's file as descriptor 9.
    xargs = f"xargs -P{runners} -I{{}} {runner_words()} {{}} {folder} - 10 local true 9>>{folder}/slot"
    begun = time.monotonic()
    subprocess.run(["sh", "-c", xargs], input="\n".join(outs).encode(), check=True)
    return tasks / (time.monotonic() - begun)


def parallel(tasks: int) -> float:
    """Return the tasks per second of GNU parallel."""
    begun = time.monotonic()
    subprocess.run(
        ["parallel", f"-j{RUNNERS}", "-N0", "true"], input=b"x\n" * tasks, stderr=subprocess.DEVNULL, check=True
    )
    return tasks / (time.monotonic() - begun)


def spooler(tasks: int) -> float:
    """Return the tasks per second of task-spooler. It keeps a process per queued task, so queuing counts here."""
    folder = tempfile.mkdtemp(prefix="tsp-")
    env = {**os.environ, "TS_SOCKET": f"{folder}/socket", "TMPDIR": folder}
    subprocess.run(["tsp", "-S", str(RUNNERS)], env=env, check=True)
    try:
        queue = f"for task in $(seq {tasks}); do tsp true; done >/dev/null; tsp -w"
        begun = time.monotonic()
        subprocess.run(["sh", "-c", queue], env=env, check=True, timeout=PATIENCE)
        return tasks / (time.monotonic() - begun)
    finally:
        subprocess.run(["tsp", "-K"], env=env, check=False)


def huey(tasks: int) -> float:
    """Return the tasks per second of huey's consumer with 4 warm threads, its queue in SQLite, filled beforehand."""
    folder = tempfile.mkdtemp(prefix="huey-")
    env = {**os.environ, "BENCH_HUEY": f"{folder}/queue.db", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    fill = f"from benchmarks.huey_tasks import huey, run\nrun(0)\nfor _ in range({tasks}): run(1)"
    subprocess.run([sys.executable, "-c", fill], env=env, check=True)
    consumer = [sys.executable, "-m", "huey.bin.huey_consumer", "benchmarks.huey_tasks.huey", "-w", str(RUNNERS)]
    process = subprocess.Popen([*consumer, "-k", "thread", "-d", "0.001"], env=env, stderr=subprocess.DEVNULL)
    try:
        done = f"{folder}/queue.db.done"
        until = time.monotonic() + PATIENCE
        while not os.path.exists(done) or os.path.getsize(done) < tasks:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("huey's consumer has not worked its queue off")
            time.sleep(LOOK)
        return tasks / (os.stat(done).st_mtime - os.stat(f"{folder}/queue.db.begun").st_mtime)
    finally:
        process.terminate()
        process.wait()


def missing(program: str) -> str | None:
    """Return why a peer cannot be measured, or None."""
    if program == "huey":
        return None if importlib.util.find_spec("huey") else "huey is not installed: pip install huey"
    packages = {"parallel": "parallel", "tsp": "task-spooler", "xargs": "findutils"}
    return None if shutil.which(program) else f"{program} is not installed: apt-get install {packages[program]}"


@dataclass(frozen=True, slots=True)
class _Peer:
    program: str
    named: str
    reach: float
    measure: Callable[[int], float]
    pairs: int = 5


_PEERS = (
    _Peer("xargs", "xargs over the runner", 0.8, bare, 7),
    _Peer("parallel", "GNU parallel -j4", 3.0, parallel, 3),
    _Peer("huey", "huey, 4 warm threads, SQLite", 1.0, huey),
    _Peer("tsp", "task-spooler -S 4", 1.0, spooler),
)


def throughput(*, quick: bool) -> Sequence[Line]:
    """Measure 2,000 times `true` in 20 jobs with 4 runners, each time next to the same work done by a peer."""
    tasks = 400 if quick else 2000
    lines = []
    rates: list[float] = []
    costs: list[float] = []
    inodes: list[float] = []
    for peer in _PEERS:
        reason = missing(peer.program)
        mine, theirs = [], []
        for _ in range(0 if reason else 1 if quick else peer.pairs):
            rate, cost, left = ours(tasks)
            theirs.append(peer.measure(tasks))
            mine.append(rate)
            costs.append(cost)
            inodes.append(left)
        rates += mine
        ratio = median_ratio(mine, theirs) if mine else None
        note = reason or f"{statistics.median(mine):.0f} to {statistics.median(theirs):.0f} tasks/s"
        detail = {"ours": mine, "theirs": theirs}
        lines.append(Line("throughput", f"tasks/s ÷ {peer.named}", ratio, peer.reach, note=note, detail=detail))
    name = f"tasks/s, {tasks} x true, {JOBS} jobs, {RUNNERS} runners"
    return [
        Line("throughput", name, _median(rates), detail={"ours": rates}),
        Line("throughput", "manager's own CPU, ms a task", _median(costs), 0.8, at_most=True, detail={"all": costs}),
        Line("throughput", "inodes that a run leaves", _median(inodes), 4, at_most=True),
        *lines,
    ]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def sequence(*, quick: bool) -> Sequence[Line]:
    """Measure 200 tasks one after another in one job, next to a shell loop over the runner."""
    tasks, pairs = (50, 1) if quick else (200, 7)
    mine, theirs = [], []
    for _ in range(pairs):
        mine.append(_one_after_another(tasks))
        theirs.append(_shell_loop(tasks))
    note = f"{statistics.median(mine):.0f} to {statistics.median(theirs):.0f} tasks/s"
    figure = f"tasks/s, {tasks} in a row in one job ÷ shell loop"
    return [
        Line("sequence", figure, median_ratio(mine, theirs), 0.6, note=note, detail={"ours": mine, "theirs": theirs})
    ]


def _one_after_another(tasks: int) -> float:
    with Place(AIR_MAX_RUNNERS=str(RUNNERS)) as place:
        place.submit("steps", [["true"]] * tasks)
        place.start()
        ended = place.wait(["steps"])
        return tasks / (ended - (place.client.status("steps").started_at or ended))


def _shell_loop(tasks: int) -> float:
    folder = tempfile.mkdtemp(prefix="loop-")
    for number in range(tasks):
        os.makedirs(f"{folder}/runs/{number}")
    run = f"{runner_words()} $out {folder} - 10 local true 9>>{folder}/slot"
    begun = time.monotonic()
    subprocess.run(["sh", "-c", f"for out in {folder}/runs/*; do {run}; done"], check=True)
    return tasks / (time.monotonic() - begun)


def efficiency(*, quick: bool) -> Sequence[Line]:
    """Measure 100 tasks of one second with `max_runners` 10, which would ideally take 10 s."""
    tasks, repeats = (20, 1) if quick else (100, 3)
    ideal = tasks / 10
    shares, walls = [], []
    for _ in range(repeats):
        with Place(AIR_MAX_RUNNERS="10") as place:
            place.start()
            job = place.submit("seconds", [["sleep", "1"]] * tasks, max_runners=10)
            ended = place.wait(["seconds"])
            usage = place.client.status("seconds").usage
            shares.append(usage.work_seconds / usage.runner_seconds)
            walls.append(ended - job.submitted_at)
    return [
        Line(
            "efficiency",
            f"work ÷ runner-seconds, {tasks} x 1 s",
            statistics.median(shares),
            0.99,
            detail={"all": shares},
        ),
        Line(
            "efficiency",
            f"wall seconds from submit to commit; {ideal:g} would be ideal",
            statistics.median(walls),
            1.06 * ideal,
            at_most=True,
            detail={"all": walls},
        ),
    ]


ROWS = (Row("throughput", throughput), Row("sequence", sequence), Row("efficiency", efficiency))

"""How soon something starts: after a submission, after the task before it has ended, and the command line itself."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise

from air_executor.core.submission import initial_state, parse_job
from benchmarks.place import Place, runner_words
from benchmarks.scale import fill
from benchmarks.table import Line, Row, median_ratio, percentile

_PAUSE = 0.05
"""Seconds between two submissions, so that the manager is asleep again."""
_DATE = ["date", "+%s%N"]
"""A command that tells when it started. Time stamps of files would do, were they not 4 ms apart on ext4."""


def submit(*, quick: bool) -> Sequence[Line]:
    """Measure from the moment that a submission's request has its name to what the command's own clock says."""
    delays = []
    with Place(AIR_MAX_RUNNERS="4") as place:
        place.start()
        for number in range(20 if quick else 300):
            time.sleep(_PAUSE)
            delays.append(_submitted_to_started(place, f"job{number}") * 1000)
    note = "ms, of which 1 to 2 are the start of the `date` that tells the time"
    return [
        Line("submit", "submit → command starts, p50", percentile(delays, 0.5), 10, at_most=True, note=note),
        Line("submit", "p99", percentile(delays, 0.99), 50, at_most=True, note="ms", detail={"all": delays}),
    ]


def _submitted_to_started(place: Place, name: str) -> float:
    job = parse_job({"id": name, "tasks": [{"id": "only", "command": _DATE}]})
    place.client.jobs.create(initial_state(job, uid=secrets.token_hex(4), now=round(time.time(), 3)))
    # As `Client.submit` does it, but for the clock between the file and its name.
    request = f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(4)}.json"
    with open(f"{place.layout.tmp}/{request}", "w", encoding="utf-8") as file:
        json.dump({"op": "wake", "job": name}, file)
    appeared = time.time_ns()
    os.rename(f"{place.layout.tmp}/{request}", f"{place.layout.inbox}/{request}")
    place.wait([name])
    return (_told(place, name, 1, "only") - appeared) / 1e9


def _told(place: Place, job: str, seq: int, task: str) -> int:
    return _read_number(f"{place.layout.run(job, seq, task)}/output.log")


def follow(*, quick: bool) -> Sequence[Line]:
    """Measure from one task's clock to that of the next of its job: its end, the commit, the start, and one `date`."""
    tasks = 50 if quick else 300
    with Place(AIR_MAX_RUNNERS="4") as place:
        place.submit("steps", [_DATE] * tasks)
        place.start()
        place.wait(["steps"])
        names = place.client.status("steps").tasks
        told = [_told(place, "steps", seq, name) for seq, name in enumerate(names, 1)]
    gaps, bare = _gaps(told), _gaps(_told_in_a_loop(tasks))
    note = f"ms, from one `date` to the next; {statistics.median(bare):.3g} in a shell loop over the runner"
    return [
        Line(
            "follow",
            "end → start of the next of the job, p50",
            statistics.median(gaps),
            2,
            at_most=True,
            note=note,
            detail={"ours": gaps, "shell_loop": bare},
        )
    ]


def _gaps(told: Sequence[int]) -> list[float]:
    return [(after - before) / 1e6 for before, after in pairwise(told)]


def _told_in_a_loop(tasks: int) -> list[int]:
    """Return what the same commands tell when nothing but the runner lies between them."""
    folder = tempfile.mkdtemp(prefix="loop-")
    outs = [f"{folder}/runs/{number}" for number in range(tasks)]
    for out in outs:
        os.makedirs(out)
    run = f"{runner_words()} $out {folder} - 10 local {shlex.join(_DATE)} 9>>{folder}/slot"
    subprocess.run(["sh", "-c", f"for out in {shlex.join(outs)}; do {run}; done"], check=True)
    return [_read_number(f"{out}/output.log") for out in outs]


def _read_number(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())


def status(*, quick: bool) -> Sequence[Line]:
    """Measure `air-executor status` with 10 jobs as a whole process, next to an interpreter that does nothing."""
    with Place() as place:
        for number in range(10):
            place.submit(f"job{number}", [["true"]] * 3)
        ours, bare = [], []
        for _ in range(5 if quick else 21):
            ours.append(_seconds([*_program(), "status"], place.env))
            bare.append(_seconds([sys.executable, "-c", "pass"], place.env))
    note = f"{statistics.median(ours) * 1000:.0f} to {statistics.median(bare) * 1000:.0f} ms"
    ratio = statistics.median(ours) / statistics.median(bare)
    detail = {"ours": ours, "python": bare}
    return [Line("status", "air-executor status ÷ python -c pass", ratio, 15, at_most=True, note=note, detail=detail)]


_READ_ALL = """
import glob, json, sys
for path in glob.glob(f"{sys.argv[1]}/*/state.json"):
    with open(path) as file:
        json.load(file)
"""


def status_of_many(*, quick: bool) -> Sequence[Line]:
    """Measure `air-executor status` with 10,000 ended jobs, next to an interpreter that parses the same files."""
    jobs = 500 if quick else 10_000
    with Place() as place:
        fill(place, jobs)
        ours, plain = [], []
        for _ in range(2 if quick else 9):
            ours.append(_seconds([*_program(), "status"], place.env))
            plain.append(_seconds([sys.executable, "-c", _READ_ALL, place.layout.jobs], place.env))
    note = f"{statistics.median(ours) * 1000:.0f} to {statistics.median(plain) * 1000:.0f} ms"
    detail = {"ours": ours, "json": plain}
    figure = f"status of {jobs} jobs ÷ json.load of the same files"
    return [Line("status-10k", figure, median_ratio(ours, plain), 2, at_most=True, note=note, detail=detail)]


def _program() -> list[str]:
    program = shutil.which("air-executor", path=os.path.dirname(sys.executable))
    return [program] if program else [sys.executable, "-m", "air_executor"]


def _seconds(command: Sequence[str], env: dict[str, str]) -> float:
    begun = time.monotonic()
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begun


ROWS = (Row("submit", submit), Row("follow", follow), Row("status", status), Row("status-10k", status_of_many))

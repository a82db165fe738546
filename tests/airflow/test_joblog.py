"""The output of a job for Airflow's log: each line once, whoever shows it and however often it dies."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from air_executor.airflow.joblog import LONGEST, JobLog
from air_executor.client import Client
from air_executor.core.spec import parse_job
from air_executor.core.state import JobState, Running
from air_executor.errors import StoreError


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Return an empty state directory."""
    return Client(tmp_path / "state")


def running(client: Client) -> tuple[JobState, Path]:
    """Return a job whose task runs, and the log of that run."""
    state = client.submit(parse_job({"id": "j", "tasks": [{"command": "true"}]}, "job"))
    state.tasks["t1"].status = Running(seq=1, slot=1, since=0.0)
    log = client.log("j", "t1", 1)
    log.parent.mkdir(parents=True)
    return state, log


def ended(state: JobState) -> JobState:
    """Return the job with its run ended."""
    from air_executor.core.state import Attempt, Done  # noqa: PLC0415

    task = state.tasks["t1"]
    task.attempts = [Attempt(1, 1, 0.0, 0.0, 0.0, 0.0, "ok")]
    task.status = Done("succeeded", "ok", 1.0)
    return state


def test_what_grows_is_shown_once(client: Client) -> None:
    """A line comes when it is complete, the last one without an end when the run has ended."""
    state, log = running(client)
    shown = JobLog(client)
    log.write_bytes(b"one\ntw")
    assert list(shown.new_lines(state)) == ["t1 | one"]
    log.write_bytes(b"one\ntwo\nthr")
    assert list(shown.new_lines(state)) == ["t1 | two"]
    assert list(JobLog(client).new_lines(state)) == []
    assert list(JobLog(client).new_lines(ended(state))) == ["t1 | thr"]
    assert list(JobLog(client).new_lines(state)) == []


def test_a_line_that_nobody_took_comes_again(client: Client) -> None:
    """Only when the next line is asked for, one counts as shown."""
    state, log = running(client)
    log.write_bytes(b"one\ntwo\nthree\n")
    lines = JobLog(client).new_lines(state)
    assert [next(lines), next(lines)] == ["t1 | one", "t1 | two"]
    lines.close()
    assert list(JobLog(client).new_lines(state)) == ["t1 | two", "t1 | three"]


def test_a_full_volume_shows_nothing_twice(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the volume takes no notes, who shows the log remembers how far it was."""
    state, log = running(client)
    log.write_bytes(b"one\ntwo\n")
    shown = JobLog(client)
    found: list[str] = []

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("air_executor.airflow.notes.os.pwrite", refuse)
    for _ in range(3):
        with contextlib.suppress(StoreError):
            for line in shown.new_lines(state):
                found.append(line)  # noqa: PERF402 - what was shown before an error counts
    assert found == ["t1 | one", "t1 | two"]
    monkeypatch.undo()
    assert list(shown.new_lines(state)) == []


def test_long_lines_come_in_pieces(client: Client) -> None:
    """A line without end fills no memory, and none of it is lost."""
    state, log = running(client)
    log.write_bytes(b"x" * (3 * LONGEST) + b"\nend\n")
    found = list(JobLog(client).new_lines(ended(state)))
    assert "".join(line.removeprefix("t1 | ") for line in found) == "x" * (3 * LONGEST) + "end"
    assert max(map(len, found)) <= 2 * LONGEST


@pytest.mark.parametrize("seed", range(3))
def test_two_at_once_share(client: Client, seed: int) -> None:
    """Two triggerers that both follow a job show each line once between them, in order."""
    state, log = running(client)
    found: list[str] = []
    over = threading.Event()
    dice = random.Random(seed)

    def follow() -> None:
        mine = JobLog(client)
        while not over.is_set():
            found.extend(mine.new_lines(state))
        found.extend(mine.new_lines(state))

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    with log.open("ab", buffering=0) as file:
        text = b"".join(b"%d\n" % number for number in range(2000))
        while text:
            count = dice.randrange(1, 400)
            file.write(text[:count])
            text = text[count:]
    over.set()
    for thread in threads:
        thread.join()
    assert found == [f"t1 | {number}" for number in range(2000)]


def test_a_killed_one_costs_at_most_a_line(client: Client, tmp_path: Path) -> None:
    """After a kill -9 nothing is lost, and at most the line that was just being shown comes twice."""
    state, log = running(client)
    log.write_bytes(b"".join(b"%d\n" % number for number in range(20_000)))
    program = (
        "import os, sys\nfrom air_executor.airflow.joblog import JobLog\nfrom air_executor.client import Client\n"
        "from air_executor.core.state import Running\n"
        "client = Client(sys.argv[1])\nstate = client.status('j')\n"
        "state.tasks['t1'].status = Running(seq=1, slot=1, since=0.0)\n"
        "for line in JobLog(client).new_lines(state):\n    os.write(1, f'{line}\\n'.encode())\n"
    )
    said = tmp_path / "said"
    for _ in range(4):
        with said.open("ab") as out:
            process = subprocess.Popen([sys.executable, "-c", program, client.layout.root], stdout=out)
        size = said.stat().st_size
        while said.stat().st_size < size + 20_000 and process.poll() is None:
            os.sched_yield()
        process.kill()
        process.wait()
    lines = said.read_text().splitlines() + list(JobLog(client).new_lines(state))
    numbers = [int(line.removeprefix("t1 | ")) for line in lines]
    assert sorted(set(numbers)) == list(range(20_000))
    assert len(numbers) - 20_000 <= 4

"""The output of a job for Airflow's log: each line once, except for lines that a kill may have lost."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from air_executor.airflow.attach import ref_of
from air_executor.airflow.task_log import MAX_LINE, WRITTEN_AFTER, TaskLog
from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.errors import StoreError
from air_executor.model.state import JobState, Running
from tests.records import make_attempt, make_done


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Return an empty state directory."""
    return Client(tmp_path / "state")


def running(client: Client) -> tuple[JobState, Path]:
    """Return a job with a running task, and the log of that run."""
    state = client.submit(parse_job({"id": "j", "tasks": [{"command": "true"}]}, "job"))
    state.tasks["_1"].status = Running(seq=1, slot=1, since=0.0)
    log = client.log("j", "_1", 1)
    log.parent.mkdir(parents=True)
    return state, log


def ended(state: JobState) -> JobState:
    """Return the job with its run ended."""
    task = state.tasks["_1"]
    task.attempts = [make_attempt(1, 1, 0.0, 0.0, 0.0, 0.0, "ok")]
    task.status = make_done("succeeded", "ok", 1.0)
    return state


def test_growing_log_is_shown_once(client: Client) -> None:
    """A line is shown when it is complete, a last one without a line end when the run has ended."""
    state, log = running(client)
    shown = TaskLog(client, ref_of(state))
    log.write_bytes(b"one\ntw")
    assert list(shown.new_lines(state)) == ["_1 | one"]
    log.write_bytes(b"one\ntwo\nthr")
    assert list(shown.new_lines(state)) == ["_1 | two"]
    shown.all_written()
    assert list(TaskLog(client, ref_of(state)).new_lines(state)) == []
    last = TaskLog(client, ref_of(state))
    assert list(last.new_lines(ended(state))) == ["_1 | thr"]
    last.all_written()
    assert list(TaskLog(client, ref_of(state)).new_lines(state)) == []


def test_line_that_was_not_taken_is_repeated(client: Client) -> None:
    """A line counts as shown when the next one is asked for."""
    state, log = running(client)
    log.write_bytes(b"one\ntwo\nthree\n")
    shown = TaskLog(client, ref_of(state))
    lines = shown.new_lines(state)
    assert [next(lines), next(lines)] == ["_1 | one", "_1 | two"]
    lines.close()
    shown.all_written()
    assert list(TaskLog(client, ref_of(state)).new_lines(state)) == ["_1 | two", "_1 | three"]


def test_possibly_lost_lines_are_repeated(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that Airflow may not have written before a kill are shown again, after a line that says so."""
    now = [100.0]
    monkeypatch.setattr("air_executor.airflow.task_log.time.monotonic", lambda: now[0])
    state, log = running(client)
    killed = TaskLog(client, ref_of(state))
    log.write_bytes(b"one\ntwo\n")
    assert list(killed.new_lines(state)) == ["_1 | one", "_1 | two"]
    now[0] += WRITTEN_AFTER
    log.write_bytes(b"one\ntwo\nthree\n")
    assert list(killed.new_lines(state)) == ["_1 | three"]
    again, *lines = TaskLog(client, ref_of(state)).new_lines(state)
    assert again.startswith("The process that showed this log before was killed or paused: the last 6 bytes of _1 ")
    assert lines == ["_1 | three"]
    after = TaskLog(client, ref_of(state)).new_lines(state)
    assert next(after) == again
    after.close()
    assert list(TaskLog(client, ref_of(state)).new_lines(state)) == ["_1 | three"]


def test_long_output_is_noted_on_its_way(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed in the middle of an hour's output repeats seconds of it, not the hour."""
    now = itertools.count(100.0)
    monkeypatch.setattr("air_executor.airflow.task_log.time.monotonic", lambda: next(now))
    state, log = running(client)
    log.write_bytes(b"".join(b"%d\n" % number for number in range(20)))
    lines = TaskLog(client, ref_of(state)).new_lines(state)
    assert [next(lines) for _ in range(10)] == [f"_1 | {number}" for number in range(10)]
    lines.close()
    _, *rest = TaskLog(client, ref_of(state)).new_lines(state)
    assert rest[0] in {f"_1 | {number}" for number in range(8 - int(WRITTEN_AFTER), 9)}


def test_written_stays_written(client: Client) -> None:
    """A process that notes late what was written takes nothing back."""
    state, log = running(client)
    log.write_bytes(b"one\n")
    late = TaskLog(client, ref_of(state))
    assert list(late.new_lines(state)) == ["_1 | one"]
    log.write_bytes(b"one\ntwo\n")
    other = TaskLog(client, ref_of(state))
    assert list(other.new_lines(state))[1:] == ["_1 | one", "_1 | two"]
    other.all_written()
    late.all_written()
    assert list(TaskLog(client, ref_of(state)).new_lines(state)) == []


def test_quiet_log_is_noted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are noted as written also if no more output follows, and after the end of the run."""
    now = [100.0]
    monkeypatch.setattr("air_executor.airflow.task_log.time.monotonic", lambda: now[0])
    state, log = running(client)
    log.write_bytes(b"one\n")
    shown = TaskLog(client, ref_of(state))
    assert list(shown.new_lines(ended(state))) == ["_1 | one"]
    now[0] += WRITTEN_AFTER
    assert list(shown.new_lines(state)) == []
    assert list(TaskLog(client, ref_of(state)).new_lines(state)) == []


def test_full_volume_shows_nothing_twice(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the volume takes no notes, the process that shows the log remembers its position."""
    state, log = running(client)
    log.write_bytes(b"one\ntwo\n")
    shown = TaskLog(client, ref_of(state))
    found: list[str] = []

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("air_executor.airflow.notes.os.pwrite", refuse)
    for _ in range(3):
        with contextlib.suppress(StoreError):
            for line in shown.new_lines(state):
                found.append(line)  # noqa: PERF402 - what was shown before an error counts
    assert found == ["_1 | one", "_1 | two"]
    monkeypatch.undo()
    assert list(shown.new_lines(state)) == []


def test_long_lines_come_in_pieces(client: Client) -> None:
    """A line without a line end takes limited memory, and none of it is lost."""
    state, log = running(client)
    log.write_bytes(b"x" * (3 * MAX_LINE) + b"\nend\n")
    found = list(TaskLog(client, ref_of(state)).new_lines(ended(state)))
    assert "".join(line.removeprefix("_1 | ") for line in found) == "x" * (3 * MAX_LINE) + "end"
    assert max(map(len, found)) <= MAX_LINE + len("_1 | ")


@pytest.mark.parametrize("text", ["é" * MAX_LINE, "x" + "é" * MAX_LINE, "xx" + "€" * MAX_LINE, "xy" + "𝄞" * MAX_LINE])
def test_pieces_end_with_a_character(client: Client, text: str) -> None:
    """A long line is not cut within a character."""
    state, log = running(client)
    log.write_text(text)
    found = list(TaskLog(client, ref_of(state)).new_lines(ended(state)))
    assert "".join(line.removeprefix("_1 | ") for line in found) == text


def test_what_is_no_text_is_cut_all_the_same(client: Client) -> None:
    """Bytes that are not UTF-8 are shown as such, and do not end the log."""
    state, log = running(client)
    log.write_bytes(b"\xc3" * 2 * MAX_LINE)
    found = list(TaskLog(client, ref_of(state)).new_lines(ended(state)))
    assert "".join(line.removeprefix("_1 | ") for line in found) == "\N{REPLACEMENT CHARACTER}" * 2 * MAX_LINE


@pytest.mark.parametrize("seed", range(3))
def test_two_at_once_share(client: Client, seed: int) -> None:
    """Two triggerers that both follow a job show each line once between them, in order."""
    state, log = running(client)
    log.touch()
    found: list[str] = []
    over = threading.Event()
    both = threading.Barrier(3)
    dice = random.Random(seed)

    def follow() -> None:
        mine = TaskLog(client, ref_of(state))
        found.extend(mine.new_lines(state))
        both.wait(30)
        while not over.is_set():
            found.extend(mine.new_lines(state))
        found.extend(mine.new_lines(state))

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait(30)
    with log.open("ab", buffering=0) as file:
        text = b"".join(b"%d\n" % number for number in range(2000))
        while text:
            count = dice.randrange(1, 400)
            file.write(text[:count])
            text = text[count:]
    over.set()
    for thread in threads:
        thread.join()
    assert found == [f"_1 | {number}" for number in range(2000)]


@pytest.mark.parametrize("notes", range(1, 10))
def test_a_kill_between_two_notes_is_told(client: Client, monkeypatch: pytest.MonkeyPatch, notes: int) -> None:
    """Whichever note is its last: what the next process shows again follows a line that says so."""
    now = itertools.count(100.0, WRITTEN_AFTER)  # each line, the one before is certainly written
    monkeypatch.setattr("air_executor.airflow.task_log.time.monotonic", lambda: next(now))
    state, log = running(client)
    log.write_bytes(b"".join(b"%d\n" % number for number in range(20)))
    write, left, found = os.pwrite, itertools.count(-notes), list[str]()

    def killed(fd: int, data: bytes, offset: int) -> int:
        if next(left) >= 0:
            raise KeyboardInterrupt
        return write(fd, data, offset)

    monkeypatch.setattr("air_executor.airflow.notes.os.pwrite", killed)
    with pytest.raises(KeyboardInterrupt):
        found.extend(TaskLog(client, ref_of(state)).new_lines(state))  # keeps what came before the kill
    monkeypatch.undo()
    again, *rest = TaskLog(client, ref_of(state)).new_lines(state)
    assert "are shown again" in again
    numbers = [int(line.removeprefix("_1 | ")) for line in (*found, *rest)]
    assert numbers[: len(found)] == list(range(len(found)))
    assert rest[0] in found
    assert numbers[len(found) :] == list(range(numbers[len(found)], 20))


def test_kill_loses_nothing(client: Client, tmp_path: Path) -> None:
    """After a kill -9 no line is lost, and the lines that are shown twice are those not yet noted as written."""
    state, log = running(client)
    log.write_bytes(b"".join(b"%d\n" % number for number in range(20_000)))
    program = (
        "import os, sys\nfrom air_executor.airflow import task_log\nfrom air_executor.airflow.attach import ref_of\n"
        "from air_executor.client import Client\nfrom air_executor.model.state import Running\n"
        "client = Client(sys.argv[1])\nstate = client.status('j')\n"
        "state.tasks['_1'].status = Running(seq=1, slot=1, since=0.0)\n"
        "task_log.WRITTEN_AFTER = task_log._BATCH_SECONDS = 0.002\n"
        "for line in task_log.TaskLog(client, ref_of(state)).new_lines(state):\n"
        "    os.write(1, f'{line}\\n'.encode())\n"
    )
    output = tmp_path / "output"
    for _ in range(4):
        with output.open("ab") as out:
            process = subprocess.Popen([sys.executable, "-c", program, client.layout.root], stdout=out)
        size = output.stat().st_size
        while output.stat().st_size < size + 20_000 and process.poll() is None:
            os.sched_yield()
        process.kill()
        process.wait()
    lines = [*output.read_text().splitlines(), *TaskLog(client, ref_of(state)).new_lines(state)]
    numbers = [int(line.removeprefix("_1 | ")) for line in lines if line.startswith("_1 | ")]
    assert sorted(set(numbers)) == list(range(20_000))
    assert all(after <= before + 1 for before, after in pairwise(numbers))
    assert len([line for line in lines if "are shown again" in line]) == sum(a <= b for b, a in pairwise(numbers))

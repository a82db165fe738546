"""`logs`: what tasks have printed, all of it or the part that is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from air_executor.cli import log_printer, logs
from air_executor.cli.app import run
from air_executor.cli.logs import JobLogs
from air_executor.client import Client, directory_logs
from air_executor.model.state import JobState, Queued, Running
from air_executor.model.times import from_text
from air_executor.store import log_times
from air_executor.store.layout import Layout
from air_executor.store.run_logs import open_log
from tests.cli.conftest import SOON, Outcome, eventually
from tests.cli.made_jobs import THEN, create, ended, write_log
from tests.records import make_attempt, make_task

Air = Callable[..., Outcome]
Call = Callable[..., Outcome]
Start = Callable[..., "subprocess.Popen[str]"]


def test_logs_give_every_byte_to_a_pipe(start: Callable[..., subprocess.Popen[str]], client: Client) -> None:
    """What a task printed arrives as it was, binary or not."""
    data = bytes(range(256)) * 1000
    create(client, "j", ended("a"))
    write_log(client, "j", "a", 1, data)
    process: Any = start("logs", "j", "a", text=False)
    out, _ = process.communicate(timeout=SOON)
    assert out == data


def test_logs_of_all_tasks_name_the_task(call: Callable[..., Outcome], client: Client) -> None:
    """Without TASK each line says whose it is, in the order of the runs; a last line without an end is shown too."""
    create(client, "j", ended("a"), ended("b", seq=2))
    write_log(client, "j", "a", 1, b"one\ntwo")
    write_log(client, "j", "b", 2, b"three\n")
    assert call("logs", "j").out.splitlines() == ["a | one", "b | three", "a | two"] or call(
        "logs", "j"
    ).out.splitlines() == [
        "a | one",
        "a | two",
        "b | three",
    ]


@pytest.mark.parametrize("kind", ["fifo", "symlink", "directory"])
def test_a_hostile_log_neither_hangs_nor_leaks(
    call: Callable[..., Outcome], client: Client, project: Path, kind: str
) -> None:
    """A log that a task has made a fifo, or a link to somebody else's file, counts as none."""
    (project / "secret").write_text("hunter2")
    create(client, "j", ended("a"))
    path = write_log(client, "j", "a", 1, b"")
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to(project / "secret")
    else:
        path.mkdir()
    done = call("logs", "j", "a")
    assert done.code == 0
    assert "hunter2" not in done.out


def test_a_line_without_an_end_is_printed_as_it_comes(
    client: Client, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a long line is kept; each piece of it follows the one before, or names its task again."""
    going = make_task("a", status=Running(1, 0, THEN))
    state = create(client, "j", going, ended("b", seq=2), phase="running")
    monkeypatch.setattr(log_printer, "LONGEST", 10)
    monkeypatch.setattr(log_printer, "CHUNK", 8)
    first = write_log(client, "j", "a", 1, "é".encode() * 12)
    write_log(client, "j", "b", 2, b"x\n")
    printer = JobLogs(client.logs, None, None)
    printer.print_new(state)
    early = capfdbinary.readouterr().out
    assert early.count("é".encode()) >= 7, "all but ten bytes"
    with first.open("ab") as file:
        file.write(b"end\nlast")
    printer.print_new(state)
    printer.finish()
    out = early + capfdbinary.readouterr().out
    assert out.count(b"b | x\n") == 1
    mine = out.replace(b"b | x\n", b"").replace(b"\na | ", b"").removeprefix(b"a | ")
    assert mine == "é".encode() * 12 + b"endlast\n"
    out.decode()


def test_follow_opens_no_log_that_is_read_to_its_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two thousand tasks that have ended none is looked at again."""
    state = create(client, "j", *(ended(f"t{n}", seq=n) for n in range(1, 21)))
    for n in range(1, 21):
        write_log(client, "j", f"t{n}", n, b"x\n")
    opened: list[int] = []
    real = open_log

    def count(layout: Layout, job: JobState, task: str, seq: int, service: str | None = None) -> BinaryIO | None:
        opened.append(seq)
        return real(layout, job, task, seq, service)

    monkeypatch.setattr(directory_logs, "open_log", count)
    printer = JobLogs(client.logs, None, None)
    for _ in range(3):
        printer.print_new(state)
    assert len(opened) == 20


def test_logs_of_a_run_that_never_was(air: Air, client: Client) -> None:
    """A number that no run has is an error, a task that has not run is not."""
    create(client, "j", make_task("a", {"command": "true"}, queued_by=None, status=Queued()), phase="queued")
    assert air("logs", "j", "a", "--run", "9").code == 3
    done = air("logs", "j", "a")
    assert (done.code, done.out) == (0, "")
    assert "not run yet" in done.err


def test_an_earlier_attempt_is_found(air: Air, client: Client) -> None:
    """By its number in the task, or by that of its run, which the error and `explain` name."""
    flaky = ended("flaky", seq=11)
    before = [make_attempt(seq, 0, THEN, 0.5, 2.0, 0.5, "error", 3) for seq in (6, 8)]
    flaky.attempts, flaky.runs = [*before, *flaky.attempts], 3
    create(client, "j", ended("other"), flaky)
    for seq in (1, 6, 8, 11):
        write_log(client, "j", "other" if seq == 1 else "flaky", seq, f"run {seq}\n".encode())
    for attempt, seq in (("1", 6), ("2", 8), ("3", 11)):
        assert air("logs", "j", "flaky", "--attempt", attempt).out == f"run {seq}\n"
    assert air("logs", "j", "--attempt", "1").out == "other | run 1\nflaky | run 6\n"
    for option, what in (("--run", "run 1"), ("--attempt", "attempt 4")):
        done = air("logs", "j", "flaky", *(option, what.split()[1]))
        named = "its runs are 6, 8 and 11; or --attempt 1 to 3"
        assert (done.code, done.err) == (3, f"error: job j has no {what} of task flaky; {named}\n")
    assert "its only run is 1, --attempt 1" in air("logs", "j", "other", "--run", "2").err
    assert air("logs", "j", "flaky", "--attempt", "1", "--run", "6").code == 2
    assert air("explain", "j", "flaky").out.splitlines()[-3:] == [
        "attempt 1 (run 6): exit code 3, after 2s",
        "attempt 2 (run 8): exit code 3, after 2s",
        "attempt 3 (run 11): succeeded in 2s",
    ]
    assert "attempt" not in air("explain", "j", "other").out


def test_a_run_without_a_log_is_no_unknown_one(air: Air, client: Client) -> None:
    """Its runner could not be started: `explain` says why."""
    create(client, "j", ended("a", phase="failed"), phase="failed")
    write_log(client, "j", "a", 1, b"").unlink()
    said = "job j, run 1: no log; `air-executor explain j a` says how it stands\n"
    assert (air("logs", "j", "a").code, air("logs", "j", "a").err) == (0, said)
    for option in ("--run", "--attempt"):
        done = air("logs", "j", "a", option, "1")
        assert (done.code, done.err) == (3, f"error: {said}")


def test_attempts_are_counted_where_the_first_are_forgotten(air: Air, client: Client) -> None:
    """A task that has run very often has lost its first runs."""
    task = ended("a", seq=201)
    task.attempts = [make_attempt(seq, 0, THEN, 0.5, 2.0, 0.5, "error", 3) for seq in range(102, 202)]
    task.runs = 150
    create(client, "j", task)
    write_log(client, "j", "a", 201, b"newest\n")
    assert air("logs", "j", "a", "--attempt", "150").out == "newest\n"
    assert "200 and 201; or --attempt 51 to 150" in air("logs", "j", "a", "--attempt", "50").err
    assert air("explain", "j", "a").out.count("\nattempt ") == 20


def test_follow_ends_with_the_task(start: Callable[..., subprocess.Popen[str]], client: Client) -> None:
    """`-f` prints what comes, from several runs of a task, until it has ended."""
    process = start("run", "j", "--retries", "1", "--", "sh", "-c", "echo run $AIR_ATTEMPT; test $AIR_ATTEMPT = 2")
    eventually(lambda: Path(client.layout.state("j")).exists(), "the job is there")
    follower = start("logs", "j", "_1", "-f")
    out, err = follower.communicate(timeout=SOON)
    assert follower.returncode == 0, err
    assert "run 2\n" in out
    assert process.wait(timeout=SOON) == 0


def test_a_reader_that_has_enough_is_no_error(project: Path, client: Client) -> None:
    """`| head` ends the program quietly."""
    create(client, "j", ended("a"))
    write_log(client, "j", "a", 1, b"line\n" * 1_000_000)
    program = f"{sys.executable} -m air_executor logs j a"
    done = subprocess.run(["sh", "-c", f"{program} | head -n 1"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("line\n", "")


def test_the_last_lines_of_each_run(project: Path, capfdbinary: pytest.CaptureFixture[bytes], client: Client) -> None:
    """`--tail` counts a last line without an end, and reads no more than it must."""
    create(client, "j", ended("a"), ended("b", seq=2), ended("c", seq=3))
    write_log(client, "j", "a", 1, b"".join(b"line %d\n" % n for n in range(100_000)))
    write_log(client, "j", "b", 2, b"one\ntwo\nthree")
    write_log(client, "j", "c", 3, b"only\n")
    for count, lines in (
        ("2", [b"a | line 99998", b"a | line 99999", b"b | two", b"b | three", b"c | only"]),
        ("0", []),
    ):
        capfdbinary.readouterr()
        assert run(("logs", "j", "--tail", count)) == 0
        assert sorted(capfdbinary.readouterr().out.split()) == sorted(b" ".join(lines).split())


@pytest.mark.parametrize(("noted", "first"), [("", "one"), ("4 {old}\n8 {old}\n12 {new}\n", "three")])
def test_lines_since_a_moment(call: Call, client: Client, noted: str, first: str) -> None:
    """A line is as old as what is noted of the log; without notes, as the log's last change."""
    create(client, "j", ended("a"), ended("b", seq=2))
    log = write_log(client, "j", "a", 1, b"one\ntwo\nthree\nfour\n")
    other = write_log(client, "j", "b", 2, b"old\n")
    os.utime(other, (THEN, THEN))
    now = log.stat().st_mtime
    (log.parent / "log-times").write_text(noted.format(old=now - 3600, new=now - 1))
    out = call("logs", "j", "--since", "10m").out.splitlines()
    assert out[0] == f"a | {first}"
    assert out[-1] == "a | four"


def test_lines_with_their_times(call: Call, client: Client) -> None:
    """Each line has the time at which the log was first seen that long, and later ones that of the log itself."""
    create(client, "j", ended("a"))
    log = write_log(client, "j", "a", 1, b"one\ntwo\nthree")
    (log.parent / "log-times").write_text("4 1700000001.5\nnonsense\n3 1\n")
    os.utime(log, (THEN + 3, THEN + 3))
    assert call("logs", "j", "--timestamps").out.splitlines() == [
        "a | 2023-11-14T22:13:21.500Z one",
        "a | 2023-11-14T22:13:23.000Z two",
        "a | 2023-11-14T22:13:23.000Z three",
    ]


def test_a_manager_notes_when_lines_were_written(start: Start, call: Call, client: Client, project: Path) -> None:
    """The lines of a run that goes on have different times."""
    process = start("run", "j", "--", "sh", "-c", "echo early; until test -e go; do sleep 0.1; done; echo late")
    eventually(lambda: list(Path(client.layout.runs("j")).glob("*/log-times")), "the early line is noted")
    time.sleep(1.1)  # the two lines need different times
    (project / "go").touch()
    assert process.wait(SOON) == 0
    early, late = (line.split()[0] for line in call("logs", "j", "_1", "-t").out.splitlines())
    assert from_text(late) - from_text(early) >= 1


def test_hostile_notes_are_no_notes(call: Call, client: Client) -> None:
    """A task of the local backend can put anything there."""
    create(client, "j", ended("a"))
    log = write_log(client, "j", "a", 1, b"one\n")
    os.mkfifo(log.parent / "log-times")
    assert call("logs", "j", "-t").out.endswith("Z one\n")
    assert log_times.note(str(log), 0) == 4, "the manager does not wait for a reader"


def test_a_large_log_needs_little_memory(project: Path, client: Client) -> None:
    """A log is printed in pieces, whatever its size; so are its last lines."""
    create(client, "j", ended("a"))
    log = write_log(client, "j", "a", 1, b"")
    with log.open("wb") as file:
        for _ in range(300):
            file.write((b"x" * 99 + b"\n") * 10_000)
    limited = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (200 << 20, 200 << 20)); "
    for arguments in (["j"], ["j", "a"], ["j", "--tail", "1", "-t"]):
        program = f"{limited}from air_executor.cli.app import run; raise SystemExit(run(['logs', *{arguments}]))"
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
        assert done.stdout.endswith(b"x\n")


def test_follow_reads_a_state_only_when_it_has_changed(
    start: Start, client: Client, monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    """While nothing happens, looks become rare, and none of them reads the state."""
    process = start("run", "j", "--", "sh", "-c", "until test -e go; do sleep 0.1; done; echo end")
    eventually(lambda: list(Path(client.layout.runs("j")).glob("*/claim")), "the task runs")
    reads: list[str] = []
    looks: list[float] = []
    real = Client.status

    def status(self: Client, job: str, uid: str | None = None) -> JobState:
        reads.append(job)
        return real(self, job, uid)

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 12:
            (project / "go").touch()
        wait(seconds)

    wait = time.sleep
    monkeypatch.setattr(Client, "status", status)
    monkeypatch.setattr(time, "sleep", sleep)
    assert run(("logs", "j", "-f")) == 0
    assert process.wait(SOON) == 0
    assert max(looks) == logs.LONGEST_PAUSE
    assert len(reads) < 8 < len(looks)


def test_what_a_service_printed(call: Call, client: Client) -> None:
    """It is read like the log of its task; without one, and for what it has not, there is a reason."""
    create(client, "j", ended("a"), ended("b", seq=2))
    layout = client.layout
    for task, seq in (("a", 1), ("b", 2)):
        write_log(client, "j", task, seq, b"of the task")
        Path(layout.run("j", seq, task), "service-db.log").write_bytes(f"one\ntwo of {task}\n".encode())
    assert call("logs", "j", "a", "--service", "db").out == "one\ntwo of a\n"
    assert call("logs", "j", "--service", "db", "-n", "1").out.splitlines() == ["a | two of a", "b | two of b"]
    for name in ("web", "../output", "DB"):
        none = call("logs", "j", "a", "--service", name)
        assert none.code == 3
        assert name in none.err
    refused = call("logs", "j", "a", "--service", "db", "--follow")
    assert refused.code == 2
    assert "is kept when its run ends" in refused.err
    os.unlink(Path(layout.run("j", 1, "a"), "service-db.log"))
    os.symlink("/etc/passwd", Path(layout.run("j", 1, "a"), "service-db.log"))
    assert call("logs", "j", "a", "--service", "db").code == 3

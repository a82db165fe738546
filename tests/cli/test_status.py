"""`status` and `logs`: what is shown of jobs, and that nothing in them can steer the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from air_executor.cli import logs
from air_executor.client import Client
from air_executor.model.state import JobState, Queued, TaskState
from air_executor.model.usage import Usage
from air_executor.store.layout import Layout
from air_executor.store.run_logs import open_log
from tests.cli.conftest import SOON, Outcome, eventually
from tests.records import make_attempt, make_done, make_job, make_task

Air = Callable[..., Outcome]
THEN = 1_700_000_000.0


def ended(
    task: str, *, queued_by: str | None = None, phase: str = "succeeded", message: str | None = None, seq: int = 1
) -> TaskState:
    """Return a task that has run once, for two of three seconds."""
    reason = {"succeeded": "ok"}.get(phase, "error")
    made = make_task(
        task, {"command": "true"}, queued_by=queued_by, status=make_done(phase, reason, THEN + 3, 0, message)
    )
    made.runs = 1
    made.attempts = [make_attempt(seq, 0, THEN, 0.5, 2.0, 0.5, reason, 0)]
    return made


def create(client: Client, name: str, *tasks: TaskState, phase: str = "succeeded") -> JobState:
    """Put a job with these tasks on the volume."""
    state = make_job(
        name, "0badcafe", {"max_runners": 1, "on_failure": "stop", "pool": "default"}, submitted_at=THEN, phase=phase
    )
    state.started_at, state.seq = THEN, len(tasks)
    if phase in ("succeeded", "failed"):
        state.finished_at, state.reason = THEN + 3, "ok" if phase == "succeeded" else "error"
    state.tasks = {task.id: task for task in tasks}
    runs = sum(task.runs for task in tasks)
    state.usage = Usage(runs, 0.5 * runs, 2.0 * runs, 0.5 * runs)
    client.jobs.prepare()
    client.jobs.create(state)
    return state


def test_the_table_has_every_job_and_what_is_wrong(air: Air, client: Client) -> None:
    """Jobs, unreadable ones, and that nobody manages the open ones."""
    create(client, "good", ended("a"))
    create(client, "open", make_task("a", {"command": "true"}, queued_by=None, status=Queued()), phase="queued")
    create(client, "broken", ended("a"))
    Path(client.layout.state("broken")).write_text("{")
    done = air("status")
    assert done.code == 0
    assert "good" in done.out
    assert "1/1" in done.out
    assert "broken cannot be read" in done.out
    assert "no manager is running" in done.out
    record = json.loads(air("status", "--json").out)
    assert [job["id"] for job in record["jobs"]] == ["good", "open"]
    assert [job["id"] for job in record["unreadable"]] == ["broken"]
    assert record["manager"]["running"] is False


def test_a_jobs_page_is_the_tree_of_its_tasks(air: Air, client: Client) -> None:
    """Tasks stand under the one that queued them."""
    create(
        client,
        "j",
        ended("root"),
        ended("merge", seq=4),
        ended("child", queued_by="root", seq=2),
        ended("deep", queued_by="child", seq=3),
    )
    lines = air("status", "j").out.splitlines()
    tree = [
        line.split(" succeeded")[0].rstrip() for line in lines if " succeeded " in f"{line} " and "tasks:" not in line
    ][1:]
    assert tree == ["root", "└ child", "  └ deep", "merge"]


def test_the_json_of_a_job_is_its_state_file(air: Air, client: Client) -> None:
    """Nothing more, nothing less."""
    create(client, "j", ended("a"))
    assert json.loads(air("status", "j", "--json").out) == json.loads(Path(client.layout.state("j")).read_text())


def test_many_children_are_cut_and_the_failed_one_is_kept(air: Air, client: Client) -> None:
    """Of a long list those that need attention stay, the rest is counted, and --all shows it."""
    children = [ended(f"c{n}", queued_by="root", seq=n + 2) for n in range(200)]
    children[150] = ended("c150", queued_by="root", phase="failed", message="look at me", seq=152)
    create(client, "j", ended("root"), *children, phase="failed")
    out = air("status", "j").out
    assert "look at me" in out
    assert "… and 180 more: 180 succeeded (--all)" in out
    assert len(out.splitlines()) < 50
    assert len(air("status", "j", "--all").out.splitlines()) > 200


def test_a_chain_as_long_as_tasks_like_is_no_problem(air: Air, client: Client) -> None:
    """Tasks may queue tasks without end; showing them does not recurse."""
    create(client, "j", ended("c0"), *(ended(f"c{n}", queued_by=f"c{n - 1}", seq=n + 1) for n in range(1, 3000)))
    done = air("status", "j")
    assert done.code == 0
    assert "more (--all)" in done.out


@pytest.mark.parametrize("text", ["[bold]x[/red]", "\x1b[2J\x1b]0;t\x07", "\u202eabc", "a\nb", "[/]", ":smile:"])
def test_messages_of_tasks_are_only_text(air: Air, client: Client, text: str) -> None:
    """Markup, escape sequences and the like in a message are shown, not obeyed."""
    create(client, "j", ended("a", phase="failed", message=text), phase="failed")
    for command in ("status", "explain"):
        done = air(command, "j")
        assert done.code == 0, done.err
        assert "\x1b" not in done.out
        assert "\u202e" not in done.out
    assert "\x1b" not in air("status", "j", "--json").out
    if text.isprintable():
        assert text in air("status", "j").out


def test_a_page_tells_of_memory_that_has_grown(air: Air, client: Client) -> None:
    """With how much a task was killed and tried again, in the table and as data."""
    task = ended("a", seq=2)
    grown = [make_attempt(1, 0, THEN, 0.5, 2.0, 0.5, "oom", 137, memory_limit=512 << 20)]
    grown += [make_attempt(2, 0, THEN + 3, 0.5, 2.0, 0.5, "ok", 0, memory_limit=768 << 20)]
    task.attempts, task.runs = grown, 2
    create(client, "j", task)
    assert "killed for memory at 512Mi; tried again with 768Mi" in air("status", "j").out
    record = json.loads(air("status", "j", "--json").out)
    assert [one["memory_limit"] for one in record["tasks"][0]["attempts"]] == [512 << 20, 768 << 20]


def test_what_does_not_exist_is_3(air: Air) -> None:
    """Every command that names a job says so in one line."""
    for command in ("status", "logs", "explain", "wait", "report", "cancel", "run"):
        done = air(command, "nobody")
        assert (done.code, done.out) == (3, ""), command
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1


def write_log(client: Client, job: str, task: str, seq: int, data: bytes) -> Path:
    """Give a run its log."""
    path = Path(client.layout.run(job, seq, task)) / "out" / "output.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


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
    state = create(client, "j", ended("a"), ended("b", seq=2))
    monkeypatch.setattr(logs, "LONGEST", 10)
    monkeypatch.setattr(logs, "CHUNK", 8)
    first = write_log(client, "j", "a", 1, "é".encode() * 12)
    write_log(client, "j", "b", 2, b"x\n")
    printer = logs.Printer(client, "j", None, None)
    printer.print_new(state)
    assert all(len(rest) <= 10 for rest in printer._rest.values())
    with first.open("ab") as file:
        file.write(b"end\nlast")
    printer._complete.clear()
    printer.print_new(state)
    printer.finish()
    out = capfdbinary.readouterr().out
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

    def count(layout: Layout, job: JobState, task: str, seq: int) -> BinaryIO | None:
        opened.append(seq)
        return real(layout, job, task, seq)

    monkeypatch.setattr(logs, "open_log", count)
    printer = logs.Printer(client, "j", None, None)
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

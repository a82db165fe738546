"""`run`: one job with a manager of its own, from submission to cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from air_executor.client import Client
from air_executor.manager.loop import Manager
from air_executor.store.presence import read_record
from tests.cli.conftest import SOON, Outcome, eventually
from tests.crash.processes import below

Call = Callable[..., Outcome]
Start = Callable[..., "subprocess.Popen[str]"]


def running(client: Client, job: str) -> Callable[[], bool]:
    """Return a function that returns whether a job's first task has begun."""
    return lambda: bool(list(Path(client.layout.runs(job)).glob("*/claim")))


def test_a_job_that_succeeds_prints_its_answer_and_its_cost(call: Call, client: Client) -> None:
    """Stdout has the output of its command and nothing else; stderr ends with the cost; the exit code is 0."""
    done = call("run", "hello", "--", "echo", "the answer")
    assert done.code == 0, done.err
    assert done.out == "the answer\n"
    lines = done.err.splitlines()
    assert "hello succeeded: 1 succeeded" in lines
    assert "runner-seconds: " in lines[-2]
    assert lines[-1].startswith("efficiency")
    assert client.status("hello").phase == "succeeded"


def test_a_job_that_fails_says_why_with_the_end_of_its_log(call: Call, project: Path) -> None:
    """Failed tasks are listed with reason, exit code and last lines, and what to type next; the exit code is 1."""
    bad = {"id": "bad", "command": "echo oops >&2; exit 3"}
    gone = {"id": "gone", "command": ["no-such-thing"]}
    text = json.dumps({"id": "f", "on_failure": "continue", "tasks": [bad, gone]})
    (project / "f.yaml").write_text(text)
    done = call("run", "f.yaml")
    assert done.code == 1
    assert "bad | oops\n" in done.out
    assert "✗ f/bad failed: exit code 3" in done.err
    assert "    oops" in done.err
    assert "exit code 127" in done.err
    assert "command not found" in done.err
    assert "Traceback" not in done.err
    next_one, again = done.err.splitlines()[-2:]
    assert next_one == "next: air-executor logs f bad"
    assert again.strip() == "air-executor retry f && air-executor run f"


def test_a_failure_shows_the_end_of_an_endless_line(call: Call) -> None:
    """A screen is not filled by one line."""
    done = call("run", "j", "--", "sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x; printf end; exit 1")
    (shown,) = [line for line in done.err.splitlines() if line.endswith("xend")]
    assert shown == f"    …{'x' * 997}end"


def test_hostile_output_is_harmless_and_complete(start: Start, project: Path, client: Client) -> None:
    """Invalid text, markup and escape sequences break nothing; a pipe gets every byte, messages none of them."""
    (project / "h.yaml").write_text(
        "id: h\ntasks:\n- {id: a, command: \"printf '\\\\377\\\\376[red]x[/red]\\\\033]0;t\\\\007[/nope]\\\\n'\"}\n"
    )
    raw = b"\xff\xfe[red]x[/red]\x1b]0;t\x07[/nope]\n"
    process: Any = start("run", "h.yaml", text=False)
    out, err = process.communicate(timeout=SOON)
    assert process.returncode == 0, err
    assert out == raw
    assert b"\x1b" not in err
    assert client.log("h", "a", 1).read_bytes() == raw


def test_json_is_the_state(call: Call) -> None:
    """With `--json` stdout is one JSON object with the names of state.json."""
    record = json.loads(call("run", "--json", "a", "--", "true").out)
    assert (record["id"], record["phase"], record["tasks"][0]["phase"]) == ("a", "succeeded", "succeeded")
    assert record["usage"]["runs"] == 1


def test_tasks_find_the_interpreter_that_runs_them(call: Call) -> None:
    """`python` in a job file is the interpreter that air-executor runs with."""
    done = call("run", "py", "--", "python", "-c", "import air_executor; print('import works')")
    assert "import works" in done.out


def test_jobs_that_it_submits_run_to_completion(call: Call, client: Client) -> None:
    """Jobs submitted by the job's tasks are managed too, and count for the exit code."""
    line = '{"job": {"id": "child", "tasks": [{"command": "exit 7"}]}}'
    done = call("run", "parent", "--", "sh", "-c", f"echo '{line}' >> $AIR_QUEUE")
    assert client.status("parent").phase == "succeeded"
    assert client.status("child").phase == "failed"
    assert "child failed" in done.err
    assert done.code == 1


def test_ctrl_c_stops_and_pauses_and_run_continues(start: Start, call: Call, client: Client, project: Path) -> None:
    """The first Ctrl-C stops the runner at no charge and pauses the job; `run JOB` completes it later."""
    process = start("run", "long", "--", "sh", "-c", "test -e go || sleep 60; echo went on")
    eventually(running(client, "long"), "the task runs")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SOON)
    assert process.returncode == 130
    assert "air-executor run long" in err
    assert "Traceback" not in err
    state = client.status("long")
    assert (state.phase, state.tasks["_1"].phase) == ("paused", "queued")
    (project / "go").touch()
    done = call("run", "long")
    assert done.code == 0, done.err
    assert "went on" in done.out


def test_ctrl_c_pauses_what_does_not_run_yet(start: Start, client: Client) -> None:
    """The job is paused between two runs too, so no later manager continues it."""
    process = start("run", "later", "--delay", "60s", "--", "true")
    eventually(lambda: (read_record(client.layout).get("only") or [None])[0] == "later", "the manager is running")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SOON)
    assert process.returncode == 130
    assert client.status("later").phase == "paused"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_manager_starts(
    air: Call, client: Client, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """It has the same effect as a later one: Ctrl-C pauses the job, SIGTERM leaves it to the next manager."""
    begin = Manager.start

    def begin_and_hear(manager: Manager) -> bool:
        begun = begin(manager)
        signal.raise_signal(number)
        return begun

    monkeypatch.setattr(Manager, "start", begin_and_hear)
    assert air("run", "later", "--delay", "600s", "--", "true").code == 128 + number
    assert (client.status("later").phase == "paused") == (number == signal.SIGINT)


def test_a_second_ctrl_c_leaves_at_once(start: Start, client: Client, project: Path) -> None:
    """A task that stops slowly does not delay the second Ctrl-C."""
    waits = {"command": "trap '' TERM; touch ready; until test -e go; do sleep 0.1; done", "grace": 600}
    (project / "s.yaml").write_text(json.dumps({"id": "stubborn", "tasks": [waits]}))
    process = start("run", "s.yaml")
    eventually((project / "ready").exists, "the task runs")
    process.send_signal(signal.SIGINT)
    eventually(lambda: any("requeue" in line for line in _journal(client)), "the stop is decided")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert below(client.layout.root) != []
    # The next manager cleans up; no process of this test may be left.
    (project / "go").touch()
    next_one = start("manager", "--stop-runners")
    eventually(lambda: read_record(client.layout).get("pid") == next_one.pid, "the next manager is running")
    next_one.send_signal(signal.SIGTERM)
    next_one.communicate(timeout=60)
    assert below(client.layout.root) == []


def _journal(client: Client) -> list[str]:
    return [text for path in Path(client.layout.journal).glob("*.jsonl") for text in path.read_text().splitlines()]


def test_sigterm_leaves_the_runner_to_the_next(start: Start, call: Call, client: Client, project: Path) -> None:
    """SIGTERM stops `run` as it stops a manager: the runner continues and is adopted."""
    process = start("run", "adopted", "--", "sh", "-c", "until test -e go; do sleep 0.05; done; echo once")
    eventually(running(client, "adopted"), "the task runs")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=SOON)
    assert process.returncode == 143
    (project / "go").touch()
    done = call("run", "adopted")
    assert done.code == 0, done.err
    assert client.status("adopted").tasks["_1"].runs == 1


def test_sigterm_inside_a_task_stops_the_runners(start: Start, client: Client, project: Path) -> None:
    """A task that is itself `run` has been stopped only when what it runs has: nothing outlives its cancel."""
    process = start(
        "run", "inner", "--", "sh", "-c", "touch ready; exec sleep 600", env={**os.environ, "AIR_RUN_ID": "abc-1"}
    )
    eventually((project / "ready").exists, "the inner task runs")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=SOON)
    assert process.returncode == 143
    assert below(client.layout.root) == []
    assert client.status("inner").phase == "running", "it can be gone on with"


def test_two_in_one_folder_both_end(start: Start, client: Client, project: Path) -> None:
    """The second waits for the first one's manager, says so, and takes over when it exits."""
    first = start("run", "one", "--", "sh", "-c", "until test -e go; do sleep 0.05; done")
    eventually(running(client, "one"), "the first task runs")
    second = start("run", "two", "--", "true")
    assert second.stderr is not None
    assert "job two waits until `air-executor run` of job one has ended (pid" in second.stderr.readline()
    (project / "go").touch()
    assert first.wait(timeout=SOON) == 0
    assert second.wait(timeout=SOON) == 0
    assert client.status("two").phase == "succeeded"


def test_two_in_one_folder_then_ctrl_c_on_both(start: Start, client: Client) -> None:
    """Ctrl-C on both leaves one paused job, one with a pending pause request, and no runner."""
    first = start("run", "one", "--", "sleep", "60")
    eventually(running(client, "one"), "the first task runs")
    second = start("run", "two", "--", "sleep", "60")
    assert second.stderr is not None
    second.stderr.readline()
    for process in (second, first):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SOON)
        assert process.returncode == 130
    assert client.status("one").phase == "paused"
    assert client.status("two").phase == "queued"
    request = client.inbox.read(client.inbox.pending()[-1])
    assert request is not None
    assert (request.op, request.job) == ("pause", "two")


def test_ctrl_c_under_another_manager_says_that_the_task_finishes(start: Start, client: Client, project: Path) -> None:
    """The pause is that manager's to make: it is awaited, and stops no runner."""
    manager = start("manager")
    eventually(lambda: client.presence().running is True, "the manager is running")
    process = start("run", "long", "--", "sh", "-c", "until test -e go; do sleep 0.05; done")
    eventually(running(client, "long"), "the task runs")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SOON)
    assert process.returncode == 130
    said = "job long is paused; its running tasks finish; to continue: `air-executor run long`"
    assert err.splitlines()[-1] == said
    (project / "go").touch()
    eventually(lambda: client.status("long").phase == "succeeded", "the task ends")
    manager.send_signal(signal.SIGTERM)
    assert manager.wait(timeout=SOON) == 0


def test_a_request_that_waits_is_taken_up(call: Call, client: Client) -> None:
    """Without a manager, `add` stays in the inbox; a later `run JOB` of the ended job applies it."""
    assert call("run", "a", "--", "true").code == 0
    assert call("add", "a", "--", "true").code == 0
    again = call("run", "a")
    assert again.code == 0
    assert len(client.status("a").tasks) == 2
    assert "2 runs within" in again.err


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("false", 1)])
def test_a_job_that_has_ended_only_reports(call: Call, command: str, code: int) -> None:
    """`run JOB` of an ended job runs nothing and exits as the job ended."""
    assert call("run", "a", "--", command).code == code
    again = call("run", "a")
    assert again.code == code
    assert "1 run within" in again.err


def test_a_service_manager_does_the_work_if_there_is_one(start: Start, call: Call, client: Client) -> None:
    """With a running manager, `run` only follows the job and prints the same."""
    manager = start("manager")
    assert manager.stderr is not None
    eventually(lambda: Path(client.layout.manager).exists(), "the manager is there")
    done = call("run", "watched", "--", "echo", "answer")
    assert done.code == 0, done.err
    assert "answer" in done.out
    manager.send_signal(signal.SIGTERM)
    assert manager.wait(timeout=SOON) == 0


def test_a_wrong_backend_leaves_no_job_behind(call: Call, client: Client) -> None:
    """After a mistyped setting, the same command works with the correct one: the id is free."""
    done = call("run", "j", "--backend", "dokcer", "--", "true")
    assert (done.code, "dokcer" in done.err) == (2, True)
    assert list(client.all()) == []


def test_output_comes_as_it_is_printed(start: Start, project: Path) -> None:
    """The output of a task that still runs is there."""
    process = start("run", "live", "--", "sh", "-c", "echo begun; until test -e go; do sleep 0.05; done; echo over")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    (project / "go").touch()
    out, err = process.communicate(timeout=SOON)
    assert (process.returncode, out) == (0, "over\n"), err


def test_lines_of_several_tasks_name_the_task(call: Call, project: Path) -> None:
    """Each line of output has its task, and each attempt that ends has a line on stderr, in the order of events."""
    flaky = {"id": "flaky", "command": "echo try $AIR_ATTEMPT; test $AIR_ATTEMPT = 2", "retries": 1}
    last = {"id": "last", "command": "printf 'no line end'", "after": ["flaky"]}
    (project / "j.yaml").write_text(json.dumps({"id": "j", "tasks": [flaky, last]}))
    done = call("run", "j.yaml")
    assert done.out == "flaky | try 1\nflaky | try 2\nlast | no line end\n"
    ends = [line.split(" in ")[0] for line in done.err.splitlines() if " in " in line][:3]
    assert ends == ["flaky failed", "flaky succeeded", "last succeeded"]
    assert "(exit code 1), will be retried" in done.err


@pytest.mark.parametrize(
    ("options", "command", "code"),
    [
        ((), "exit 42", 42),
        ((), "kill -9 $$", 137),
        (("--timeout", "100ms"), "sleep 60", 124),
        ((), "echo nonsense >>$AIR_QUEUE", 1),
    ],
)
def test_the_exit_code_of_a_single_command_is_passed_on(
    call: Call, options: tuple[str, ...], command: str, code: int
) -> None:
    """A timeout is 124, as with coreutils; a failure that has no exit code is 1."""
    done = call("run", "one", *options, "--", "sh", "-c", command)
    assert done.code == code
    assert done.err.startswith("one failed in ")
    assert "✗ one failed: " in done.err
    assert "next: air-executor logs one\n" in done.err
    assert call("run", "one").code == code


def test_a_job_of_several_tasks_that_fails_exits_with_1(call: Call, project: Path) -> None:
    """There is no one exit code to pass on."""
    (project / "j.yaml").write_text(json.dumps({"id": "j", "tasks": [{"command": "exit 42"}, {"command": "true"}]}))
    assert call("run", "j.yaml").code == 1


def test_quiet_leaves_the_answer_and_the_failures(call: Call, project: Path) -> None:
    """Of a success, only the output of the last task; of a failure, what failed and what to do."""
    first, last = {"command": "echo first"}, {"command": "echo last; test ! -e bad"}
    (project / "j.yaml").write_text(json.dumps({"id": "j", "tasks": [first, last]}))
    done = call("run", "--quiet", "j.yaml")
    assert (done.code, done.out, done.err) == (0, "last\n", "")
    (project / "bad").touch()
    (project / "k.yaml").write_text(json.dumps({"id": "k", "tasks": [first, last]}))
    done = call("run", "-q", "k.yaml")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("✗ k/_2 failed: exit code 1\n    $ echo last; test ! -e bad\n    last\n")


def test_what_was_shown_is_not_shown_again(call: Call, client: Client) -> None:
    """`run JOB` of an open job shows the output of new runs alone."""
    call("run", "a", "--", "sh", "-c", "echo attempt $AIR_ATTEMPT; test $AIR_ATTEMPT = 2")
    call("retry", "a")
    done = call("run", "a")
    assert (done.code, done.out) == (0, "attempt 2\n")
    assert "failed" not in done.err

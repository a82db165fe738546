"""`manager`: one per directory, a clean stop, and its requests."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.model.job import Job, Task
from tests.cli.conftest import SOON, Outcome, eventually

Air = Callable[..., Outcome]
Call = Callable[..., Outcome]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def manager(start: Start, client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A running manager; commands wait for its answers."""
    monkeypatch.setattr("air_executor.client.directory_client.ANSWER_WITHIN", 60.0)
    process = start("manager", stderr=subprocess.DEVNULL)
    eventually(lambda: Path(client.layout.manager).exists(), "the manager is there")
    yield process
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=SOON) == 0


def ends(client: Client, job: str) -> str:
    """Wait for a job's end and return its phase."""
    return client.wait(job, SOON).phase


def test_a_second_manager_is_refused_with_5(manager: object, call: Call) -> None:
    """It says who holds the directory."""
    done = call("manager")
    assert done.code == 5
    assert "already managed by pid" in done.err.splitlines()[0]
    assert "Traceback" not in done.err


def test_a_place_where_no_state_directory_can_be_is_named(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is missing, and a file."""
    monkeypatch.setenv("AIR_HTTP_PORT", "0")
    done = call("--state-dir", str(tmp_path / "gone" / ".air-executor"), "manager")
    assert (done.code, done.err) == (
        3,
        f"error: {tmp_path}/gone: not found; create it, or start the manager where the project is now\n",
    )
    (tmp_path / "job.yaml").touch()
    for command in ("manager", "status"):
        done = call("--state-dir", str(tmp_path / "job.yaml"), command)
        assert (done.code, f"error: {tmp_path}/job.yaml is a file; a state directory is" in done.err) == (2, True)


def test_a_log_on_a_full_disk_ends_nothing(start: Start, air: Air, client: Client) -> None:
    """Lines for people are lost; the manager works on and stops as always."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = start("manager", stderr=full)
        air("submit", "job", "--", "true")
        assert ends(client, "job") == "succeeded"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=SOON) == 0


def test_a_log_that_nobody_reads_holds_up_nothing(start: Start, client: Client) -> None:
    """As of a collector that hangs: what the pipe does not take is lost."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    process = start("manager", stderr=writing)
    client.submit(Job(id="job", tasks=[Task(command="true") for _ in range(50)]))
    assert ends(client, "job") == "succeeded"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=SOON) == 0
    assert os.fstat(reading)
    os.close(reading)
    os.close(writing)


def test_a_run_that_manages_only_its_own_job_says_so(start: Start, air: Air, client: Client) -> None:
    """`submit`, `status`, `explain` and `manager` report that it manages no other job, and what to do."""
    start("run", "own", "--", "sleep", "60", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    eventually(lambda: Path(client.layout.jobs, "own").exists() and client.status("own").started_at, "it runs")
    assert "the running manager handles only job own; to run this job: `air-executor run other`" in (
        air("submit", "other", "--", "true").err
    )
    for page in (air("status"), air("status", "other"), air("explain", "other")):
        assert "the running manager handles only job own; to run " in page.out
        assert "`air-executor run other`" in page.out
    queued = air("cancel", "other").err
    assert "Queued: the running manager handles only own; it applies when another one starts, or with `air-" in queued
    assert "handles only" not in air("status", "own").out
    refused = air("manager")
    assert (refused.code, "handles only own" in refused.err) == (5, True)


def test_jobs_are_taken_up_and_waited_for(manager: object, air: Air) -> None:
    """`submit` and `wait` need nothing else; the exit code is the outcome."""
    assert "no manager" not in air("submit", "good", "--", "true").err
    air("submit", "bad", "--", "false")
    assert air("wait", "good", "--timeout", "30s").code == 0
    done = air("wait", "good", "bad", "--timeout", "30s")
    assert (done.code, done.out.splitlines()) == (1, ["good succeeded", "bad failed"])


def test_requests_are_answered(manager: object, air: Air, client: Client) -> None:
    """Pause, resume, add, cancel and retry print the answer."""
    air("submit", "j", "--", "sh", "-c", "test -e ok")
    assert ends(client, "j") == "failed"
    assert air("retry", "j", "t1").out == "retry j: done\n"
    eventually(lambda: client.status("j").tasks["_1"].runs == 2 and client.status("j").ended, "it has run again")
    assert air("pause", "j").code == 2, "an ended job cannot be paused"
    assert json.loads(air("add", "j", "--json", "--id", "more", "--", "sleep", "600").out)["applied"] is True
    eventually(lambda: client.status("j").phase == "running", "the job is open again")
    assert air("pause", "j").code == 0
    assert air("resume", "j").code == 0
    assert air("cancel", "j", "more").code == 0
    assert ends(client, "j") == "failed"
    assert client.status("j").tasks["more"].phase == "cancelled"
    assert air("cancel", "j", "nobody").code == 3
    assert air("cancel", "nobody").code == 3


def test_tasks_are_added_from_a_file_of_lines(manager: object, air: Air, client: Client, project: Path) -> None:
    """The lines are those of $AIR_QUEUE; an invalid one is named and nothing is added."""
    air("submit", "j", "--", "true")
    ends(client, "j")
    (project / "lines.json").write_text(
        '{"id": "a", "command": "true"}\n\n{"id": "b", "command": "true", "after": ["a"]}\n'
    )
    assert air("add", "j", "lines.json").code == 0
    eventually(lambda: list(client.status("j").tasks) == ["_1", "a", "b"], "the tasks are there")
    assert ends(client, "j") == "succeeded"
    (project / "bad.json").write_text('{"id": "c", "command": "true"}\n{"id": "d", "comand": "true"}\n')
    done = air("add", "j", "bad.json")
    assert done.code == 2
    assert "bad.json:2" in done.err
    assert "command" in done.err
    assert "c" not in client.status("j").tasks


def test_an_id_is_free_again_after_prune(manager: object, air: Air, client: Client) -> None:
    """A job of an archived id, submitted while the manager of the old one lives, runs."""
    for _ in range(2):
        assert air("submit", "again", "--", "true").code == 0
        assert ends(client, "again") == "succeeded"
        pruned = air("prune", "--older-than", "0s")
        assert pruned.out == "again archived\n", pruned
    assert len(list(Path(client.layout.archive).iterdir())) == 2


def test_without_a_manager_requests_stay(air: Air, client: Client) -> None:
    """The client reports that no manager has answered, and the request stays in the inbox."""
    air("submit", "j", "--", "true")
    done = air("cancel", "j")
    assert done.code == 0
    assert done.err.startswith("Queued: no manager is running; it applies when one starts (`air-executor manager`, or")
    assert done.out == ""
    requests = [client.inbox.read(name) for name in client.inbox.pending()]
    assert "cancel" in [request.op for request in requests if request is not None]


def test_waiting_too_long_ends_with_124(air: Air) -> None:
    """An expired timeout is not a failed job."""
    air("submit", "j", "--", "true")
    done = air("wait", "j", "--timeout", "10ms")
    assert done.code == 124
    assert "not ended yet: j" in done.err


def test_the_last_line_says_what_goes_on(start: Start, air: Air, client: Client) -> None:
    """When a manager stops: its runners do not."""
    process = start("manager")
    air("submit", "long", "--", "sleep", "60")
    eventually(lambda: client.status("long").phase == "running", "the task runs")
    process.send_signal(signal.SIGTERM)
    last = process.communicate(timeout=SOON)[1].splitlines()[-1]
    assert last == "stopped; 1 runner goes on, for the next manager to adopt: long/_1"


def test_stop_runners_queues_their_tasks_again(start: Start, air: Air, client: Client) -> None:
    """`manager --stop-runners` leaves no runner behind when it stops."""
    process = start("manager", "--stop-runners", stderr=subprocess.DEVNULL)
    air("submit", "j", "--", "sleep", "60")
    eventually(lambda: list(Path(client.layout.runs("j")).glob("*/claim")), "the task runs")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=SOON) == 0
    task = client.status("j").tasks["_1"]
    assert (task.phase, task.charged) == ("queued", 0)

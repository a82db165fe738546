"""Which job, file or command a word on the command line names, also after a job's id was used again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.model.state import JobPhase, JobState
from tests.cli.conftest import Outcome

Air = Callable[..., Outcome]


def submit(client: Client, job: str) -> JobState:
    """Submit a job of one task."""
    return client.submit(parse_job({"id": job, "tasks": [{"id": "a", "command": "true"}]}))


def end_and_archive(client: Client, job: str, phase: JobPhase = "succeeded") -> None:
    """Do what a manager does with a job, and a user with its directory afterwards."""
    state = client.status(job)
    state.phase, state.reason, state.finished_at = phase, "ok", state.submitted_at + 1
    client.jobs.checkpoint(state, client.layout.tmp)
    client.jobs.archive(state)


@pytest.fixture
def reused(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A job that fails and is archived, and another that gets its id, while a command waits for the first one."""
    submit(client, "j")
    sleep = time.sleep

    def during(seconds: float) -> None:
        if not list(Path(client.layout.archive).iterdir()):
            end_and_archive(client, "j", "failed")
            submit(client, "j")
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", during)
    return client


def test_wait_stays_with_its_job(reused: Client, air: Air) -> None:
    """The other one may never end."""
    done = air("wait", "j", "--timeout", "60s")
    assert (done.code, done.out) == (1, "j failed\n")


def test_logs_stay_with_their_job(reused: Client, air: Air) -> None:
    """They end with it."""
    assert air("logs", "j", "-f").code == 0


def test_a_job_that_was_deleted_is_not_waited_for(client: Client, air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one of its id is another one."""
    submit(client, "j")

    def during(_: float) -> None:
        client.jobs.remove("j")
        submit(client, "j")

    monkeypatch.setattr(time, "sleep", during)
    done = air("wait", "j")
    assert done.code == 3
    assert "was deleted" in done.err


def test_an_archived_id_is_its_newest_life(client: Client, air: Air) -> None:
    """For commands, and for a job that waits for it; whatever the uids are."""
    uids = []
    for second in range(8):
        submit(client, "j")
        state = replace(client.status("j"), submitted_at=float(1_700_000_000 + second))
        client.jobs.checkpoint(state, client.layout.tmp)
        end_and_archive(client, "j")
        uids.append(state.uid)
    assert client.status("j").uid == uids[-1]
    air("submit", "next", "--after", "j", "--", "true")
    assert client.status("next").after_uids == {"j": uids[-1]}


def test_a_word_after_the_dashes_is_no_file(client: Client, air: Air, project: Path) -> None:
    """It is a command, though a file has that name."""
    (project / "work").write_text('{"command": "from the file"}\n')
    submit(client, "j")
    assert air("add", "j", "--", "./work").code == 0
    [name] = [name for name in client.inbox.pending() if (found := client.inbox.read(name)) and found.op == "add"]
    request = client.inbox.read(name)
    assert request is not None
    assert [task["command"] for task in request.tasks] == [["./work"]]
    for command in ("submit", "run"):
        done = air(command, "--", "./work")
        assert (done.code, "no job id" in done.err) == (2, True)


def test_a_file_hides_no_job(client: Client, air: Air, project: Path) -> None:
    """`run build` means the job, as long as there is one; `./build` is the file."""
    submit(client, "build")
    end_and_archive(client, "build")
    (project / "build").write_text("id: other\ntasks: [{command: 'true'}]\n")
    done = air("run", "build")
    assert (done.code, "build succeeded" in done.err) == (0, True)
    assert client.jobs.find("other") is None

"""The page explains a job in the same words as the command line, wherever the jobs are that it waits for."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from starlette.requests import Request

from air_executor.client import Client
from air_executor.core.explanation import explain_job
from air_executor.model.callers import ANONYMOUS
from air_executor.model.keep import KeptRunner
from air_executor.model.state import JobPhase, JobState
from air_executor.settings import Settings
from air_executor.web.routes import _PageRoutes
from air_executor.web.state_cache import StateCache
from tests.web.ended_jobs import ended_job, put


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """A state directory with a job `down` that waits for a job `up`, which is not there."""
    made = Client(tmp_path / ".air-executor")
    down = ended_job("down", 2, uid="00000002")
    down.phase, down.reason, down.started_at, down.finished_at = "queued", None, None, None
    down.after_uids = {"up": "00000001"}
    put(made, down)
    return made


def page(client: Client) -> str:
    """Return the page of `down` as it is served."""
    sent = {"query_string": b"", "headers": [], "state": {"caller": ANONYMOUS}}
    scope = {"type": "http", "path_params": {"job": "down"}, **sent}
    shown = bytes(_PageRoutes(StateCache(client), None).job(Request(scope)).body).decode()
    return re.sub("</?code[^>]*>", "`", shown)


def explained(client: Client) -> str:
    """Return the words of the command line."""
    down = client.status("down")
    return explain_job(down, client.explain_context(down, client.job_facts(), time.time(), None))


def up(phase: JobPhase, *, uid: str = "00000001") -> JobState:
    """Return the job that `down` waits for."""
    made = ended_job("up", 1, uid=uid)
    made.phase = phase
    return made


@pytest.mark.parametrize(
    ("phase", "archived", "said"),
    [
        ("running", False, "waiting for job up (running)"),
        ("succeeded", False, "not managed: no manager is running; start one with `air-executor manager`"),
        ("succeeded", True, "not managed: no manager is running; start one with `air-executor manager`"),
        ("failed", True, "waiting for job up (failed)"),
    ],
)
def test_a_job_that_is_waited_for(client: Client, phase: JobPhase, archived: bool, said: str) -> None:  # noqa: FBT001
    """One that is archived still exists, and nothing waits for one that succeeded."""
    put(client, up(phase))
    if archived:
        client.jobs.archive(up(phase))
    assert explained(client) == f"job down is {said}"
    assert f"{said[0].upper()}{said[1:]}" in page(client)


def test_a_job_that_no_longer_exists(client: Client) -> None:
    """Deleted, or another one by the same name."""
    for _ in range(2):
        assert explained(client) == "job down is waiting for job up, which no longer exists"
        assert "Waiting for job up, which no longer exists" in page(client)
        put(client, up("succeeded", uid="00000009"))


def test_a_job_that_cannot_be_read(client: Client) -> None:
    """It is not taken for gone: in its place, and in the archive."""
    put(client, up("succeeded"))
    state = Path(client.layout.state("up"))
    whole = state.read_bytes()
    state.write_bytes(b"{")
    assert explained(client) == "job down is waiting for job up (unreadable)"
    assert "Waiting for job up (unreadable)" in page(client)
    state.write_bytes(re.sub(rb'"format": \d+', b'"format": 99', whole))
    client.jobs.archive(up("succeeded"))
    assert explained(client) == "job down is waiting for job up (unreadable)"


def test_explaining_needs_no_settings(client: Client) -> None:
    """Without them limits are unknown."""
    down = client.status("down")
    settings = Settings(state_dir=client.layout.root, max_runners=3)
    context = client.explain_context(down, client.job_facts(), 1.0, settings)
    assert (context.max_runners, context.pools, context.running) == (3, {}, 0)
    assert client.explain_context(down, (), 1.0, None).max_runners is None


def test_parent_and_child_are_linked(client: Client) -> None:
    """The page of a job leads to the job whose run submitted it, and to those that its runs have submitted."""
    down = client.status("down")
    client.jobs.remove("down")
    down.submitted_by = "00000008-1"
    child = ended_job("child.of-it", 1, uid="00000009")
    child.submitted_by = f"{down.uid}-1"
    for job in (ended_job("parent.of-it", 1, uid="00000008"), down, child):
        put(client, job)
    shown = page(client)
    assert '<dt>Submitted by</dt><dd><a href="/jobs/parent.of-it">parent.of-it</a>' in shown
    assert '<dt>Child jobs</dt><dd><a href="/jobs/child.of-it">child.of-it</a>' in shown


def test_a_kept_runner_is_explained_and_can_be_removed(client: Client) -> None:
    """The page of its task says until when it stays, with the commands, and has a button."""
    job = ended_job("bad", 1, uid="00000003")
    task = next(iter(job.tasks))
    job.kept[task] = KeptRunner(1, 0, time.time(), 4e9, "docker", "air-bad")
    put(client, job)
    sent = {"query_string": b"", "headers": [], "state": {"caller": ANONYMOUS}}
    request = Request({"type": "http", "path_params": {"job": "bad", "task": task}, **sent})
    shown = bytes(_PageRoutes(StateCache(client), None).task(request).body).decode()
    text = re.sub("<[^>]*>", "", shown)
    assert "its container air-bad is kept until 2096-10-02T07:06:40.000Z: look into it with " in text
    assert (
        f"air-executor shell bad {task} or docker exec -it air-bad sh; remove it with air-executor cancel bad {task}"
        in text
    )
    assert "Remove the kept runner" in text

"""How a job is followed: what is said while its manager is away, or its volume."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor.airflow import job_follower
from air_executor.airflow.attach import ref_of
from air_executor.airflow.job_follower import JobFollower
from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.errors import NotFoundError, StoreError
from air_executor.model.state import JobState
from air_executor.store.presence import Presence
from tests.cli.test_status import create, ended


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Return an empty state directory."""
    return Client(tmp_path / "state")


def submit(client: Client) -> JobState:
    """Return a job that waits."""
    return client.submit(parse_job({"id": "j", "tasks": [{"command": "true"}]}, "job"))


def test_a_manager_that_goes_and_comes(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once each time; where nobody can tell, nothing is said."""
    said: list[str] = []
    follower = JobFollower(client, ref_of(submit(client)), said.append, 1.0)
    monkeypatch.setattr(job_follower, "CHECK_SECONDS", 0.0)
    for running in (True, False, False, True, None, False):
        monkeypatch.setattr(job_follower, "read_presence", lambda _, running=running: Presence(running, {}))
        assert isinstance(follower.step(), float)
    assert [line.split(" manager")[0] for line in said] == ["No", "A", "No"]


def test_a_volume_that_refuses_is_waited_for(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first look on, for five minutes; what it hides meanwhile is not taken for an end."""
    job = submit(client)
    said: list[str] = []
    now = [0.0]
    monkeypatch.setattr("air_executor.airflow.job_follower.time.monotonic", lambda: now[0])

    def refuse(_: str) -> JobState:
        raise StoreError("input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(client, "status", refuse)
        follower = JobFollower(client, ref_of(job), said.append, 1.0)
        assert follower.step() == 1.0
        now[0] = job_follower.PATIENCE - 1
        assert follower.step() == 1.0
        assert said == ["The job goes on, but cannot be looked at now: input/output error"]
        now[0] = job_follower.PATIENCE + 1
        with pytest.raises(StoreError):
            follower.step()
    assert isinstance(follower.step(), float)


def test_another_of_its_name_is_not_meant(client: Client) -> None:
    """Who follows a job that was removed is not given the next one of its id."""
    create(client, "j", ended("a"))
    old = ref_of(client.status("j"))._replace(uid="0badbeef")
    with pytest.raises(NotFoundError, match="another of its name"):
        JobFollower(client, old, print, 1.0).step()


def test_pauses_grow_to_the_longest(client: Client) -> None:
    """A job that has just begun is looked at often; whole seconds may be given as such."""
    follower = JobFollower(client, ref_of(submit(client)), print, 1)
    found = [follower.step() for _ in range(20)]
    steps = [step for step in found if isinstance(step, float)]
    assert steps == found
    assert steps == sorted(steps)
    assert (steps[0] < 0.1, steps[-1]) == (True, 1.0)


def test_an_ended_job_is_the_answer(client: Client) -> None:
    """The last step returns how it ended."""
    create(client, "j", ended("a"))
    found = JobFollower(client, ref_of(client.status("j")), print, 1.0).step()
    assert isinstance(found, JobState)
    assert found.ended


def test_much_is_shown_a_little_at_a_time(client: Client) -> None:
    """One step shows some lines, the next the next; the end is told when all were shown."""
    create(client, "j", ended("a"))
    printed = [f"line {number}" for number in range(2 * job_follower.MOST_LINES + 1)]
    log = client.log("j", "a", 1)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join([*printed, ""]))
    said: list[str] = []
    follower = JobFollower(client, ref_of(client.status("j")), said.append, 1.0)
    assert (follower.step(), len(said)) == (0.0, job_follower.MOST_LINES)
    assert (follower.step(), len(said)) == (0.0, 2 * job_follower.MOST_LINES)
    assert isinstance(follower.step(), JobState)
    assert said == [f"a | {line}" for line in printed]

"""Following a job: without a manager, without a readable volume, with much output."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor.airflow import job_follower, notes
from air_executor.airflow.attach import ref_of
from air_executor.airflow.job_follower import JobFollower
from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.errors import NotFoundError, StoreError
from air_executor.model.state import JobState
from air_executor.store import codec
from air_executor.store.presence import Presence
from tests.cli.made_jobs import create, ended


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Return an empty state directory."""
    return Client(tmp_path / "state")


def submit(client: Client) -> JobState:
    """Return a job that was not started."""
    return client.submit(parse_job({"id": "j", "tasks": [{"command": "true"}]}, "job"))


def test_manager_stops_and_starts(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change is shown once; if it is unknown whether a manager is running, nothing is shown."""
    shown: list[str] = []
    follower = JobFollower(client, ref_of(submit(client)), shown.append, 1.0)
    monkeypatch.setattr(job_follower, "MANAGER_CHECK_INTERVAL", 0.0)
    for running in (True, False, False, True, None, False):
        monkeypatch.setattr(job_follower, "read_presence", lambda _, running=running: Presence(running, {}))
        assert isinstance(follower.step(), float)
    assert [line.split(" manager")[0] for line in shown] == ["No", "A", "No"]


def test_a_question_is_shown_once(client: Client) -> None:
    """With how it is answered; again where the task asks again."""
    job = client.submit(parse_job({"id": "j", "tasks": [{"id": "ok", "approve": "Deploy\nnow?"}]}, "job"))
    shown: list[str] = []
    follower = JobFollower(client, ref_of(job), shown.append, 1.0)
    for ready_at in (None, 1.0, 1.0, None, 2.0):
        job.tasks["ok"].ready_at = ready_at
        job.version += 1
        Path(client.layout.state("j")).write_bytes(codec.dump_job(job))
        assert isinstance(follower.step(), float)
    assert [line.partition(":")[0] for line in shown] == ['Task ok asks "Deploy now?"'] * 2
    assert "air-executor approve j ok" in shown[0]


def test_unreadable_volume_is_waited_for(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first step on, for five minutes; an unreadable job does not count as ended."""
    job = submit(client)
    shown: list[str] = []
    now = [0.0]
    monkeypatch.setattr("air_executor.airflow.job_follower.time.monotonic", lambda: now[0])

    def refuse(_: str) -> JobState:
        raise StoreError("input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(client, "status", refuse)
        follower = JobFollower(client, ref_of(job), shown.append, 1.0)
        assert follower.step() == 1.0
        now[0] = job_follower.STORE_TIMEOUT - 1
        assert follower.step() == 1.0
        assert shown == ["The state directory cannot be read now, the job continues: input/output error"]
        now[0] = job_follower.STORE_TIMEOUT + 1
        with pytest.raises(StoreError):
            follower.step()
    assert isinstance(follower.step(), float)


def test_log_in_use_is_waited_for(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was paused while it showed a line does not block others; an ended job is returned in the end."""
    create(client, "j", ended("a"))
    log = client.log("j", "a", 1)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("one\n")
    monkeypatch.setattr(notes, "LOCK_TIMEOUT", 0.0)
    shown: list[str] = []
    job = ref_of(client.status("j"))
    with notes.notes_on(client, job).log_positions() as held:
        assert held is not None
        follower = JobFollower(client, job, shown.append, 1.0)
        assert [follower.step(), follower.step()] == [1.0, 1.0]
        monkeypatch.setattr(job_follower, "STORE_TIMEOUT", 0.0)
        assert isinstance(follower.step(), JobState)
    assert [line.split(":")[0] for line in shown] == [
        "Another process is showing the output of this job",
        "The output was not shown to its end; see",
    ]
    shown.clear()
    assert isinstance(JobFollower(client, job, shown.append, 1.0).step(), JobState)
    assert shown == ["a | one"]


def test_reused_id_is_not_followed(client: Client) -> None:
    """A follower of a removed job does not get the next job with that id."""
    create(client, "j", ended("a"))
    old = ref_of(client.status("j"))._replace(uid="0badbeef")
    with pytest.raises(NotFoundError, match="another job has its id"):
        JobFollower(client, old, print, 1.0).step()


def test_pauses_grow(client: Client) -> None:
    """A new job is polled often; the interval may be an integer."""
    follower = JobFollower(client, ref_of(submit(client)), print, 1)
    found = [follower.step() for _ in range(20)]
    steps = [step for step in found if isinstance(step, float)]
    assert steps == found
    assert steps == sorted(steps)
    assert (steps[0] < 0.1, steps[-1]) == (True, 1.0)


def test_ended_job_is_returned(client: Client) -> None:
    """The last step returns the final state."""
    create(client, "j", ended("a"))
    found = JobFollower(client, ref_of(client.status("j")), print, 1.0).step()
    assert isinstance(found, JobState)
    assert found.ended


def test_much_output_is_shown_in_steps(client: Client) -> None:
    """Each step shows a limited number of lines; the final state is returned after all lines."""
    create(client, "j", ended("a"))
    printed = [f"line {number}" for number in range(2 * job_follower.LINES_PER_STEP + 1)]
    log = client.log("j", "a", 1)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join([*printed, ""]))
    shown: list[str] = []
    follower = JobFollower(client, ref_of(client.status("j")), shown.append, 1.0)
    assert (follower.step(), len(shown)) == (0.0, job_follower.LINES_PER_STEP)
    assert (follower.step(), len(shown)) == (0.0, 2 * job_follower.LINES_PER_STEP)
    assert isinstance(follower.step(), JobState)
    assert shown == [f"a | {line}" for line in printed]

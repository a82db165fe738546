"""Which job belongs to a task instance, whatever became of the one before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from air_executor.airflow.attach import Instance, attach_or_submit, close
from air_executor.client import Client
from air_executor.core.spec import parse_job
from air_executor.core.state import JobState
from air_executor.store.codec import dump_job

INSTANCE = Instance("dag", "run", "task", -1)
JOB = parse_job({"id": "airflow", "tasks": [{"command": "true"}]}, "job")


def take(client: Client) -> tuple[JobState, bool]:
    """Attach or submit for the same task instance."""
    return attach_or_submit(client, JOB, INSTANCE)


def end(client: Client, state: JobState, phase: str) -> None:
    """Write the job's state as if a manager had brought it to this end."""
    state.phase = phase
    Path(client.layout.state(state.id)).write_bytes(dump_job(state))


def test_the_next_try_attaches(tmp_path: Path) -> None:
    """A try that finds the job at work submits nothing."""
    client = Client(tmp_path / "state")
    first, attached = take(client)
    assert not attached
    again, attached = take(client)
    assert attached
    assert (first.id, first.uid) == (again.id, again.uid)


def test_of_many_at_once_one_submits(tmp_path: Path) -> None:
    """However many ask at the same time, there is one job."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: take(Client(tmp_path / "state")), range(40)))
    assert len({state.uid for state, _ in found}) == 1
    assert [attached for _, attached in found].count(False) == 1


@pytest.mark.parametrize(("phase", "generation"), [("succeeded", 1), ("failed", 2), ("cancelled", 2)])
def test_what_ended_decides(tmp_path: Path, phase: str, generation: int) -> None:
    """A success that nobody was told is delivered; what failed or was cancelled is followed by the next generation."""
    client = Client(tmp_path / "state")
    end(client, take(client)[0], phase)
    state, attached = take(client)
    assert state.id == INSTANCE.job_id(generation)
    assert attached == (generation == 1)


def test_a_delivered_success_is_not_delivered_again(tmp_path: Path) -> None:
    """Who clears a task that succeeded wants it run anew."""
    client = Client(tmp_path / "state")
    first, _ = take(client)
    end(client, first, "succeeded")
    close(client, first)
    assert take(client)[0].id.endswith("-2")


def test_the_next_generation_waits_for_the_last(tmp_path: Path) -> None:
    """A job that was killed but is still at work is not joined by another."""
    client = Client(tmp_path / "state")
    first, _ = take(client)
    close(client, first)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(take, client)
        with pytest.raises(TimeoutError):
            following.result(timeout=0.2)
        end(client, first, "cancelled")
        assert following.result(timeout=10)[0].id.endswith("-2")


def test_instances_have_jobs_of_their_own() -> None:
    """Mapped tasks and other runs do not share a job."""
    others = (INSTANCE._replace(map_index=0), INSTANCE._replace(run="other"), INSTANCE._replace(task="other"))
    assert len({instance.job_id(1) for instance in (INSTANCE, *others)}) == 4

"""The retention of a name: its ended runs beyond it are archived by the manager itself, a little at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.base import RunnerStatus
from air_executor.client import Client
from air_executor.errors import StoreError
from air_executor.manager import retention_keeper
from air_executor.model.job import Job, RunRetention, Task
from air_executor.store.jobs import Jobs
from tests.manager.rig import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A state directory with a manager."""
    made = World(tmp_path / "project")
    made.start()
    yield made
    if made.alive:
        made.crash()


def run(world: World, code: int = 0, name: str = "n", **rule: int) -> str:
    """Run a definition with this retention once and return the job's id."""
    retention = RunRetention(**rule) if rule else None
    job = Client(world.layout.root).submit(Job(name=name, tasks=[Task(id="work", command="x")], retention=retention))
    world.do(f"{job.id}/work", code=code)
    world.clock.pass_time(1)
    world.cycle()
    return job.id


def left(world: World) -> list[str]:
    """Return the jobs that are not archived."""
    return sorted(world.jobs.ids())


def test_by_outcome(world: World) -> None:
    """The newest of each outcome stay; the others are in the archive, and are still found."""
    for code in (0, 1, 0, 0, 1):
        run(world, code, succeeded=2, failed=1)
    assert left(world) == ["n-3", "n-4", "n-5"]
    client = Client(world.layout.root)
    assert [one.id for one in client.named_runs.newest_first("n")] == ["n-5", "n-4", "n-3", "n-2", "n-1"]
    assert client.status("n-1").phase == "succeeded"


def test_by_age(world: World) -> None:
    """What ended longer ago goes by itself, but for the newest run."""
    for _ in range(3):
        run(world, age=3600)
    assert left(world) == ["n-1", "n-2", "n-3"]
    ended = world.job("n-1").finished_at or 0.0
    world.clock.pass_time(ended + 3599 - world.clock.wall())
    world.cycle(2)
    assert left(world) == ["n-1", "n-2", "n-3"]
    world.clock.pass_time(1)
    world.cycle(2)
    assert left(world) == ["n-2", "n-3"]
    world.clock.pass_time(7200)
    world.cycle(2)
    assert left(world) == ["n-3"]


def test_the_newest_run_decides(world: World) -> None:
    """An edited definition counts from its next run on, also for the runs before."""
    for _ in range(4):
        run(world)
    assert len(left(world)) == 4
    run(world, succeeded=2)
    assert left(world) == ["n-4", "n-5"]
    run(world)
    run(world)
    assert left(world) == ["n-4", "n-5", "n-6", "n-7"]


def test_the_newest_run_always_stays(world: World) -> None:
    """A name has a state, whatever its retention."""
    run(world, 1, failed=0, succeeded=0)
    run(world, 0, failed=0, succeeded=0)
    assert left(world) == ["n-2"]


@pytest.mark.parametrize("restarts", [False, True])
def test_what_an_unfinished_job_names_stays(world: World, restarts: bool) -> None:  # noqa: FBT001
    """Until that job has ended."""
    first = run(world, succeeded=1)
    world.submit("later", "work", after=[first])
    world.cycle()
    if restarts:
        world.restart()
    run(world, succeeded=1)
    assert left(world) == ["later", "n-1", "n-2"]
    world.do("later/work")
    run(world, succeeded=1)
    assert left(world) == ["later", "n-3"]


def test_a_reopened_run_stays(world: World) -> None:
    """It is not at its end."""
    run(world, 1, failed=1)
    world.asked("retry", "n-1")
    run(world, 1, failed=1)
    run(world, 1, failed=1)
    assert left(world) == ["n-1", "n-3"]
    world.do("n-1/work", code=1)
    world.cycle()
    assert left(world) == ["n-1"]  # the last one to end


def test_a_run_with_a_live_runner_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is moved from under a process."""
    run(world, succeeded=1)
    slot = next(iter(world.begun.values())).slot
    open_runs = world.manager.open_runs
    observe = open_runs.observe

    def sees_it() -> None:
        observe()
        open_runs.observed = {**(open_runs.observed or {}), slot: RunnerStatus("0badcafe-1", alive=True)}

    monkeypatch.setattr(open_runs, "observe", sees_it)
    run(world, succeeded=1)
    assert left(world) == ["n-1", "n-2"]
    monkeypatch.undo()
    world.clock.pass_time(retention_keeper.AGAIN_AFTER)
    world.cycle(2)
    assert left(world) == ["n-2"]


def test_after_a_restart(world: World) -> None:
    """Of ended runs a start reads the heads alone, and they say enough."""
    for _ in range(3):
        run(world)
    run(world, succeeded=4)
    world.stop()
    world.start()
    run(world, succeeded=2)
    assert left(world) == ["n-4", "n-5"]


def test_names_and_jobs_without_one_are_apart(world: World) -> None:
    """A job whose id looks like a run's is none."""
    world.submit("n-7", "work")
    world.do("n-7/work")
    for _ in range(3):
        run(world, name="m", succeeded=1)
    run(world, succeeded=1)
    assert left(world) == ["m-3", "n-7", "n-8"]


def test_bounded_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds, a cycle archives what it has time for, and the manager wakes for the rest."""
    for _ in range(20):
        run(world)
    taken: list[str] = []
    archive = Jobs.archive

    def slow(jobs: Jobs, job: Any) -> str:  # noqa: ANN401 - a state
        world.clock.pass_time(retention_keeper.SLICE / 2)
        taken.append(job.id)
        return archive(jobs, job)

    monkeypatch.setattr(Jobs, "archive", slow)
    run(world, succeeded=1)
    counts = []
    for _ in range(15):
        before = len(taken)
        world.cycle()
        counts.append(len(taken) - before)
        due = world.manager.retention_keeper.due_in()  # type: ignore[union-attr]
        assert due is None or due < retention_keeper.REST + 0.01
        world.clock.pass_time(retention_keeper.REST)
    assert max(counts) <= 3
    assert len(taken) == 20
    assert left(world) == ["n-21"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_archiving(world: World, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """The next manager goes on; no run is in two places, or in none."""
    run(world, succeeded=2)
    run(world, succeeded=2)
    archive = Jobs.archive

    def die(jobs: Jobs, job: Any) -> str:  # noqa: ANN401 - a state
        if when == "after":
            archive(jobs, job)
        raise KeyboardInterrupt

    monkeypatch.setattr(Jobs, "archive", die)
    with pytest.raises(KeyboardInterrupt):
        run(world, succeeded=1)
    monkeypatch.undo()
    world.restart()
    world.do("n-3/work")
    world.clock.pass_time(1)
    world.cycle(2)
    assert left(world) == ["n-3"]
    assert len(os.listdir(world.layout.archive)) == 2


def test_a_volume_that_refuses(world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The manager goes on and tries again later."""
    archive = Jobs.archive

    def refuse(*_: object) -> str:
        msg = "the volume is full"
        raise StoreError(msg)

    monkeypatch.setattr(Jobs, "archive", refuse)
    run(world, succeeded=1)
    run(world, succeeded=1)
    assert left(world) == ["n-1", "n-2"]
    assert "n-1 cannot be archived: the volume is full" in caplog.text
    monkeypatch.setattr(Jobs, "archive", archive)
    world.clock.pass_time(retention_keeper.AGAIN_AFTER + 1)
    world.cycle(2)
    assert left(world) == ["n-2"]


def test_someone_else_took_it(world: World) -> None:
    """By hand, or by `prune`: it is forgotten."""
    run(world)
    run(world)
    world.jobs.remove("n-1")
    run(world, succeeded=1)
    assert left(world) == ["n-3"]
    assert "n-1" not in world.manager.state.index.ended

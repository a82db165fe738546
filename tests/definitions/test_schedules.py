"""Schedules: applied, fired exactly once whatever happens, paused, followed from a folder, backfilled."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.errors import StoreError
from air_executor.model.names import scheduled_id, scheduled_time
from air_executor.store.jobs import Jobs
from air_executor.store.schedule_file import schedule_from
from air_executor.store.schedules import Schedules
from tests.cli.conftest import Outcome
from tests.manager.rig import World

Air = Callable[..., Outcome]
TICK = "name: tick\nschedule: {{every: 60{more}}}\ntasks: [{{command: run it}}]\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A state directory at a full minute."""
    made = World(tmp_path / "project")
    made.clock.set_wall(-(made.clock.wall() % 60))
    made.jobs.prepare()
    return made


def apply(world: World, text: str = TICK.format(more="")) -> None:
    """Apply a job file as the command does."""
    path = Path(world.layout.root).parent / "tick.yaml"
    path.write_text(text)
    schedules = Schedules(world.layout)
    found = schedule_from(str(path), world.clock.wall(), schedules)
    assert found is not None
    schedules.save(found)


def fired(world: World) -> list[float]:
    """Return the times that have a run, as minutes since the start."""
    times = [scheduled_time(name, "tick") for name in world.jobs.ids()]
    return sorted(time for time in times if time is not None)


def test_a_run_for_each_time(world: World) -> None:
    """With its scheduled time in the state and in the task's environment."""
    start = world.clock.wall()
    apply(world)
    world.start()
    for _ in range(130):
        world.cycle()
        world.clock.pass_time(1)
    assert fired(world) == [start + 60, start + 120]
    run = world.jobs.load(scheduled_id("tick", start + 60))
    assert (run.scheduled_at, run.spec.name) == (start + 60, "tick")
    launch = world.begun[f"{run.uid}-1"]
    assert launch.env["AIR_SCHEDULED_AT"].endswith(":00.000Z")


def test_the_manager_sleeps_until_the_next_time(world: World) -> None:
    """Not longer: a time is met within the moment, not within a poll."""
    apply(world)
    world.start(poll_interval=100.0)
    world.cycle()
    slept: list[float] = []
    world.manager._sleep = slept.append  # type: ignore[assignment, method-assign]
    world.manager.sleep()
    assert 59 <= slept[0] <= 60.1


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_what_passed_without_a_manager(world: World, catch_up: str) -> None:
    """By `catch_up`, in order."""
    start = world.clock.wall()
    apply(world, TICK.format(more=f", catch_up: {catch_up}"))
    world.clock.pass_time(290)
    world.start()
    world.cycle(3)
    expected = {"none": [240], "last": [240], "all": [60, 120, 180, 240]}[catch_up]
    assert fired(world) == [start + one for one in expected]
    world.clock.pass_time(10)
    world.cycle()
    assert fired(world) == [start + one for one in [*expected, 300]]


def test_each_time_fires_once_over_crashes_and_clock_steps(world: World) -> None:
    """Killed at any moment, with a clock that is set to and fro: one run for each time, none twice, none left out."""
    start = world.clock.wall()
    apply(world, TICK.format(more=", catch_up: all"))
    chance = random.Random(7)
    world.start()
    uids: dict[str, str] = {}
    furthest = start
    for _ in range(400):
        event = chance.random()
        if event < 0.1:
            world.restart()
        elif event < 0.15:
            world.clock.set_wall(chance.choice([-90, 90]))
        world.cycle()
        furthest = max(furthest, world.clock.wall())
        for name in world.jobs.ids():
            assert uids.setdefault(name, world.jobs.load(name).uid) == world.jobs.load(name).uid
        world.clock.pass_time(chance.choice([1, 7, 30]))
    minutes = int((furthest - start) // 60)
    assert fired(world) == [start + 60 * number for number in range(1, minutes + 1)]


@pytest.mark.parametrize("point", ["before", "after"])
def test_killed_at_the_firing(world: World, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Before or after the job exists, and before that is noted: the next manager makes it once."""
    start = world.clock.wall()
    apply(world)
    world.start()
    world.cycle()
    world.clock.pass_time(60)
    create = Jobs.create

    def die(jobs: Jobs, *arguments: object) -> None:
        if point == "after":
            create(jobs, *arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(Jobs, "create", die)
    with pytest.raises(KeyboardInterrupt):
        world.cycle()
    monkeypatch.undo()
    world.restart()
    world.cycle(2)
    assert fired(world) == [start + 60]


def test_a_full_disk_loses_no_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same time is tried again."""
    start = world.clock.wall()
    apply(world)
    world.start()
    world.cycle()
    world.clock.pass_time(60)

    def full(*_: object) -> None:
        raise StoreError("the volume is full")

    monkeypatch.setattr(Jobs, "create", full)
    world.cycle(2)
    assert fired(world) == []
    monkeypatch.undo()
    world.clock.pass_time(2)
    world.cycle()
    assert fired(world) == [start + 60]


def test_one_schedules_trouble_is_not_anothers(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A corrupt file, a definition that is wrong now, and a bug: each is said, and the other schedule fires."""
    start = world.clock.wall()
    apply(world)
    folder = Path(world.layout.schedules)
    (folder / "corrupt.json").write_text("{")
    wrong = json.loads((folder / "tick.json").read_text()) | {"name": "wrong"}
    wrong["definition"]["tasks"] = 3
    (folder / "wrong.json").write_text(json.dumps(wrong))
    (folder / "folder.json").mkdir()
    world.start()
    world.cycle()
    world.clock.pass_time(60)
    world.cycle()
    assert fired(world) == [start + 60]
    assert "corrupt.json" in caplog.text
    assert "schedule wrong: tasks: must be a list" in caplog.text


def test_forbid_leaves_a_time_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """While an earlier run is unfinished; said in the log."""
    start = world.clock.wall()
    apply(world, TICK.format(more=", concurrency: forbid"))
    world.start()
    world.cycle()
    world.clock.pass_time(60)
    world.cycle()
    world.clock.pass_time(60)
    world.cycle()
    assert fired(world) == [start + 60]
    assert "left out: tick-" in caplog.text


def test_a_manager_of_some_jobs_fires_nothing(world: World) -> None:
    """`run` manages its own job; another manager has the schedules."""
    apply(world)
    world.start(scope=set())
    world.clock.pass_time(60)
    world.cycle()
    assert fired(world) == []


def test_a_folder_of_job_files(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Applied when they change; a bad file is said and the last good one stays; gone with their file."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    schedules = Schedules(world.layout)
    (folder / "tick.yaml").write_text(TICK.format(more=""))
    (folder / "other.yaml").write_text("id: once\ntasks: [{command: x}]\n")
    world.start(jobs_dir=str(folder))
    world.cycle()
    assert schedules.names() == ["tick"]
    (folder / "tick.yaml").write_text(TICK.format(more=", cron: x"))
    world.clock.pass_time(2)
    world.cycle()
    assert "cannot be used together with cron" in caplog.text
    assert schedules.load("tick").definition["schedule"] == {"every": 60}
    (folder / "tick.yaml").unlink()
    world.clock.pass_time(2)
    world.cycle()
    assert schedules.names() == []


# The commands


@pytest.fixture
def nightly(project: Path) -> str:
    """The path of a definition with a schedule."""
    text = 'name: nightly\nparams: {DAY: {type: date, default: "{{ scheduled_date }}"}}\n'
    schedule = "schedule: {cron: 0 2 * * *, timezone: Europe/Paris, concurrency: forbid}\n"
    (project / "nightly.yaml").write_text(f"{text}{schedule}tasks: [{{command: 'echo $DAY $AIR_SCHEDULED_AT'}}]\n")
    return "nightly.yaml"


def test_apply_list_next_pause_resume_delete(air: Air, client: Client, nightly: str) -> None:
    """Each says what comes next."""
    done = air("schedule", "apply", nightly)
    assert done.out.startswith("nightly: next at ")
    assert "no manager is running" in done.err
    assert air("schedule", "apply", nightly).out == "nightly.yaml: unchanged\n"
    assert "0 2 * * * (Europe/Paris)" in air("schedule", "list").out
    assert "\nschedule nightly: next at " in f"\n{air('status').out}"
    assert air("explain", "nightly").out.startswith("schedule nightly: next at ")
    assert len(air("schedule", "next", "nightly", "-n", "3").out.splitlines()) == 3
    assert air("schedule", "pause", "nightly").out == "nightly: paused\n"
    listed = json.loads(air("schedule", "list", "--json").out)["schedules"][0]
    assert (listed["name"], listed["paused"], listed["next_at"] is None) == ("nightly", True, False)
    assert air("schedule", "resume", "nightly").out.startswith("nightly: next at ")
    assert air("schedule", "delete", "nightly").code == 0
    assert "no schedules" in air("schedule", "list").out
    assert client.jobs.ids() == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("aply", "x"), 2, "schedule aply: unknown; did you mean apply?"),
        (("apply",), 2, "schedule apply: give a job file"),
        (("apply", "nosuch.yaml"), 3, "nosuch.yaml: there is no such file"),
        (("next", "nosuch"), 3, "no schedule nosuch"),
        (("delete", "nosuch"), 3, "no schedule nosuch"),
    ],
)
def test_what_is_wrong_is_said(air: Air, project: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    """One clear line."""
    assert project.is_dir()
    done = air("schedule", *arguments)
    assert (done.code, message in done.err) == (code, True)


def test_a_wrong_file_applies_nothing(air: Air, client: Client, project: Path, nightly: str) -> None:
    """All files are checked before any is applied, values of parameters included."""
    (project / "bad.yaml").write_text("name: bad\nparams: {A: {}}\nschedule: {every: 60}\ntasks: [{command: x}]\n")
    done = air("schedule", "apply", nightly, "bad.yaml")
    assert done.code == 2
    assert "params.A: is missing" in done.err
    assert Schedules(client.layout).names() == []


def test_backfill(air: Air, client: Client, nightly: str) -> None:
    """The runs that would have been, each with its day, one after another; again: none."""
    air("schedule", "apply", nightly)
    dry = air("backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-03", "--dry-run")
    assert dry.out == "nightly-20260101-010000\nnightly-20260102-010000\nnightly-20260103-010000\n"
    assert client.jobs.ids() == []
    assert air("backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-03").out == dry.out
    second = client.status("nightly-20260102-010000")
    assert list(second.earlier_runs) == ["nightly-20260101-010000"]
    again = air("backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-03")
    assert (again.out, again.err) == ("", "3 times have a run already\n")
    for number in (1, 2):
        assert air("run", f"nightly-2026010{number}-010000").code == 0
    assert air("logs", "nightly-20260102-010000").out == "t1 | 2026-01-02 2026-01-02T01:00:00.000Z\n"
    assert client.status("nightly").id == "nightly-20260103-010000"


def test_backfill_several_at_once_newest_first(air: Air, client: Client, nightly: str) -> None:
    """Each waits for the one that is two before it."""
    air("schedule", "apply", nightly)
    flags = ("--max-active", "2", "--newest-first")
    assert air("backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-03", *flags).code == 0
    waits = {name: list(client.status(name).earlier_runs) for name in client.jobs.ids()}
    assert waits == {
        "nightly-20260101-010000": ["nightly-20260103-010000"],
        "nightly-20260102-010000": [],
        "nightly-20260103-010000": [],
    }

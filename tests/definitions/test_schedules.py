"""Schedules: applied, fired exactly once whatever happens, paused, followed from a folder, backfilled."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.errors import StoreError
from air_executor.model.definition import ScheduleFile
from air_executor.model.names import scheduled_id, scheduled_time
from air_executor.model.times import to_text
from air_executor.store.jobs import Jobs
from air_executor.store.presence import read_presence
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
    world.manager.wakeups.sleep = slept.append  # type: ignore[assignment, method-assign]
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


@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_was_a_year_ahead_silences_no_schedule(world: World, *, restarts: bool) -> None:
    """Once it is right again, each time gets its run; those that got one too early keep it."""
    start = world.clock.wall()
    apply(world)
    world.start()
    world.cycle()
    year = 365 * 86_400
    world.clock.set_wall(year)
    world.clock.pass_time(60)
    world.cycle(2)
    assert fired(world) == [start + year + 60]
    world.clock.set_wall(-year)
    if restarts:
        world.restart()
    world.cycle()
    for _ in range(2):
        world.clock.pass_time(60)
        world.cycle()
    assert fired(world) == [start + 120, start + 180, start + year + 60]


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_a_time_that_passes_without_a_manager_after_the_clock_was_ahead(world: World, catch_up: str) -> None:
    """It is caught up by its policy, though a later time had its run already."""
    start = world.clock.wall()
    apply(world, TICK.format(more=f", catch_up: {catch_up}"))
    world.start()
    world.cycle()
    world.clock.set_wall(7200)
    world.cycle(3)
    ahead = set(fired(world))
    world.clock.set_wall(-7200)
    world.restart()
    world.cycle()
    world.clock.pass_time(130)
    world.restart()
    world.cycle(3)
    expected = [] if catch_up == "all" else [start + 120]  # with `all`, both ran when the clock was ahead
    assert sorted(set(fired(world)) - ahead) == expected


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_a_jitter_longer_than_the_interval_loses_no_time(world: World, catch_up: str) -> None:
    """Runs begin in the order of their times."""
    start = world.clock.wall()
    apply(world, TICK.format(more=f", jitter: 1d, catch_up: {catch_up}"))
    world.start()
    for _ in range(600):
        world.cycle()
        world.clock.pass_time(1)
    assert fired(world)[:8] == [start + 60 * number for number in range(1, 9)]


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
    (folder / "once.yaml").write_text("id: once\ntasks: [{command: x}]\n")
    (folder / "other.yaml").write_text("name: other\nparams: {A: {}}\ntasks: [{command: x}]\n")
    world.start(jobs_dir=str(folder))
    world.cycle()
    assert schedules.names() == ["other", "tick"]
    (folder / "other.yaml").unlink()
    (folder / "tick.yaml").write_text(TICK.format(more=", cron: x"))
    world.until(lambda: read_presence(world.layout).problems != [])
    assert read_presence(world.layout).problems == [
        f"{folder}/tick.yaml: schedule.every: cannot be used together with cron (line 2, column 19)"
    ]
    assert "cannot be used together with cron" in caplog.text
    assert schedules.load("tick").definition["schedule"] == {"every": 60}
    (folder / "tick.yaml").write_text(TICK.format(more=", x: 1, y: 2"))
    two = re.compile(r"tick.yaml: 2 problems; schedule.x: .* \(line 2, column \d+\); schedule.y: [^|]*\)$")
    world.until(lambda: [bool(two.search(problem)) for problem in read_presence(world.layout).problems] == [True])
    (folder / "tick.yaml").unlink()
    world.clock.pass_time(2)
    world.cycle()
    assert read_presence(world.layout).problems == []
    assert schedules.names() == []


def test_what_is_passed_over_is_said(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once each: that there is no such folder yet, and that a file in it is a job to be submitted."""
    folder = tmp_path / "jobs"
    caplog.set_level("INFO")
    world.start(jobs_dir=str(folder))
    world.cycle()
    world.clock.pass_time(2)
    world.cycle()
    folder.mkdir()
    (folder / "once.yaml").write_text("id: once\ntasks: [{command: x}]\n")
    (folder / "tick.yaml").write_text(TICK.format(more=""))
    world.until(lambda: Schedules(world.layout).names() == ["tick"])
    world.clock.pass_time(2)
    world.cycle()
    assert [line for line in caplog.messages if str(folder) in line] == [
        f"AIR_JOBS_DIR: there is no folder {folder}; its job files are applied once it exists",
        f"{folder}/once.yaml is not applied: it has neither name nor schedule, so it is to be submitted",
    ]
    assert read_presence(world.layout).problems == []


def test_a_file_of_the_folder_that_holds_another_schedule(world: World, tmp_path: Path) -> None:
    """The schedule that it held before is deleted, also by the next manager; one that is wrong deletes nothing."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    schedules = Schedules(world.layout)
    text = TICK.format(more="")
    steps: list[tuple[str, list[str]]] = [
        (text, ["tick"]),
        (text.replace("tick", "tock"), ["tock"]),
        ("name: [", ["tock"]),
        ("id: tock\ntasks: [{command: x}]\n", []),
        (text, ["tick"]),
    ]
    world.start(jobs_dir=str(folder))
    for content, names in steps:
        (folder / "a.yaml").write_text(content)
        world.clock.pass_time(2)
        world.cycle()
        assert schedules.names() == names
    (folder / "a.yaml").write_text(text.replace("tick", "tock"))
    world.crash()
    world.start(jobs_dir=str(folder))
    world.cycle()
    assert schedules.names() == ["tock"]


def test_two_files_of_the_folder_with_one_name(world: World, tmp_path: Path) -> None:
    """The first one counts, and the second is said, until the first is gone."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    schedules = Schedules(world.layout)
    (folder / "a.yaml").write_text(TICK.format(more=""))
    (folder / "b.yaml").write_text(TICK.format(more=", jitter: 1"))
    world.start(jobs_dir=str(folder))
    world.cycle()
    assert schedules.load("tick").source == "a.yaml"
    assert "tick is the name in a.yaml, too" in read_presence(world.layout).problems[0]
    (folder / "a.yaml").unlink()
    for _ in range(2):
        world.clock.pass_time(2)
        world.cycle()
    assert schedules.load("tick").source == "b.yaml"
    assert read_presence(world.layout).problems == []


@pytest.mark.parametrize("kind", ["fifo", "folder", "large", "socket"])
def test_what_is_no_job_file_keeps_no_manager(world: World, tmp_path: Path, kind: str) -> None:
    """What would be waited for, or takes long to read, is said; the files beside it are applied."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    bad = folder / "a.yaml"
    match kind:
        case "fifo":
            os.mkfifo(bad)
        case "folder":
            bad.mkdir()
        case "large":
            bad.write_text(TICK.format(more="") + "#" * (129 << 10))
        case _:
            with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(folder):
                made.bind("a.yaml")
    (folder / "b.yaml").write_text(TICK.format(more=""))
    world.start(jobs_dir=str(folder))
    world.cycle()
    assert Schedules(world.layout).names() == ["tick"]
    assert f"{folder}/a.yaml" in read_presence(world.layout).problems[0]


def test_a_slow_volume_delays_no_schedule_of_a_folder(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are applied in later cycles fire in time, and a first look that took long makes no later one rare."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    for name in ("tick", "tock"):
        (folder / f"{name}.yaml").write_text(TICK.format(more="").replace("tick", name).replace("60", "20"))
    save = Schedules.save

    def slowly(schedules: Schedules, made: ScheduleFile) -> None:
        world.clock.pass_time(0.4)
        save(schedules, made)

    monkeypatch.setattr(Schedules, "save", slowly)
    world.start(jobs_dir=str(folder))
    for _ in range(3):
        world.cycle()
    world.clock.pass_time(20)
    world.cycle()
    assert sorted({name.partition("-")[0] for name in world.jobs.ids()}) == ["tick", "tock"]
    (folder / "tick.yaml").unlink()
    world.clock.pass_time(2)
    world.cycle()
    assert Schedules(world.layout).names() == ["tock"]


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
    for command in ("list", "next nightly"):
        assert "no manager is running, so no schedule starts a run" in air("schedule", *command.split()).err
    assert "so no schedule starts a run: start one with `air-executor manager`" in air("status").out
    air("submit", "waits", "--", "true")
    assert air("status").out.count("no manager is running: start one") == 1, "which holds for jobs and schedules"
    assert "so no schedule" not in air("status").out
    assert air("schedule", "apply", nightly).out == "nightly.yaml: unchanged\n"
    assert "0 2 * * * (Europe/Paris)" in air("schedule", "list").out
    assert "\nschedule nightly: next at " in f"\n{air('status').out}"
    assert air("explain", "nightly").out.startswith("schedule nightly: next at ")
    assert len(air("schedule", "next", "nightly", "-n", "3").out.splitlines()) == 3
    assert air("submit", nightly).code == 0
    for command in ("explain", "status"):
        assert "\nschedule nightly: next at " in air(command, "nightly").out
    assert air("schedule", "pause", "nightly").out == "nightly: paused\n"
    listed = json.loads(air("schedule", "list", "--json").out)["schedules"][0]
    assert (listed["name"], listed["paused"], listed["next_at"] is None) == ("nightly", True, False)
    assert air("schedule", "resume", "nightly").out.startswith("nightly: next at ")
    assert air("schedule", "delete", "nightly").code == 0
    assert "no schedules" in air("schedule", "list").out
    assert client.jobs.ids() == ["nightly-1", "waits"]


def test_a_definition_on_demand(air: Air, client: Client, project: Path) -> None:
    """Without a schedule it is kept, and run with the values that it asks for; it has no times."""
    text = "name: deploy\nparams: {WHERE: {choices: [eu, us]}, COUNT: {type: integer, min: 1}}\n"
    (project / "deploy.yaml").write_text(f"{text}tasks: [{{command: 'echo $WHERE'}}]\n")
    assert air("schedule", "apply", "deploy.yaml").out == "deploy: on demand: `air-executor schedule run deploy`\n"
    assert air("schedule", "apply", "deploy.yaml").out == "deploy.yaml: unchanged\n"
    assert air("schedule", "list").out.splitlines()[1] == "deploy    on demand  `air-executor schedule run deploy`"
    assert air("schedule", "list").err == "", "it has no times that a manager would have to keep"
    assert "deploy" not in air("status").out
    assert air("schedule", "next", "deploy").out == ""
    missing = air("schedule", "run", "deploy", "-p", "COUNT=2")
    assert (missing.code, "params.WHERE: is missing" in missing.err) == (2, True)
    assert air("schedule", "run", "deploy", "-p", "COUNT=2", "-p", "WHERE=us").out == "deploy-1\n"
    assert client.status("deploy-1").spec.params == {"WHERE": "us", "COUNT": 2}
    past = air("backfill", "deploy", "--from", "2026-01-01", "--to", "2026-01-02")
    assert (past.code, "deploy has no schedule" in past.err) == (2, True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("params: {N: {type: integer}, M: {typ: integer}}", "params.M.typ: "),
        ("params: {AIR_JOB_ID: {}}", "params.AIR_JOB_ID: is no name of a parameter"),
        ("schedule: {every: 60}\nparams: {N: {type: integer}}", "params.N: is missing"),
        ("timeuot: 3", "timeuot"),
    ],
)
def test_a_wrong_definition_is_not_kept(air: Air, client: Client, project: Path, fields: str, message: str) -> None:
    """Only what whoever runs it will give may be missing."""
    (project / "deploy.yaml").write_text(f"name: deploy\n{fields}\ntasks: [{{command: x}}]\n")
    done = air("schedule", "apply", "deploy.yaml")
    assert (done.code, message in done.err) == (2, True), done.err
    assert Schedules(client.layout).names() == []


def test_a_schedule_that_cannot_be_read_is_named(air: Air, client: Client, nightly: str) -> None:
    """As after a merge that git could not finish: it does not run, and the others do."""
    air("schedule", "apply", nightly)
    path = Path(client.layout.schedule("broken"))
    path.write_text("<<<<<<< HEAD")
    *_, named, other, _ = air("status").out.splitlines()
    assert named.startswith(f"schedule broken cannot run: {path}: is not JSON")
    assert other.startswith("schedule nightly: next at ")
    assert air("explain", "broken").out.startswith("schedule broken cannot run: ")


def test_a_run_now(air: Air, client: Client, nightly: str) -> None:
    """With values of the definition's parameters; when it comes by itself stays as it is."""
    air("schedule", "apply", nightly)
    before = air("schedule", "next", "nightly").out
    assert air("schedule", "run", "nightly", "-p", "DAY=2026-02-03").out == "nightly-1\n"
    assert client.status("nightly-1").spec.params == {"DAY": "2026-02-03"}
    assert client.status("nightly-1").scheduled_at is None
    assert (again := air("schedule", "run", "nightly")).code == 4
    assert "`concurrency: forbid`" in again.err
    assert air("schedule", "next", "nightly").out == before
    wrong = air("schedule", "run", "nightly", "-p", "DAY=soon")
    assert (wrong.code, "schedule nightly: params.DAY: must be a date" in wrong.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("aply", "x"), 2, "schedule aply: unknown; did you mean apply?"),
        (("apply",), 2, "schedule apply: give a job file"),
        (("apply", "nosuch.yaml"), 3, "nosuch.yaml: there is no such file"),
        (("next", "nosuch"), 3, "no schedule nosuch"),
        (("next", "nigthly"), 3, "did you mean nightly?"),
        (("delete", "nosuch"), 3, "no schedule nosuch"),
    ],
)
def test_what_is_wrong_is_said(air: Air, nightly: str, arguments: tuple[str, ...], code: int, message: str) -> None:
    """One clear line."""
    air("schedule", "apply", nightly)
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
    assert "no manager is running" not in dry.err
    done = air("backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-03")
    assert done.out == dry.out
    assert "Queued: no manager is running; they run when one starts (`air-executor manager`)" in done.err
    second = client.status("nightly-20260102-010000")
    assert list(second.earlier_runs) == ["nightly-20260101-010000"]
    again = air("backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-03")
    assert (again.out, again.err) == ("", "3 times have a run already\n")
    for number in (1, 2):
        assert air("run", f"nightly-2026010{number}-010000").code == 0
    assert air("logs", "nightly-20260102-010000").out == "_1 | 2026-01-02 2026-01-02T01:00:00.000Z\n"
    assert client.status("nightly").id == "nightly-20260103-010000"


def test_a_backfill_takes_no_time_from_the_schedule(air: Air, client: Client, nightly: str) -> None:
    """What has not come yet runs when it comes."""
    air("schedule", "apply", nightly)
    now = time.time()
    days = ("--from", to_text(now - 4 * 86_400)[:10], "--to", to_text(now + 4 * 86_400)[:10])
    assert len(air("backfill", "nightly", *days).out.splitlines()) in (4, 5)
    assert all(client.status(run).scheduled_at < now for run in client.jobs.ids())  # type: ignore[operator]
    later = air("backfill", "nightly", "--from", days[-1], "--to", days[-1])
    assert (later.out, later.err) == ("", "nightly has no time between these that has passed\n")


def test_a_backfill_is_cancelled_as_one(air: Air, client: Client, nightly: str) -> None:
    """All its unfinished runs, and nothing else; none starts because another one of them ends."""
    air("schedule", "apply", nightly)
    days = ("--from", "2026-01-01", "--to", "2026-01-04")
    air("backfill", "nightly", *days)
    air("schedule", "run", "nightly", "-p", "DAY=2026-02-01")
    assert air("run", "nightly-20260101-010000").code == 0
    done = air("backfill", "nightly", "--cancel")
    assert done.out == "nightly-20260104-010000\nnightly-20260103-010000\nnightly-20260102-010000\n"
    air("run", "nightly-20260102-010000")
    air("run", "nightly-20260103-010000")
    phases = [client.status(f"nightly-2026010{day}-010000").phase for day in (1, 2, 3)]
    assert phases == ["succeeded", "cancelled", "cancelled"]
    assert client.status("nightly-20260103-010000").started_at is None
    again = air("backfill", "nightly", *days)
    assert "2 of them did not succeed: --retry continues them" in again.err
    dry = air("backfill", "nightly", *days, "--retry", "--dry-run", "--json")
    wanted = ["nightly-20260102-010000", "nightly-20260103-010000"]
    assert json.loads(dry.out)["retried"] == wanted
    assert client.requests("nightly-20260102-010000") == []
    assert "those that did not succeed are retried: 2" in air("backfill", "nightly", *days, "--retry").err
    assert client.requests("nightly-20260102-010000") == ["retry nightly-20260102-010000"]
    assert air("run", "nightly-20260102-010000").code == 0


def test_a_run_of_a_backfill_is_late_from_its_submission(air: Air, client: Client, nightly: str, project: Path) -> None:
    """Its scheduled time has passed long ago."""
    with (project / nightly).open("a") as file:
        file.write("late_after: 1h\n")
    air("schedule", "apply", nightly)
    air("backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-01")
    run = client.status("nightly-20260101-010000")
    assert run.expect_by == run.submitted_at + 3600
    (summary,) = json.loads(air("status", "--json").out)["jobs"]
    assert summary["expect_by"] == to_text(run.expect_by)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "2026-01-02", "--to", "2026-01-01"), "to: 2026-01-01 is before 2026-01-02"),
        (("--from", "soon", "--to", "2026-01-01"), "from: must be a time with its zone"),
        (("--from", "2026-01-01"), "give --from and --to, or --cancel"),
        (("--from", "1970-01-01", "--to", "2026-01-01"), "more than 10000 times"),
    ],
)
def test_a_wrong_backfill_is_refused(air: Air, nightly: str, arguments: tuple[str, ...], message: str) -> None:
    """With what to give."""
    air("schedule", "apply", nightly)
    done = air("backfill", "nightly", *arguments)
    assert (done.code, message in done.err) == (2, True), done.err


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

"""What the next manager makes of runs that it did not start: another boot, another host, other clocks, other lives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from air_executor.backends.base import Launch, RunnerStatus
from air_executor.errors import ManagerHeldError, NotFoundError
from air_executor.manager.lease import FileLease
from air_executor.model.names import Host, Slot
from air_executor.model.state import Running
from air_executor.store import trees
from tests.fake_backend import FakeBackend, FakeRunner
from tests.manager import rig
from tests.manager.rig import HOST, World, leave, lose_lock


@pytest.fixture
def local(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose platform is this host: boot and host name mean something."""
    world.stop()
    monkeypatch.setattr(FakeBackend, "name", "local")
    world.start()
    return world


def test_a_run_of_an_earlier_boot_is_lost_whatever_its_files_say(local: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power failed: what the run left may be half of it, so it is run again."""
    local.submit("j", "a")
    local.cycle()
    leave(local.launch("j/a"), queue=[{"id": "b", "command": "x"}])
    local.crash()
    local.platform.runners.clear()
    monkeypatch.setattr(rig, "HOST", Host(HOST.name, "next-boot"))
    local.start()
    local.do("j/a")
    assert [attempt.reason for attempt in local.task("j", "a").attempts] == ["lost", "ok"]
    assert set(local.job("j").tasks) == {"a"}


def test_a_run_on_another_host_waits_for_an_operator(local: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That no process is seen here says nothing about there; `confirm-gone` does."""
    local.submit("j", "a")
    local.cycle()
    local.crash()
    local.platform.runners.clear()
    monkeypatch.setattr(rig, "HOST", Host("elsewhere", "its-boot"))
    local.start()
    for _ in range(10):
        local.cycle()
        local.clock.pass_time(60)
    assert not local.running()
    assert isinstance(local.task("j", "a").status, Running)
    assert local.asked("confirm-gone", "j") is None
    local.do("j/a")
    assert [attempt.reason for attempt in local.task("j", "a").attempts] == ["lost", "ok"]


def test_a_host_that_got_another_name_is_the_same_host(local: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one boot every process is seen under any name: a runner that is not there is gone."""
    local.submit("j", "a")
    local.cycle()
    local.crash()
    local.platform.runners.clear()
    monkeypatch.setattr(rig, "HOST", Host("renamed", HOST.boot))
    local.start()
    local.do("j/a")
    assert [attempt.reason for attempt in local.task("j", "a").attempts] == ["lost", "ok"]


@pytest.mark.parametrize(
    ("volume", "machine", "lost"),
    [("ext4", "m1", True), ("nfs4", "m1", False), (None, "m1", False), ("ext4", "m2", False), ("ext4", None, False)],
)
def test_a_machine_that_was_renamed_and_restarted_is_the_same_machine(
    local: World, monkeypatch: pytest.MonkeyPatch, volume: str | None, machine: str | None, *, lost: bool
) -> None:
    """Its id stays, and nothing outlives a boot; a copy of the machine may have that id, but not a local volume."""
    monkeypatch.setattr(rig, "HOST", HOST._replace(machine="m1"))
    local.restart()
    local.submit("j", "a")
    local.cycle()
    local.crash()
    local.platform.runners.clear()
    monkeypatch.setattr(rig, "HOST", Host("renamed", "next-boot", machine))
    monkeypatch.setattr("air_executor.store.probe.volume_kind", lambda _: volume)
    local.start()
    local.cycle(3)
    assert bool(local.task("j", "a").attempts) is lost


def test_a_run_of_another_backend_waits_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager with other settings cannot see its runner: it commits what that leaves, or waits for an operator."""
    world.submit("left", "a")
    world.submit("lost", "a")
    world.cycle()
    world.crash()
    left = world.launch("left/a")
    world.platform.runners.clear()
    monkeypatch.setattr(FakeBackend, "name", "other")
    world.start()
    for _ in range(10):
        world.cycle()
        world.clock.pass_time(60)
    assert not world.running()
    assert {type(world.task(job, "a").status) for job in ("left", "lost")} == {Running}
    leave(left)
    world.until(lambda: world.job("left").ended)
    assert world.job("left").phase == "succeeded"
    assert world.asked("confirm-gone", "lost") is None
    world.do("lost/a")
    assert [attempt.reason for attempt in world.task("lost", "a").attempts] == ["lost", "ok"]


def test_back_on_its_backend_a_run_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager of another backend came and went: the run's own one adopts it as if nothing had been."""
    world.submit("j", "a")
    world.cycle()
    world.crash()
    runners = dict(world.platform.runners)
    world.platform.runners.clear()
    with monkeypatch.context() as patch:
        patch.setattr(FakeBackend, "name", "other")
        world.start()
        world.cycle(3)
        world.stop()
    world.platform.runners.update(runners)
    world.start()
    world.do("j/a")
    assert [attempt.reason for attempt in world.task("j", "a").attempts] == ["ok"]


def make_earlier(world: World) -> Launch:
    """Make the only run of job `j` one that an earlier version has started: it had a record and a folder of its own."""
    launch = world.launch("j/a")
    world.stop()
    path = Path(world.layout.state("j"))
    state = path.read_text()
    record = json.loads(state)["tasks"][0]["run"]["origin"]
    path.write_text(state.replace(f',"origin":{json.dumps(record, separators=(",", ":"))}', ""))
    assert "origin" not in path.read_text()
    files = os.listdir(launch.out_dir)
    earlier = replace(launch, out_dir=f"{launch.out_dir}/out")
    os.mkdir(earlier.out_dir)
    for name in files:
        os.rename(f"{launch.out_dir}/{name}", f"{earlier.out_dir}/{name}")
    del record["spawned"]
    Path(launch.out_dir, "run.json").write_text(json.dumps({"run": launch.run, "job": "j", "task": "a", **record}))
    world.platform.runners[launch.slot].launch = earlier
    return earlier


def test_a_run_of_an_earlier_version_goes_on(world: World) -> None:
    """The manager was upgraded while it ran: it is adopted, with the time at which it was spawned."""
    world.submit("j", "a")
    world.cycle()
    earlier = make_earlier(world)
    record = Path(earlier.out_dir, "..", "run.json")
    began = record.stat().st_mtime
    os.utime(record, (began - 100, began - 100))
    world.start()
    world.cycle()
    assert world.spawned("j/a") == pytest.approx(began - 100, abs=0.001)
    world.exit("j/a", queue=[{"id": "b", "command": "x"}], result=7)
    world.do("j/b")
    assert world.task("j", "a").result == 7
    assert world.task("j", "a").attempts[0].runner_seconds >= 100


@pytest.mark.parametrize(("host", "reasons"), [(HOST.name, ["lost"]), ("elsewhere", [])])
def test_a_run_of_an_earlier_version_and_boot(
    local: World, monkeypatch: pytest.MonkeyPatch, host: str, reasons: list[str]
) -> None:
    """Its record says on which machine it was started."""
    local.submit("j", "a")
    local.cycle()
    make_earlier(local)
    local.platform.runners.clear()
    monkeypatch.setattr(rig, "HOST", Host(host, "next-boot"))
    local.start()
    local.cycle(2)
    assert [attempt.reason for attempt in local.task("j", "a").attempts] == reasons


def test_a_run_without_a_directory_is_nobodys(local: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone of the state on another machine: where nothing was left, it does not matter where it was started."""
    local.submit("j", "a")
    local.cycle()
    local.stop()
    local.platform.runners.clear()
    trees.remove_tree(local.layout.runs("j"))
    monkeypatch.setattr(rig, "HOST", Host("elsewhere", "its-boot"))
    local.start()
    local.do("j/a")
    assert [attempt.reason for attempt in local.task("j", "a").attempts] == ["requeue", "ok"]


def test_an_end_that_was_seen_late_is_the_runners_own(world: World) -> None:
    """The run ended while no manager looked: nobody is billed for the time until one did."""
    world.submit("j", "a")
    world.cycle()
    launch = world.launch("j/a")
    world.restart()
    spawned = world.spawned("j/a")
    world.crash()
    leave(launch)
    world.platform.end(launch.slot)
    os.utime(f"{launch.out_dir}/exit.json", (spawned + 7, spawned + 7))
    world.start()
    world.set_volume_time(spawned + 9000)
    world.until(lambda: world.job("j").ended)
    assert world.job("j").usage.runner_seconds == pytest.approx(7, abs=0.001)


def test_a_run_during_which_the_clock_was_set_is_flagged(world: World) -> None:
    """Its seconds are differences of wall times, so the ledger says that they are not to be trusted."""
    world.submit("j", "a", "b")
    world.cycle()
    world.clock.set_wall(-3600)
    world.do("j/a", "j/b")
    assert [world.task("j", name).attempts[0].clock_stepped for name in "ab"] == [True, False]


def test_a_run_whose_watchdog_does_not_bite_is_stopped(world: World) -> None:
    """Past timeout and grace the manager stops the run itself, and the reason is `timeout`."""
    world.submit("j", {"id": "a", "timeout": 10, "grace": 2})
    world.cycle()
    world.clock.pass_time(11)
    world.cycle(2)
    assert set(world.running()) == {"j/a"}, "its own watchdog comes first"
    world.until(lambda: world.job("j").ended, step=2)
    assert [attempt.reason for attempt in world.task("j", "a").attempts] == ["timeout"]


def test_a_runner_that_does_not_go_after_its_outcome_is_helped(world: World) -> None:
    """The outcome is complete and its runner lives on: it is removed after a moment, then the run is committed."""
    world.submit("j", "a")
    world.cycle()
    leave(world.launch("j/a"))
    world.cycle()
    assert set(world.running()) == {"j/a"}
    world.until(lambda: world.job("j").ended)
    assert world.job("j").phase == "succeeded"
    assert not world.running()


def test_a_deadline_restarts_in_a_clone(world: World) -> None:
    """The hours between the commit and the clone are nobody's: the deadline counts from the first start there."""
    world.submit("j", "a", deadline=60)
    world.cycle(2)
    world.stop()
    world.platform.runners.clear()
    trees.remove_tree(world.layout.runs("j"))
    world.clock.pass_time(3600)
    world.start()
    world.do("j/a")
    assert (world.job("j").phase, world.job("j").reason) == ("succeeded", "ok")


def test_orphans_take_room(world: World) -> None:
    """Four runners are allowed and three that no job knows are still there: one task starts."""
    world.submit("j", *"abcdef", max_runners=6)
    world.cycle()
    for slot in list(world.running().values())[:3]:
        old = world.platform.runners.pop(slot).launch
        leave(old)
        gone = Slot("gone", slot.number)
        world.platform.runners[gone] = FakeRunner(old, RunnerStatus(old.run, alive=True))
    world.platform.slow_removal = True
    world.cycle(4)
    assert len(world.platform.runners) == 4
    world.platform.settle()
    world.until(lambda: len(world.running()) == 3, step=1)


@pytest.mark.parametrize(("part", "moment"), [("open_runs", "observe"), ("supervisor", "reconcile")])
def test_replaced_in_the_middle_of_a_cycle(
    world: World, monkeypatch: pytest.MonkeyPatch, part: str, moment: str
) -> None:
    """Paused between its look at the lock and its journal, replaced, continued: it decides nothing and leaves."""
    world.submit("j", "a", "b")
    world.cycle()
    old = world.manager
    world.exit("j/a")

    def then(real: Callable[..., object]) -> Callable[..., object]:
        def replaced(*args: object, **names: object) -> object:
            found = real(*args, **names)
            os.unlink(world.layout.lock)
            world.let_go()
            world.start()
            return found

        return replaced

    step = getattr(old, part)
    monkeypatch.setattr(step, moment, then(getattr(step, moment)))
    with pytest.raises((ManagerHeldError, NotFoundError)):  # its lock, or its place to build, is gone
        old.cycle()
    assert not world.overlaps
    world.do("j/b")
    assert [launch.task for launch in world.begun.values()] == ["a", "b"]
    assert Path(world.layout.runs("j")).is_dir()
    assert world.job("j").usage.runs == 2


def test_replaced_by_one_that_has_only_the_lock_yet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other has taken the lock and nothing else: journal and place to build are whole, and yet nothing starts."""
    world.submit("j", "a", "b")
    world.cycle()
    world.exit("j/a")
    other = FileLease(world.layout, HOST)
    real = FakeBackend.observe

    def replaced(backend: FakeBackend) -> Mapping[Slot, RunnerStatus]:
        found = real(backend)
        os.unlink(world.layout.lock)
        other.acquire()
        return found

    monkeypatch.setattr(FakeBackend, "observe", replaced)
    with pytest.raises(ManagerHeldError):
        world.manager.cycle()
    lose_lock(other)
    assert set(world.running()) == set()
    assert [launch.task for launch in world.begun.values()] == ["a"]

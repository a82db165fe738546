"""A volume that refuses: nothing is lost, nothing unjournaled is acted on, and all goes on when it works again."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.errors import StoreError
from air_executor.manager import held_directory
from air_executor.store import journal
from tests.crash import faults
from tests.manager import rig


@pytest.fixture
def world(quick_path: Path) -> Iterator[rig.World]:
    """A manager over an empty state directory and a platform in memory."""
    with rig.world(quick_path, poll_interval=0.01) as made:  # so long it really sleeps after a refusal
        yield made


class Volume:
    """Refuses chosen calls for as long as it is told to."""

    def __init__(self) -> None:
        self.broken: dict[str, int] = {}
        """Which calls fail, and with what."""
        self.where = ""
        """Only on paths that contain this; calls on descriptors have none."""
        self.refused = 0

    def trip(self, name: str, args: tuple[Any, ...]) -> None:
        """Fail the call if it is one of those."""
        if name in self.broken and (not isinstance(args[0], str) or any(self.where in str(arg) for arg in args[:2])):
            self.refused += 1
            raise OSError(self.broken[name], "injected", str(args[0]))

    def heal(self) -> None:
        """Work again; there must have been something to heal."""
        assert self.refused, "nothing was refused, so nothing was tested"
        self.broken = {}


@pytest.fixture
def volume(world: rig.World, monkeypatch: pytest.MonkeyPatch) -> Volume:
    """The volume of a started manager."""
    made = Volume()
    faults.install(made.trip, monkeypatch.setattr).writes_whole = False
    return made


FULL = {"write": errno.ENOSPC, "open": errno.ENOSPC, "mkdir": errno.ENOSPC}
FAULTS: dict[str, dict[str, int]] = {
    "full": FULL,
    "read-only": dict.fromkeys(("write", "open", "mkdir", "rename", "unlink", "fsync", "fdatasync"), errno.EROFS),
    "rename": {"rename": errno.EIO},
    "fsync": {"fsync": errno.EIO, "fdatasync": errno.EIO},
    "mkdir": {"mkdir": errno.EROFS},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_goes_on_when_the_volume_works_again(world: rig.World, volume: Volume, fault: str) -> None:
    """A run ends and its follow-ups are due while the volume refuses; healed, each task has run exactly once."""
    world.submit("job", "a", "b", max_runners=2)
    world.until(lambda: {"job/a", "job/b"} <= world.running().keys())
    begun = dict(world.begun)
    world.exit("job/a", queue=[{"id": "c", "command": "x"}], result=1)
    volume.broken = FAULTS[fault]
    for _ in range(10):
        world.cycle()
        world.clock.pass_time(1.0)
    if fault in {"full", "read-only"}:
        assert world.begun == begun, "a start was acted on that the journal does not hold"
    volume.heal()
    world.do("job/c", "job/b") if "job/c" in world.running() else world.do("job/b", "job/c")
    world.until(lambda: world.job("job").phase == "succeeded")
    assert sorted(launch.task for launch in world.begun.values()) == ["a", "b", "c"]
    world.stop()
    assert world.job("job").phase == "succeeded"
    assert os.listdir(world.layout.journal) == []


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"mkdir"}))
def test_a_crash_while_the_volume_refuses(world: rig.World, volume: Volume, fault: str) -> None:
    """The same, and the manager dies of it before the volume is healed: the next one loses nothing."""
    world.submit("job", "a", "b")
    world.until(lambda: "job/a" in world.running())
    world.exit("job/a", queue=[{"id": "c", "command": "x"}])
    volume.broken = FAULTS[fault]
    for _ in range(3):
        world.cycle()
        world.clock.pass_time(1.0)
    world.crash()
    with pytest.raises(StoreError):
        world.start()
    volume.heal()
    world.start()
    world.do("job/b", "job/c")
    world.until(lambda: world.job("job").phase == "succeeded")
    assert sorted(launch.task for launch in world.begun.values()) == ["a", "b", "c"]


@pytest.mark.parametrize("op", ["add", "retry"])
@pytest.mark.parametrize("crash", [False, True])
def test_a_request_that_cannot_be_deleted_is_applied_once(
    world: rig.World, volume: Volume, op: str, *, crash: bool
) -> None:
    """The answer to a request is its removal; while the volume refuses that, the request is not taken again."""
    world.submit("job", "a")
    world.do("job/a", code=1)
    world.cycle()
    volume.broken, volume.where = {"unlink": errno.EROFS}, "/inbox/"
    name = world.ask(op, "job", tasks=[{"id": "b", "command": "x"}] if op == "add" else ())
    task = "b" if op == "add" else "a"
    for _ in range(5):
        world.cycle()
        world.clock.pass_time(1.0)
    assert world.inbox.waiting(name)
    if crash:
        world.crash()
        with pytest.raises(StoreError, match="make the volume writable"):
            world.start()
        volume.heal()
        world.start()
    else:
        volume.heal()
    world.do(f"job/{task}", code=1)
    for _ in range(5):
        world.cycle()
        world.clock.pass_time(1.0)
    assert not world.inbox.waiting(name)
    assert world.job("job").phase == "failed"
    assert sorted(launch.task for launch in world.begun.values()) == sorted(["a", task])


@pytest.mark.parametrize("crash", [False, True])
def test_a_journal_in_many_files(world: rig.World, monkeypatch: pytest.MonkeyPatch, *, crash: bool) -> None:
    """Older files go as checkpoints overtake them; what remains is enough, also where a job's first line is gone."""
    monkeypatch.setattr(journal, "ROTATE_AT", 1)
    world.submit("job", *(f"n{n}" for n in range(12)))
    world.submit("other", "x")
    world.until(lambda: "other/x" in world.running())
    for number in range(6):
        world.do(f"job/n{number}")
    world.clock.pass_time(5.0)
    world.cycle()  # a checkpoint, and with it older files go
    numbers = [int(name.split("-")[1].removesuffix(".jsonl")) for name in os.listdir(world.layout.journal)]
    assert min(numbers) > 0, "no file was dropped, so nothing was tested"
    monkeypatch.setattr(world.manager.checkpointer, "save", lambda: None)
    for number in range(6, 9):
        world.do(f"job/n{number}")
    before = world.phases("job")
    if crash:
        world.restart()
        assert world.phases("job") == before
    for number in range(9, 12):
        world.do(f"job/n{number}")
    world.do("other/x")
    world.until(lambda: world.job("job").phase == "succeeded")
    assert len(world.begun) == 13


@pytest.mark.parametrize("fault", [{"open": errno.ENOSPC}, {"fdatasync": errno.EIO}, {"fsync": errno.EIO}])
def test_a_journal_that_cannot_begin_its_next_file(
    world: rig.World, volume: Volume, fault: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotation fails: nothing is decided past it, and it is tried again."""
    world.submit("job", "a", "b")
    world.until(lambda: "job/a" in world.running())
    monkeypatch.setattr(journal, "ROTATE_AT", 1)
    volume.broken = fault
    world.exit("job/a")
    for _ in range(4):
        world.cycle()
        world.clock.pass_time(1.0)
    assert [launch.task for launch in world.begun.values()] == ["a"]
    volume.heal()
    world.do("job/b")
    world.until(lambda: world.job("job").phase == "succeeded")
    world.stop()
    assert os.listdir(world.layout.journal) == []


def every_call(stop_after: int) -> tuple[Callable[[str, tuple[Any, ...]], None], list[str]]:
    """Return a trip that fails the call with that number, and the calls that it has seen."""
    seen: list[str] = []

    def trip(name: str, args: tuple[Any, ...]) -> None:
        seen.append(name)
        if len(seen) == stop_after:
            raise OSError(errno.EIO, "injected", str(args[0]))

    return trip, seen


def test_each_single_call_may_fail(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One job with a follow-up and a request, again and again, the first, second, … call of the store failing."""
    number = 0
    while True:
        number += 1
        trip, seen = every_call(number)
        with rig.world(quick_path / str(number)) as world, monkeypatch.context() as patch:
            world.submit("job", "a", "b")
            faults.install(trip, patch.setattr).writes_whole = False
            world.until(lambda world=world: "job/a" in world.running())  # type: ignore[misc]
            kid = {"job": {"id": "kid", "tasks": [{"command": "k"}]}}
            world.exit("job/a", queue=[{"id": "c", "command": "x"}, kid])
            world.do("job/b", "job/c", "kid/_1")
            world.until(lambda world=world: not world.live_jobs())  # type: ignore[misc]
            begun = sorted(launch.task for launch in world.begun.values())
            assert begun == ["_1", "a", "b", "c"], f"call {number}, {seen[number - 1]}"
            assert {world.job(job).phase for job in ("job", "kid")} == {"succeeded"}
        if number > len(seen):
            break
    assert number > 50, "the store was not seen at work"


def test_each_single_call_may_fail_after_all_was_removed(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory goes, and while it is re-acquired the first, second, … call of the store fails: memory wins."""
    number = 0
    seen = ["at least one"]
    while number < len(seen):
        number += 1
        trip, seen = every_call(number)
        with rig.world(quick_path / str(number), poll_interval=0.001) as world, monkeypatch.context() as patch:
            for job in ("one", "two"):
                world.submit(job, "a", "b")
            world.until(lambda world=world: {"one/a", "two/a"} <= world.running().keys())  # type: ignore[misc]
            shutil.rmtree(world.layout.root)
            patch.setattr(held_directory, "SETTLING", 0.0)  # nobody else deletes here
            faults.install(trip, patch.setattr)
            see_through(world, patch)
            assert {world.job(job).phase for job in ("one", "two")} == {"succeeded"}
            assert not world.overlaps
    assert number > 30, "the store was not seen at work"


def see_through(world: rig.World, patch: pytest.MonkeyPatch) -> None:
    """Let the manager run as it does by itself until its jobs have ended, and stop it on a volume that works."""
    begun = dict(world.begun)
    cycles = 0

    def over() -> bool:
        nonlocal cycles
        cycles += 1
        assert cycles < 2000, "it did not go on"
        if not os.path.exists(world.layout.state("two")) or world.manager.possession.doubted:
            assert world.begun == begun, "a start was acted on before the directory was ours again"
        for name in world.running():
            world.exit(name)
        world.clock.pass_time(0.1)
        if world.live_jobs():
            return False
        patch.undo()
        return True

    world.manager.run(over)
    world.let_go()

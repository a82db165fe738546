"""Files where folders belong, folders where files belong, and names that nobody has: left by tasks or accidents."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from air_executor.errors import ManagerHeldError, NotFoundError, PathBlockedError, StoreError
from air_executor.manager.lease import FileLease
from air_executor.model.state import JobState
from air_executor.store import journal_files
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from tests.manager import rig
from tests.manager.rig import World
from tests.manager.test_interleavings import reason


def make_file(path: Path) -> None:
    """Put a file there."""
    path.write_bytes(b"in the way")


def make_fifo(path: Path) -> None:
    """Put a fifo there."""
    os.mkfifo(path)


def make_dead_link(path: Path) -> None:
    """Put a link there that leads nowhere."""
    path.symlink_to("nowhere")


def make_folder(path: Path) -> None:
    """Put a folder there that is not empty."""
    path.mkdir()
    make_file(path / "inside")


def make_sparse(path: Path) -> None:
    """Put a file there that seems to be huge."""
    make_file(path)
    os.truncate(path, 1 << 40)


ANY = [make_file, make_fifo, make_dead_link, make_folder]
NO_FOLDER = ANY[:3]


def take_away(path: Path) -> None:
    """Remove what is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("make", NO_FOLDER)
@pytest.mark.parametrize("place", ["runs", "workspace", "runs/.superseded"])
def test_a_folder_of_a_job_is_replaced(world: World, place: str, make: Callable[[Path], None]) -> None:
    """The next start takes the job on, and what was in the way is kept beside it; a running manager does the same."""
    world.submit("j", "a", "b", max_runners=1)
    world.submit("other", "x", "y")
    world.do("other/x")
    world.until(lambda: "j/a" in world.running())
    path = Path(world.layout.job("j"), place)
    world.exit("j/a")
    take_away(path)
    make(path)
    world.do("other/y")
    world.restart()
    world.until(lambda: world.job("j").phase == "succeeded" or "j/b" in world.running() or "j/a" in world.running())
    assert world.job("other").phase == "succeeded"
    for _ in range(4):
        for name in list(world.running()):
            world.exit(name)
        world.cycle(2)
        world.clock.pass_time(60)
    assert world.job("j").phase == "succeeded"


@pytest.mark.parametrize("make", ANY)
def test_the_next_run_directory_is_taken(world: World, make: Callable[[Path], None]) -> None:
    """A task makes what its successor's run directory would be: that is moved away, and the successor starts."""
    world.submit("j", "a", "b")
    world.until(lambda: "j/a" in world.running())
    make(Path(world.layout.runs("j"), "2-b"))
    world.do("j/a", "j/b")
    assert world.job("j").phase == "succeeded"
    assert any(name.startswith("2-b.") and name.endswith("corrupt") for name in os.listdir(world.layout.runs("j")))


@pytest.mark.parametrize("make", NO_FOLDER)
def test_a_run_whose_out_is_gone_is_lost(world: World, make: Callable[[Path], None]) -> None:
    """Its outcome cannot be found: it is lost, with the platform's budget, and frees its slot at once."""
    world.submit("j", "a")
    world.submit("other", "x")
    for _ in range(4):
        world.until(lambda: "j/a" in world.running())
        out = Path(world.launch("j/a").out_dir)
        take_away(out)
        make(out)
        world.platform.end(world.slot("j/a"), 0)
        world.cycle(2)
        assert "j/a" not in world.running()
        world.clock.pass_time(100)
    world.do("other/x")
    assert world.job("other").phase == "succeeded"
    assert reason(world, "j", "a") == "lost"


def test_a_job_directory_that_takes_no_run_costs_its_own_tasks_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volume refuses one job's run directories: that job's task fails to start, other jobs start meanwhile."""
    rename = os.rename

    def refuse(source: str, target: str, **options: int) -> None:
        if str(target).startswith(world.layout.runs("j") + "/"):
            raise PermissionError(13, "Permission denied")
        rename(source, target, **options)

    monkeypatch.setattr(os, "rename", refuse)
    world.submit("j", "a")
    world.submit("other", "x", "y")
    world.do("other/x", "other/y")
    world.until(lambda: world.job("j").ended, limit=500)
    assert reason(world, "j", "a") == "start-failed"
    assert "permission denied" in (world.task("j", "a").message or "")


def test_a_job_directory_that_is_removed_again_and_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task does that, for as long as it runs: its job's tasks fail to start and its checkpoint waits, no other's."""
    rename = os.rename

    def removed(source: str, target: str, **options: int) -> None:
        if str(target).startswith(world.layout.job("j") + "/"):
            shutil.rmtree(world.layout.job("j"))
        rename(source, target, **options)

    world.submit("j", {"id": "a", "command": "true", "delay": 1})
    world.submit("other", "x", "y")
    world.cycle()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", removed)
        world.do("other/x", "other/y")
        world.until(lambda: world.job("j").ended, limit=500)
        world.until(lambda: world.manager.state.unsaved.keys() == {"j"})
    assert reason(world, "j", "a") == "start-failed"
    world.until(lambda: not world.manager.state.unsaved)
    assert world.jobs.load("j").ended


@pytest.mark.parametrize("make", [take_away, *NO_FOLDER])
def test_bin_is_restored(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A task removes or replaces `bin/`, or the runner in it: the next start finds both as they were."""
    with rig.world(tmp_path, runner_files={"air-runner": b"#!/bin/sh\n"}) as world:
        world.submit("j", "a", "b", "c", "d")
        path = Path(world.layout.bin)
        runner = path / "air-runner"
        world.until(lambda: "j/a" in world.running())
        take_away(path)
        make(path)
        world.do("j/a")
        assert runner.read_bytes() == b"#!/bin/sh\n"
        take_away(runner)
        make(runner)
        world.do("j/b")
        assert runner.read_bytes() == b"#!/bin/sh\n"
        runner.write_bytes(b"something else")
        world.do("j/c")
        assert runner.read_bytes() == b"#!/bin/sh\n"


@pytest.mark.parametrize("make", [take_away, *NO_FOLDER])
def test_the_folder_of_a_native_runner_is_restored(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """So are the program in it and its other names, which are links to it: it is there once."""
    program = b"\x7fELF and so on"
    content = {"air-runner": b"#!/bin/sh\n", "x86_64/air-runner": program, "x86_64/air-queue": program}
    with rig.world(tmp_path, runner_files=content) as world:
        world.submit("j", "a", "b", "c", "d")
        folder = Path(world.layout.bin, "x86_64")
        for task, path in [("a", folder), ("b", folder / "air-runner"), ("c", folder / "air-queue")]:
            world.until(partial(lambda name: name in world.running(), f"j/{task}"))
            take_away(path)
            make(path)
            world.do(f"j/{task}")
            assert (folder / "air-runner").read_bytes() == program
            assert os.access(folder / "air-runner", os.X_OK)
            assert os.readlink(folder / "air-queue") == "air-runner"


@pytest.mark.parametrize("make", [make_fifo, make_dead_link, make_folder, make_sparse])
def test_a_journal_that_is_none(world: World, make: Callable[[Path], None]) -> None:
    """It is moved out of the way and reported, and the start goes on."""
    world.submit("j", "a")
    world.cycle()
    make(Path(world.layout.journal, "1-7.jsonl"))
    world.restart()
    assert any("1-7.jsonl" in problem for problem in world.problems())
    assert "1-7.jsonl.corrupt" in os.listdir(world.layout.journal)
    world.do("j/a")
    assert world.job("j").phase == "succeeded"


@pytest.mark.parametrize(
    "name", [f"{'9' * 60}-0.jsonl", f"{2**53}-0.jsonl", "9" * 18 + "-0.jsonl", "1-" + "9" * 30 + ".jsonl", "01-0.jsonl"]
)
def test_a_journal_of_no_manager(world: World, name: str) -> None:
    """A number that no manager has reached, or wrote so, says nothing of the next epoch and hides no journal."""
    world.submit("j", "a")
    world.cycle()
    before = world.manager.epoch
    version = world.job("j").version
    make_file(Path(world.layout.journal, name))
    world.restart()
    assert world.manager.epoch == before + 1
    assert world.job("j").version == version
    world.do("j/a")
    world.stop()
    world.start()
    assert world.jobs.load("j").phase == "succeeded"


def test_an_epoch_of_no_manager_in_a_state(world: World) -> None:
    """A state with an epoch as high as can be read is taken as it is, and the next epoch stays readable."""
    world.submit("j", "a", "b")
    world.stop()
    path = Path(world.layout.state("j"))
    path.write_text(path.read_text().replace('"epoch": 0', f'"epoch": {2**53}'), encoding="utf-8")
    world.start()
    assert world.manager.epoch < journal_files.MAX_EPOCH
    world.do("j/a", "j/b")
    world.stop()
    assert world.jobs.load("j").phase == "succeeded"


@pytest.mark.parametrize("error", [NotFoundError, StoreError])
def test_a_start_that_cannot_be_decided_keeps_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """A volume that fails for a moment while the next start is decided leaves no job that nobody starts any more."""
    world.submit("j", {"id": "a", "command": "true", "delay": 1})
    world.cycle()

    def fails(*_: object) -> None:
        raise error("the volume is away")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.manager.scheduler), "_decide", fails)
        world.clock.pass_time(2)
        with contextlib.suppress(StoreError):
            world.cycle()
    world.do("j/a")
    world.until(lambda: world.job("j").phase == "succeeded")


@pytest.mark.parametrize("make", ANY)
def test_something_where_a_checkpoint_belongs(world: World, make: Callable[[Path], None]) -> None:
    """The checkpoint replaces it, or moves it away; no other job's waits for that."""
    world.submit("j", "a", "b")
    world.submit("other", "x")
    world.until(lambda: {"j/a", "other/x"} <= set(world.running()))
    path = Path(world.layout.state("j"))
    path.unlink()
    make(path)
    world.exit("j/a")
    world.exit("other/x")
    world.until(lambda: "j/b" in world.running())
    world.until(lambda: not world.manager.state.index.dirty and not world.manager.state.unsaved)
    assert world.jobs.load("other").phase == "succeeded"
    assert world.jobs.load("j").tasks["a"].phase == "succeeded"


def test_a_checkpoint_that_cannot_be_written_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One job's checkpoint fails for ever; all others are written, also at the stop, and nothing is lost."""
    checkpoint = Jobs.checkpoint

    def refuse(jobs: Jobs, job: JobState, staging: str) -> None:
        if job.id == "bad":
            raise PathBlockedError("cannot replace")
        checkpoint(jobs, job, staging)

    monkeypatch.setattr(Jobs, "checkpoint", refuse)
    world.submit("bad", "a")
    world.submit("good", "x")
    world.submit("open", "y", "z")
    world.do("bad/a", "good/x", "open/y")
    world.until(lambda: set(world.manager.state.unsaved) == {"bad"} and not world.manager.state.index.dirty)
    assert world.jobs.load("good").phase == "succeeded"
    assert world.jobs.load("open").tasks["y"].phase == "succeeded"
    world.crash()
    monkeypatch.undo()
    world.start()
    assert world.jobs.load("bad").phase == "succeeded"


@pytest.mark.parametrize("make", NO_FOLDER)
@pytest.mark.parametrize("place", ["inbox", "inbox/refused", "tmp", "archive"])
def test_a_folder_of_the_state_directory_is_replaced(world: World, place: str, make: Callable[[Path], None]) -> None:
    """The next start makes it again."""
    world.submit("j", "a")
    world.cycle()
    world.crash()
    path = Path(world.layout.root, place)
    take_away(path)
    make(path)
    world.start()
    assert stat.S_ISDIR(path.stat().st_mode)
    world.do("j/a")
    assert world.job("j").phase == "succeeded"


@pytest.mark.parametrize("make", [make_fifo, make_dead_link, make_folder])
def test_something_where_the_lock_belongs(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """It is moved away, and one manager has the lock."""
    layout = Layout(tmp_path / "state")
    Jobs(layout).prepare()
    make(Path(layout.lock))
    lease = FileLease(layout, rig.HOST)
    assert lease.acquire()
    assert os.path.lexists(f"{layout.lock}.corrupt")
    with pytest.raises(ManagerHeldError):
        FileLease(layout, rig.HOST).acquire()
    lease.release()


def test_a_folder_where_an_applied_request_was(world: World) -> None:
    """Somebody makes a folder of that name: it is no request, and the start does not stand still for it."""
    world.submit("j", "a")
    name = world.ask("pause", "j")
    world.cycle()
    Path(world.layout.inbox, name).mkdir()
    world.restart()
    assert world.job("j").phase == "paused"

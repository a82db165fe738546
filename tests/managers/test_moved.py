"""A project folder that is moved, copied away or unmounted under a running manager: it leaves and recreates nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.errors import DirectoryMovedError, NotFoundError
from air_executor.manager.loop import Manager
from tests.conftest import wait_for
from tests.crash import processes
from tests.manager.rig import World
from tests.managers.rig import PATIENCE, Project


def rename(project: Path, target: Path) -> None:
    """Move it on the same volume."""
    project.rename(target)


def copy(project: Path, target: Path) -> None:
    """Move it as `mv` does to another volume."""
    shutil.copytree(project, target)
    shutil.rmtree(project)


def replace(project: Path, target: Path) -> None:
    """Move it, and put another one where it was."""
    project.rename(target)
    Path(project, ".air-executor").mkdir(parents=True)


@pytest.mark.parametrize("move", [rename, copy, replace])
def test_the_manager_of_a_moved_folder_leaves(tmp_path: Path, move: Callable[[Path, Path], None]) -> None:
    """It says so, and the old path stays as it is; a manager at the new path runs the jobs, each task once."""
    before, after, notes = tmp_path / "before", tmp_path / "after", tmp_path / "notes"
    before.mkdir()
    project = Project(before)
    try:
        manager = project.start()
        project.await_work(manager)
        project.submit({"id": "job", "tasks": [{"id": "a", "command": f"echo a >> {notes}", "delay": 3}]})
        manager.send_signal(signal.SIGSTOP)  # else it may write while its folder is being deleted
        move(before, after)
        manager.send_signal(signal.SIGCONT)
        found = sorted(map(str, before.rglob("*")))
        assert manager.wait(PATIENCE) == 1
        assert sorted(map(str, before.rglob("*"))) == found
        moved = Project(after)
        try:
            assert move is copy or "was moved or unmounted; start a manager where it is now" in moved.log()
            with moved.managed():
                moved.await_phases("job", job="succeeded")
        finally:
            moved.clear()
    finally:
        project.clear()
    assert notes.read_text(encoding="utf-8") == "a\n"


def delete_slowly(folder: Path, names: list[str]) -> None:
    """Delete what is in a folder, these names first and in their order, as `rm -r` on a slow volume does."""
    found = sorted(folder.iterdir(), key=lambda path: names.index(path.name) if path.name in names else len(names))
    for path in found:
        if path.is_dir() and not path.is_symlink():
            delete_slowly(path, names)
            path.rmdir()
        else:
            path.unlink()
        time.sleep(0.004)


@pytest.mark.parametrize("first", [".air-executor/jobs", ".air-executor/bin", ".air-executor/manager.lock", "large"])
def test_a_folder_that_is_being_deleted_is_left(tmp_path: Path, first: str) -> None:
    """What `mv` to another volume does at its end: nothing is put back meanwhile, whatever goes first."""
    project = Project(tmp_path / "before")
    (project.root / "large").mkdir()
    for number in range(400):
        (project.root / "large" / f"{number}").touch()
    try:
        manager = project.start()
        project.await_work(manager)
        project.submit({"id": "job", "max_runners": 2, "tasks": [{"command": "sleep 0.2"} for _ in range(20)]})
        project.submit({"id": "late", "tasks": [{"command": "true", "delay": 100}]})
        with contextlib.suppress(shutil.Error):  # a request may be taken meanwhile
            shutil.copytree(project.root, tmp_path / "after", symlinks=True)
        project.ask("pause", "job")
        wait_for(lambda: not processes.below(project.state_dir), PATIENCE, "its tasks to end, which write there too")
        wait_for(
            lambda: all(task.phase != "running" for task in project.client.jobs.load("job").tasks.values()),
            PATIENCE,
            "their ends to be in the state file, which the manager writes",
        )
        delete_slowly(project.root, first.split("/"))
        project.root.rmdir()
        assert manager.wait(PATIENCE) == 1
        assert not project.root.exists()
    finally:
        project.clear()


STEPS = ["_acquire", "_recover", "_assemble", "_admit", "_watch"]


@pytest.mark.parametrize("step", STEPS)
def test_a_folder_that_is_moved_during_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """At the latest its first cycle says so, and nothing is at the old path."""
    world = World(tmp_path / "before")
    world.submit("j", "a", "b")
    whole = getattr(Manager, step)

    def moves_before(manager: Manager, *args: object) -> object:
        (tmp_path / "before").rename(tmp_path / "after")
        return whole(manager, *args)

    monkeypatch.setattr(Manager, step, moves_before)
    with pytest.raises(DirectoryMovedError, match="was moved or unmounted"):
        world.start().cycle()
    assert not (tmp_path / "before").exists()


def test_a_folder_that_was_moved_while_the_process_started(tmp_path: Path) -> None:
    """A manager creates its state directory, and no folder above it."""
    world = World(tmp_path / "before")
    (tmp_path / "before").rmdir()
    with pytest.raises(NotFoundError, match="before: not found; create it, or start the manager where"):
        world.start()
    assert not (tmp_path / "before").exists()


UNMOUNTED = """\
mount -t tmpfs none "$1" && mkdir "$1/.air-executor" && cd / || exit 77
"$2" -m air_executor --state-dir "$1/.air-executor" manager & m=$!
until grep -qs version "$1/.air-executor/manager.json"; do sleep 0.05; done
"$2" -m air_executor --state-dir "$1/.air-executor" submit job -- true
umount -l "$1"
wait $m
code=$?
ls -A "$1"
exit $code
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or sys.platform != "linux", reason="needs mount namespaces"
)
def test_the_manager_of_an_unmounted_folder_leaves(tmp_path: Path) -> None:
    """Below the empty mount point it writes nothing."""
    point = tmp_path / "point"
    point.mkdir()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", UNMOUNTED, "sh", str(point), sys.executable],
        env={**os.environ, "AIR_HTTP_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("mounting is not allowed here")
    assert (done.returncode, done.stdout) == (1, "job\n"), done.stderr
    assert "was moved or unmounted" in done.stderr

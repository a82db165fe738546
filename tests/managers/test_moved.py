"""A project folder that is moved, copied away or unmounted under a running manager: it leaves and recreates nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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

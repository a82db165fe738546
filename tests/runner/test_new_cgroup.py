"""The runner makes a cgroup in the folder that it gets as fd 10; where it cannot, the command runs without one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runner.rig import Rig

OPEN = "import os, sys; os.dup2(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY), 10)"
BEGIN = "os.environ['AIR_RUN_ID'] = sys.argv[2]; os.execv(sys.argv[3], sys.argv[3:])"


@pytest.fixture
def groups(native: Rig) -> Path:
    """A folder that holds no cgroups, so that nothing can be started in one."""
    folder = native.folder / "groups"
    folder.mkdir()
    return folder


def log_of(rig: Rig, groups: Path, name: str) -> str:
    """Run a command that lists its descriptors, with a cgroup of that name; return what it printed."""
    runner = [rig.program, str(rig.out), str(rig.work), "-", "100", "new-cgroup"]
    command = ["sh", "-c", "ls -l /proc/self/fd && echo ran"]
    started = rig.start_program(sys.executable, "-c", f"{OPEN}; {BEGIN}", str(groups), name, *runner, *command)
    assert started.wait() == 0
    return rig.log.decode()


@pytest.mark.parametrize("name", ["../beside", "a/b", ".hidden", "."])
def test_a_name_that_is_none(native: Rig, groups: Path, name: str) -> None:
    """Nothing is made, neither there nor elsewhere, and the command has no descriptor of the folder."""
    before = sorted(native.folder.iterdir())
    printed = log_of(native, groups, name)
    assert printed.endswith("ran\n")
    assert str(groups) not in printed
    assert list(groups.iterdir()) == []
    made = {path.name for path in native.folder.iterdir()} - {path.name for path in before}
    assert made <= {"stdin", "stdout", "stderr", "runner.pid"}


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_in_which_nothing_starts(native: Rig, groups: Path, *, there: bool) -> None:
    """It is removed, whether it was there or not; the command has no descriptor of it."""
    if there:
        (groups / "run-1").mkdir()
    printed = log_of(native, groups, "run-1")
    assert printed.endswith("ran\n")
    assert str(groups) not in printed
    assert list(groups.iterdir()) == []

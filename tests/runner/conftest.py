"""Every test here runs once for the native runner, and once for each shell that has to be able to run the script."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from air_executor.runner import native
from tests.lanes import missing
from tests.runner.rig import NATIVE, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash"], "bash-posix": ["bash", "--posix"]}


@pytest.fixture(scope="session")
def native_runner(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The native runner of the package, or one that is built now."""
    if native.this_machine() in native.builds():
        return NATIVE
    compiler = shutil.which("cc")
    if native.this_machine() is None or compiler is None:
        missing("there is no C compiler here, or no native runner for this machine; on Debian: apt-get install gcc")
    program = str(tmp_path_factory.mktemp("native") / native.NAME)
    native.compile_to(program, [compiler])
    return program


@pytest.fixture(params=["native", *SHELLS])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """One run, ready to be started by the native runner or one of the shells."""
    shell = SHELLS.get(request.param, [])
    if shell and shutil.which(shell[0]) is None:
        missing(f"{shell[0]} is not installed")
    ready = Rig(tmp_path, shell) if shell else Rig(tmp_path, [], request.getfixturevalue("native_runner"))
    yield ready
    ready.clean_up()

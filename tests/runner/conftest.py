"""Every test here runs once for the native runner, and once for each shell that has to be able to run the script.

That is five times; what every night is enough for are the shells that are not `/bin/sh` where the script is needed.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lanes import missing
from tests.runner.rig import Rig, require_native

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash"], "bash-posix": ["bash", "--posix"]}
RARE = ("bash", "bash-posix")
KINDS = ["native", *(pytest.param(name, marks=[pytest.mark.nightly] * (name in RARE)) for name in SHELLS)]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The native runner, or the shell that runs the script."""
    return str(request.param)


@pytest.fixture
def rig(kind: str, tmp_path: Path) -> Iterator[Rig]:
    """One run, ready to be started by the native runner or one of the shells."""
    yield from _rig(kind, tmp_path)


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Rig]:
    """One run of the native runner, for what the script cannot do."""
    yield from _rig("native", tmp_path)


@pytest.fixture
def open_rig(kind: str) -> Iterator[Rig]:
    """One where every user can get: pytest closes the folder of all its own whenever another pytest starts."""
    with tempfile.TemporaryDirectory(prefix="air-open-") as folder:
        yield from _rig(kind, Path(folder))


def _rig(kind: str, folder: Path) -> Iterator[Rig]:
    shell = SHELLS.get(kind, [])
    if shell and shutil.which(shell[0]) is None:
        missing(f"{shell[0]} is not installed")
    ready = Rig(folder, shell) if shell else Rig(folder, [], require_native())
    yield ready
    ready.clean_up()

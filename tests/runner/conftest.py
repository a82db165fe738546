"""Every test here runs once for the native runner, and once for each shell that has to be able to run the script.

That is five times; what every night is enough for are the shells that are not `/bin/sh` where the script is needed.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.lanes import missing
from tests.runner.rig import Rig, require_native

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash"], "bash-posix": ["bash", "--posix"]}
RARE = ("bash", "bash-posix")
KINDS = ["native", *(pytest.param(name, marks=[pytest.mark.nightly] * (name in RARE)) for name in SHELLS)]


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """One run, ready to be started by the native runner or one of the shells."""
    shell = SHELLS.get(request.param, [])
    if shell and shutil.which(shell[0]) is None:
        missing(f"{shell[0]} is not installed")
    ready = Rig(tmp_path, shell) if shell else Rig(tmp_path, [], require_native())
    yield ready
    ready.clean_up()

"""Every test here runs once for each shell that has to be able to run the script."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.lanes import missing
from tests.runner.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash"], "bash-posix": ["bash", "--posix"]}


@pytest.fixture(params=list(SHELLS))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """One run, ready to be started by one of the shells."""
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        missing(f"{shell[0]} is not installed")
    ready = Rig(tmp_path, shell)
    yield ready
    ready.clean_up()

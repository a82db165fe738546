"""A plant per test. All tests of the engine run one after the other: some of them restart it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.rig import Plant


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A manager on a real engine; whatever a test leaves there is removed."""
    made = Plant(tmp_path)
    yield made
    made.close()

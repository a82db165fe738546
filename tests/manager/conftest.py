"""What tests of the manager share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.manager import rig


@pytest.fixture
def world(quick_path: Path) -> Iterator[rig.World]:
    """A manager over an empty state directory and a platform in memory."""
    with rig.world(quick_path) as made:
        yield made

"""A clone that leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.rig import Clone, image, require_client


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """Return a fresh copy of the tree. Its images are in the builder's cache already."""
    require_client()
    image("runner")
    image("manager")
    made = Clone(tmp_path / "clone")
    yield made
    made.clear()

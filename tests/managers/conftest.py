"""A project folder that leaves nothing running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.managers.rig import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Return a new project."""
    made = Project(tmp_path / "project")
    yield made
    made.clear()

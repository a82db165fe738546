"""A clone that leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.rig import Clone, docker, image, require_client


@pytest.fixture
def fresh_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clone]:
    """Return a fresh copy of the tree, without settings of ours. Its images are in the builder's cache already."""
    require_client()
    image("runner")
    image("manager")
    for name in [name for name in os.environ if name.startswith(("AIR_", "COMPOSE_"))]:
        monkeypatch.delenv(name)
    made = Clone(tmp_path / "clone")
    yield made
    made.clear()


@pytest.fixture
def clone(fresh_clone: Clone) -> Clone:
    """Return a copy of the tree that has its images: `fresh_clone` is for tests of how they are built."""
    for target in ("runner", "manager"):
        docker("tag", image(target), f"air-executor-{target}:{fresh_clone.name}")
    return fresh_clone

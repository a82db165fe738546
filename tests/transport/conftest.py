"""A manager's port, and pods that reach nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transport.rig import Site


@pytest.fixture
def site(quick_path: Path) -> Iterator[Site]:
    """A state directory with its manager; no process of a pod is left."""
    if sys.platform != "linux":
        pytest.skip("the carrier finds the runner through /proc, as in a pod")
    made = Site(quick_path)
    yield made
    made.close()

"""What tests of the manager share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.lanes import NIGHTLY
from tests.manager import rig

settings.register_profile(
    "sample", max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile(
    "nightly", max_examples=400, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("nightly" if NIGHTLY else "sample")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[rig.World]:
    """A manager over an empty state directory and a platform in memory."""
    with rig.world(tmp_path) as made:
        yield made

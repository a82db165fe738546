"""What tests of the chart share."""

from __future__ import annotations

import shutil

import pytest

from tests.cluster import give_up


@pytest.fixture(scope="session")
def helm_program() -> str:
    """Return the path of `helm`."""
    path = shutil.which("helm")
    if path is None:
        give_up("helm is not installed")
    return path

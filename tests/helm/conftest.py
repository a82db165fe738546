"""What tests of the chart share."""

from __future__ import annotations

import shutil

import pytest

from tests.lanes import missing


@pytest.fixture(scope="session")
def helm_program() -> str:
    """Return the path of `helm`."""
    path = shutil.which("helm")
    if path is None:
        missing("helm is not installed")
    return path

"""What tests of the chart share."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def helm_program(requires_tool: Callable[[str], str]) -> str:
    """Return the path of `helm`."""
    return requires_tool("helm")

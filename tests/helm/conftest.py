"""What tests of the chart share."""

from __future__ import annotations

import pytest

from tests import k3s
from tests.lanes import missing


@pytest.fixture(scope="session")
def helm_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of `helm`."""
    return k3s.program("helm", str(tmp_path_factory.mktemp("helm"))) or missing("helm is not installed")


@pytest.fixture(scope="session")
def kubectl_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of `kubectl`."""
    return k3s.program("kubectl", str(tmp_path_factory.mktemp("kubectl"))) or missing("kubectl is not installed")

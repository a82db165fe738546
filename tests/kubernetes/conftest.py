"""A real cluster for what is particular to Jobs and Pods; without KUBECONFIG these tests skip, and in CI fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.rig import KubernetesRig
from tests.cluster import close_shared


@pytest.fixture(scope="session", autouse=True)
def _clean_cluster() -> Iterator[None]:
    """Leave nothing on the cluster."""
    yield
    close_shared()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KubernetesRig]:
    """A cluster with nothing of the test on it."""
    ready = KubernetesRig(tmp_path)
    yield ready
    ready.close()

"""One platform per test, for each backend that the contract binds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.rig import RIGS, LocalRig, Rig
from tests.cluster import close_shared


@pytest.fixture(scope="session", autouse=True)
def _clean_cluster() -> Iterator[None]:
    """Leave nothing on the cluster."""
    yield
    close_shared()


MARKS = {
    # The script where the kernel has pidfd: `local-native` has pidfd, too, and `local-portable` is the script, too.
    "local": [pytest.mark.nightly],
    "docker": [pytest.mark.docker],
    "kubernetes": [pytest.mark.kubernetes, pytest.mark.timeout(900)],
    "kubernetes-http": [pytest.mark.nightly, pytest.mark.timeout(900)],  # some of it: kubernetes/test_over_http.py
}
PARAMETERS = [pytest.param(name, marks=MARKS.get(name, [])) for name in RIGS]


@pytest.fixture(params=PARAMETERS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A platform with nothing on it; whatever the test leaves is cleared away."""
    ready = RIGS[request.param](tmp_path)
    yield ready
    ready.close()


@pytest.fixture(params=[parameter for parameter in PARAMETERS if str(parameter.values[0]).startswith("local")])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalRig]:
    """The same, for what is particular to processes of this machine: on Linux with and without pidfd."""
    ready = RIGS[request.param](tmp_path)
    assert isinstance(ready, LocalRig)
    yield ready
    ready.close()

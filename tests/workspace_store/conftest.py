"""A manager whose workspaces are in a real S3 server."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor.store.object_store import ObjectStore
from tests.conftest import MEMORY
from tests.transport.proxy import Proxy
from tests.transport.rig import Site
from tests.workspace_store.s3 import BUCKET, S3Server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Return a running S3 server, with an empty bucket at the beginning."""
    with tempfile.TemporaryDirectory(prefix="air-test-", dir=MEMORY) as folder:
        server = S3Server(Path(folder))
        yield server
        server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Return the server; the environment has its address and the credentials."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def between(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Return what lies between the manager and the server; to be asked for before the manager."""
    proxy = Proxy(s3.port, 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    yield proxy
    proxy.close()


@pytest.fixture
def url(s3: S3Server, request: pytest.FixtureRequest) -> str:
    """Return the address of a prefix of this test's own."""
    return f"s3://{BUCKET}/{abs(hash(request.node.nodeid))}"


@pytest.fixture
def site(quick_path: Path, url: str) -> Iterator[Site]:
    """A state directory with its manager; no process of a pod is left."""
    if sys.platform != "linux":
        pytest.skip("the carrier finds the runner through /proc, as in a pod")
    made = Site(quick_path, workspace_store=url)
    yield made
    made.close()


@pytest.fixture
def objects(url: str) -> ObjectStore:
    """Return the store itself."""
    return ObjectStore(url)

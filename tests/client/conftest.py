"""The same jobs over files and over HTTP: one running manager, and clients of both kinds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor.cli.app import run
from air_executor.client import Client
from air_executor.client.job_access import JobAccess
from air_executor.client.server_client import ServerClient
from tests.api.conftest import ServedApi
from tests.cli.conftest import Outcome

PATIENCE = 60.0
KINDS = ("files", "server")
Air = Callable[..., Outcome]


def client_of(served: ServedApi, role: str = "admin") -> ServerClient:
    """Return a client of the server with the token of a role."""
    return ServerClient(f"http://127.0.0.1:{served.port}", served.tokens[role])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    """A running manager that the tests of a module share; each has jobs of its own."""
    made = ServedApi(tmp_path_factory.mktemp("remote"))
    try:
        made.start(AIR_COST_RUNNER_HOUR="36", AIR_COST_CURRENCY="EUR")
        yield made
    finally:
        made.stop()


@pytest.fixture
def remote(served: ServedApi) -> Iterator[ServerClient]:
    """A client of the server, which may do everything."""
    with contextlib.closing(client_of(served)) as found:
        yield found


@pytest.fixture(params=KINDS)
def access(request: pytest.FixtureRequest, served: ServedApi, remote: ServerClient) -> JobAccess:
    """Both clients in turn."""
    found: Client | ServerClient = served.client if request.param == "files" else remote
    return found


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, a home of its own, and no settings from outside."""
    for name in [name for name in os.environ if name.startswith("AIR_")]:
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "laptop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def air(outside: Path, capsys: pytest.CaptureFixture[str]) -> Air:
    """Call the program in this process."""

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        code: int = 1
        with contextlib.suppress(SystemExit):
            code = run(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def fresh_served(tmp_path: Path) -> Iterator[ServedApi]:
    """A manager of one test, which may end it."""
    made = ServedApi(tmp_path / "own")
    made.root.mkdir()
    try:
        made.start(AIR_COST_RUNNER_HOUR="36", AIR_COST_CURRENCY="EUR")
        yield made
    finally:
        made.stop()

"""A real manager that serves the API, and clients of it with each role."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from air_executor.client import Client
from air_executor.model.callers import ROLES
from air_executor.store.tokens import Tokens
from tests.conftest import wait_for
from tests.crash import processes
from tests.forked import Program

PATIENCE = 120.0
API = "/api/v1"


@dataclass(frozen=True)
class ApiAnswer:
    """A response of the API."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:  # noqa: ANN401 - JSON data
        """Its JSON."""
        return json.loads(self.body)


@dataclass
class ServedApi:
    """A state directory whose manager serves the API."""

    root: Path
    tokens: dict[str, str] = field(default_factory=dict)
    port: int = 0
    manager: Program | None = None

    @property
    def client(self) -> Client:
        """A client of the files."""
        return Client(f"{self.root}/.air-executor")

    @property
    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        path = Path(self.client.layout.audit)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def start(self, **environment: str) -> None:
        """Make a token for each role, and start the manager."""
        self.client.jobs.prepare()
        tokens = Tokens(self.client.layout.tokens)
        for role in ROLES:
            self.tokens[role] = tokens.create(role, role, now=time.time(), expires_at=None)
        self.tokens["other"] = tokens.create("other", "submitter", now=time.time(), expires_at=None)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._launch(**environment)

    def restart(self, **environment: str) -> None:
        """Kill the manager, and start the next one at the same port."""
        assert self.manager is not None
        self.manager.kill()
        self.manager.wait(PATIENCE)
        self._launch(**environment)

    def _launch(self, **environment: str) -> None:
        outside = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
        with open(f"{self.root}/manager.log", "ab") as log:
            self.manager = Program(
                ["--state-dir", self.client.layout.root, "manager"],
                cwd=self.root,
                env={**outside, "AIR_HTTP_PORT": str(self.port), "AIR_MAX_RUNNERS": "4", **environment},
                stdout=log,
                stderr=log,
            )
        wait_for(self._ready, PATIENCE, "the manager to be ready")

    def _ready(self) -> bool:
        assert self.manager is not None
        assert self.manager.poll() is None, self.log
        try:
            return self.ask("GET", "/readyz", prefix="").status == 200
        except OSError:
            return False

    @property
    def log(self) -> str:
        """What the manager has printed."""
        return Path(f"{self.root}/manager.log").read_text()

    def ask(
        self,
        method: str,
        path: str,
        data: object = None,
        *,
        role: str | None = None,
        prefix: str = API,
        body: bytes | None = None,
        **headers: str,
    ) -> ApiAnswer:
        """Send a request; `data` as JSON, or `body` as it is. `If_None_Match` stands for a header's name."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if role is not None:
            sent["Authorization"] = f"Bearer {self.tokens[role]}"
        if data is not None:
            body = json.dumps(data).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, prefix + path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return ApiAnswer(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str, *, role: str | None = None, **headers: Any) -> ApiAnswer:  # noqa: ANN401 - as for `ask`
        """Read something."""
        return self.ask("GET", path, role=role, **headers)

    def submit(self, job: str, command: str = "true", *, role: str = "submitter", **fields: object) -> ApiAnswer:
        """Submit a job of one task."""
        tasks = [{"id": "only", "command": command, "grace": 1}]
        return self.ask("POST", "/jobs", {"id": job, "tasks": tasks, **fields}, role=role)

    def ended(self, job: str) -> Any:  # noqa: ANN401 - JSON data
        """Wait for a job's end and return it as the API has it."""
        wait_for(
            lambda: self.get(f"/jobs/{job}", role="viewer").data["finished_at"] is not None,
            PATIENCE,
            f"the end of {job}",
        )
        return self.get(f"/jobs/{job}", role="viewer").data

    def stop(self) -> None:
        """Leave nothing running."""
        if self.manager is not None and self.manager.poll() is None:
            self.manager.send_signal(signal.SIGKILL)
            self.manager.wait(PATIENCE)
        processes.clear(str(self.root))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[ServedApi]:
    """A state directory whose manager is yet to start."""
    made = ServedApi(tmp_path)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    """A running manager that the tests of a module share; each has jobs of its own."""
    made = ServedApi(tmp_path_factory.mktemp("api"))
    try:
        made.start()
        yield made
    finally:
        made.stop()

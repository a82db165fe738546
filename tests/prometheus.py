"""A real Prometheus for tests, in a process of its own on loopback. Without one tests skip, and in CI fail."""

from __future__ import annotations

import http
import http.client
import json
import shutil
import signal
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.conftest import wait_for
from tests.lanes import missing, require_service

PATIENCE = 60.0
INTERVAL = 1.0
"""Seconds between two scrapes."""


def require(program: str) -> str:
    """Return the path of `prometheus` or `promtool`; without it the test is skipped, and in CI fails."""
    require_service("Prometheus")
    return shutil.which(program) or missing(f"{program} is not installed; on Debian: apt-get install prometheus")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Prometheus:
    """One server and its answers."""

    def __init__(self, port: int) -> None:
        self._port = port

    @classmethod
    @contextmanager
    def run(cls, folder: Path, target: str, *, token: str | None = None, rules: Path | None = None) -> Iterator[Self]:
        """Start a server that scrapes `target` (host:port), and wait until it answers."""
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        job: dict[str, Any] = {"job_name": "air-executor", "static_configs": [{"targets": [target]}]}
        if token is not None:
            job["authorization"] = {"credentials": token}
        times = {"scrape_interval": f"{INTERVAL:g}s", "evaluation_interval": f"{INTERVAL:g}s"}
        config = {"global": times, "rule_files": [str(rules)] if rules else [], "scrape_configs": [job]}
        (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        command = [
            require("prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
        ]
        command += [f"--web.listen-address=127.0.0.1:{port}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        made = cls(port)
        try:
            wait_for(lambda: made.is_ready() or process.poll() is not None, PATIENCE, "Prometheus to answer")
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            yield made
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def is_ready(self) -> bool:
        """Tell whether it answers questions."""
        try:
            return self._get("/-/ready")[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ask(self, path: str, **query: str) -> Any:  # noqa: ANN401 - JSON
        """Return what its API answers."""
        status, text = self._get(f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
        assert status == http.HTTPStatus.OK, text.decode()
        return json.loads(text)["data"]

    def query(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """Return an expression's present values by their labels, without those that every target has."""
        found = {}
        for row in self.ask("query", query=expression)["result"]:
            labels = row["metric"].items()
            found[frozenset((k, v) for k, v in labels if k not in {"__name__", "instance", "job"})] = float(
                row["value"][1]
            )
        return found

    def value(self, expression: str) -> float | None:
        """Return the one value of an expression; None if there is none (yet)."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return next(iter(found.values()), None)

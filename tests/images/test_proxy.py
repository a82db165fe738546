"""The manager behind a proxy that hands on what it needs, as examples/compose/proxy.yaml narrows it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import wait_for
from tests.engine import PYTHON_IMAGE
from tests.images.rig import PATIENCE, TREE, Clone, docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

STAND_IN = f"""
services:
  socket-proxy:
    image: {PYTHON_IMAGE}
    entrypoint: [python, -u, /stand_in_proxy.py]
    stop_grace_period: 0s
    volumes:
      - {Path(__file__).with_name("stand_in_proxy.py")}:/stand_in_proxy.py:ro
"""


@pytest.fixture
def behind_a_proxy(clone: Clone) -> Clone:
    """Return a clone whose manager has no socket; the proxy is a stand-in with the real one's rules."""
    shutil.copytree(TREE / "examples/compose", clone.folder / "examples/compose", dirs_exist_ok=True)
    (clone.folder / "stand-in.yaml").write_text(STAND_IN)
    with (clone.folder / ".env").open("a") as file:
        file.write(f"PWD={clone.folder}\n")
        file.write("COMPOSE_FILE=docker-compose.yaml:examples/compose/proxy.yaml:stand-in.yaml\n")
    return clone


def requests(clone: Clone, verdict: str) -> list[str]:
    """Return the requests that the proxy has allowed, or blocked: method and path."""
    lines = clone.compose("logs", "--no-log-prefix", "socket-proxy").splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(verdict)]


def test_every_request_of_the_manager_passes(behind_a_proxy: Clone) -> None:
    """Jobs that succeed, fail, are cancelled or want an image that cannot be had: nothing is blocked."""
    clone = behind_a_proxy
    clone.up()
    container = clone.manager()
    assert "docker.sock" not in docker("inspect", container)
    clone.submit({"id": "fine", "tasks": [{"id": "a", "command": "true"}, {"id": "b", "command": "exit 127"}]})
    assert clone.await_end("fine") == "failed"
    clone.submit({"id": "image", "tasks": [{"id": "t", "command": "true", "image": f"localhost:1/{clone.name}"}]})
    assert clone.await_end("image") == "failed"
    clone.submit({"id": "long", "tasks": [{"id": "t", "command": "touch begun; sleep 600", "grace": 1}]})
    wait_for(Path(clone.client.layout.workspace("long"), "begun").exists, PATIENCE, "the task to run")
    clone.air("cancel", "long")
    assert clone.await_end("long") == "cancelled"
    wait_for(lambda: not clone.runners(), PATIENCE, "the runners to be removed")
    doctor = clone.compose("exec", "--no-TTY", "manager", "air-entrypoint", "doctor", "--json")
    verdicts = {check["verdict"] for check in json.loads(doctor)["checks"] if check["name"].startswith("docker")}
    assert verdicts
    assert "failed" not in verdicts
    assert requests(clone, "blocked") == []
    made = {re.sub(r"/[0-9a-f]{64}|/v1\.\d+", "", request) for request in requests(clone, "allowed")}
    assert made >= {
        *("GET /version", "GET /info", "GET /events", "GET /containers/json"),
        *("POST /containers/create", "POST /containers/start", "POST /containers/kill", "DELETE /containers"),
        *("POST /images/create", "POST /networks/create", f"GET /networks/{clone.name}"),
    }


@pytest.mark.parametrize(
    "request_line",
    [
        "POST /v1.51/containers/{id}/exec",
        "POST /v1.51/containers/{id}/update",
        "POST /v1.51/containers/{id}/attach",
        "PUT /v1.51/containers/{id}/archive",
        "POST /v1.51/containers/prune",
        "DELETE /v1.51/containers/somebodys-database",
        "POST /v1.51/containers/somebodys-database/kill",
        "GET /v1.51/containers/somebodys-database/archive",
        "DELETE /v1.51/images/python",
        "POST /v1.51/images/x/push",
        "POST /v1.51/build",
        "POST /v1.51/commit",
        "GET /v1.51/secrets",
        "POST /v1.51/volumes/create",
        "POST /v1.51/plugins/pull",
        "POST /v1.51/swarm/init",
        "POST /v1.51/networks/x/connect",
        "GET /v1.51/containers/../secrets",
    ],
)
def test_other_requests_do_not(request_line: str) -> None:
    """What the manager has no need of is in no pattern: patterns are matched from end to end, as the proxy does."""
    method, path = request_line.format(id="0" * 64).split()
    flags = YAML(typ="safe").load(_without_tags())["services"]["socket-proxy"]["command"]
    allowed = [flag.split("=", 1)[1] for flag in flags if flag.startswith(f"-allow{method}=")]
    assert not any(re.fullmatch(pattern, path) for pattern in allowed)


def _without_tags() -> str:
    return (TREE / "examples/compose/proxy.yaml").read_text().replace("!override", "")

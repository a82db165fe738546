"""Behind real proxies: nginx with TLS, a real OpenID Connect client before the manager, and an address for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import PATIENCE, ServedApi
from tests.conftest import wait_for
from tests.proxy_chain import SECRET, Browser, ProxyChain, behind_proxies


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServedApi, ProxyChain]]:
    """A manager, and the proxies before it."""
    served = ServedApi(tmp_path_factory.mktemp("behind"))
    with behind_proxies(served, tmp_path_factory.mktemp("proxies")) as chain:
        yield served, chain


def said(answer: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of an answer."""
    return json.loads(answer.read())


def test_who_signs_in_has_the_role_of_their_groups(behind: tuple[ServedApi, ProxyChain]) -> None:
    """The page, the API and a job of one's own, with the name that the provider has told."""
    served, chain = behind
    anna, ben = chain.browser("anna", "data", "others"), chain.browser("ben")
    assert said(anna.open("/api/v1/caller")) == {"name": "anna@example.com", "role": "submitter"}
    assert said(ben.open("/api/v1/caller")) == {"name": "ben@example.com", "role": "viewer"}
    job = {"id": "hers", "tasks": [{"command": "echo hello"}]}
    assert ben.open("/api/v1/jobs", job).status == 403
    assert anna.open("/api/v1/jobs", job).status == 201
    assert served.ended("hers")["owner"] == "anna@example.com"
    page = ben.open("/jobs/hers").read().decode()
    assert "hers" in page
    assert SECRET not in page


def test_what_a_client_forges_is_dropped(behind: tuple[ServedApi, ProxyChain]) -> None:
    """Headers of identity, a token, a Host: the chain says who somebody is, and the manager believes nobody else."""
    served, chain = behind
    ben = chain.browser("ben")
    forged: list[dict[str, str]] = [
        {"X_Forwarded_User": "root", "X_Forwarded_Email": "root@example.com", "X_Forwarded_Groups": "admins"},
        {"Authorization": f"Bearer {served.tokens['admin']}"},
        {"OIDC_CLAIM_groups": "admins", "X_Forwarded_Host": "evil.example"},
    ]
    for headers in forged:
        assert said(ben.open("/api/v1/caller", **headers)) == {"name": "ben@example.com", "role": "viewer"}
    nobody = Browser(chain.programs, ben.tls)
    assert nobody.open("/api/v1/caller", **forged[0]).status == 401, "no secret, no identity"
    assert nobody.open("/api/v1/caller", **forged[0], Authorization="Basic eDp5").status == 401
    assert nobody.open("/", Host="localhost").status == 401, "through a proxy nobody is local"
    assert ben.open("/api/v1/jobs", {"id": "x", "tasks": [{"command": "true"}]}, Origin="https://evil").status == 403


def test_events_are_not_held_back(behind: tuple[ServedApi, ProxyChain]) -> None:
    """A page's stream and the log of a run come through both proxies while the run goes on."""
    served, chain = behind
    anna = chain.browser("anna", "data")
    gate = 'echo first; while [ ! -e "$AIR_WORKSPACE/gate" ]; do sleep 0.02; done; echo second'
    assert anna.open("/api/v1/jobs", {"id": "slow", "tasks": [{"id": "only", "command": gate}]}).status == 201
    wait_for(lambda: served.get("/jobs/slow", role="admin").data["tasks"][0]["phase"] == "running", PATIENCE)
    with anna.open("/jobs/slow/events") as page, anna.open("/api/v1/jobs/slow/tasks/only/attempts/1/log/events") as log:
        assert page.readline().startswith(b"data: ")
        assert log.readline() == b"event: log\n"
        assert [log.readline(), log.readline()][1] == b'data: {"text": "first\\n", "end": 6}\n'
        Path(served.client.layout.workspace("slow"), "gate").touch()
        assert b'"second' in b"".join(log.readline() for _ in range(4))
        assert any(line.startswith(b"data: ") for line in (page.readline() for _ in range(3)))


def test_the_command_line_over_tls(behind: tuple[ServedApi, ProxyChain], tmp_path: Path) -> None:
    """With a token, at an address beside the sign-in: a run with live output and its exit code, a log that follows."""
    served, chain = behind
    outside = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
    env = outside | {
        "AIR_SERVER": chain.programs,
        "AIR_TOKEN": served.tokens["submitter"],
        "SSL_CERT_FILE": str(chain.certificate),
        "XDG_CONFIG_HOME": str(tmp_path),
    }

    def air(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "air_executor", *words]
        return subprocess.Popen(command, cwd=tmp_path, env=env, text=True, stdout=-1, stderr=-1)

    gate = 'echo first; while [ ! -e "$AIR_WORKSPACE/gate" ]; do sleep 0.02; done; echo second; exit 3'
    running = air("run", "remote", "--", "sh", "-c", gate)
    wait_for(lambda: "remote" in served.client.ids(), PATIENCE)
    following = air("logs", "remote", "--follow")
    assert following.stdout is not None
    assert "first" in following.stdout.readline()
    Path(served.client.layout.workspace("remote"), "gate").touch()
    assert "second" in following.communicate(timeout=PATIENCE)[0]
    out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, "second" in out + err) == (3, True), out + err
    wrong = subprocess.run(
        [sys.executable, "-m", "air_executor", "status"],
        check=False,
        env=env | {"SSL_CERT_FILE": "/dev/null"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 8

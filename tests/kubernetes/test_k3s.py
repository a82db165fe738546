"""How tests get a cluster of their own, as far as it can be seen without one: a tiny image stands in for k3s."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from testcontainers.community.k3s import K3SContainer
from testcontainers.core.config import testcontainers_config

from tests import k3s
from tests.engine import container, require_engine, require_image

pytestmark = pytest.mark.docker

STAND_IN = """
mkdir -p /etc/rancher/k3s
echo 'server: https://127.0.0.1:6443' >/etc/rancher/k3s/k3s.yaml
echo Node controller sync successful
exec sleep 600
"""


class StandIn(K3SContainer):
    """Says what k3s says once it is ready."""

    def __init__(self, image: str, **options: object) -> None:
        super().__init__(image, **options)
        self.with_command(["sh", "-c", STAND_IN])


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Forget the cluster that this run has; return a list for what is to be undone."""
    for name in ("KUBECONFIG", k3s.CONTAINER, k3s.REFUSED):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards, whatever the test sets
        monkeypatch.delenv(name)
    return []


def test_a_cluster_is_started_and_stopped(
    tmp_path: Path, undone: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address is the published one, only we can read it, and its node sees the tests' folders."""
    monkeypatch.setattr(k3s, "K3SContainer", StandIn)
    monkeypatch.setattr(k3s, "IMAGE", require_image())
    monkeypatch.setattr(testcontainers_config, "connection_mode_override", None)  # restored afterwards
    k3s.provide(undone.append)
    try:
        assert k3s.REFUSED not in os.environ
        assert k3s.is_ours()
        config = Path(os.environ["KUBECONFIG"])
        assert config.stat().st_mode & 0o777 == 0o600
        (published,) = require_engine().port(os.environ[k3s.CONTAINER], 6443)[:1]
        assert config.read_text().strip().endswith(f":{published['HostPort']}")
        k3s.run(os.environ[k3s.CONTAINER], "touch", f"{tmp_path}/seen")
        assert (tmp_path / "seen").exists()
    finally:
        for undo in reversed(undone):
            undo()
    assert not config.exists()
    assert not require_engine().containers(all=True, filters={"id": os.environ[k3s.CONTAINER]})


def test_a_cluster_that_is_named_is_enough(undone: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """KUBECONFIG decides: nothing is started beside it."""
    monkeypatch.setenv("KUBECONFIG", "/some/where")
    k3s.provide(undone.append)
    assert (undone, k3s.is_ours()) == ([], False)


def test_an_image_that_cannot_be_had(undone: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a registry there is no cluster, and a reason."""
    require_engine()
    monkeypatch.setattr(k3s, "IMAGE", "127.0.0.1:1/no-k3s:1")
    k3s.provide(undone.append)
    assert "127.0.0.1:1" in os.environ[k3s.REFUSED]
    assert (undone, "KUBECONFIG" in os.environ) == ([], False)


def test_an_image_gets_into_the_cluster(
    tmp_path: Path, undone: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, through a file that the node sees."""
    ctr = tmp_path / "ctr"
    ctr.write_text(f'#!/bin/sh\n[ "$1 $2" = "images import" ] && cat "$3" >{tmp_path}/imported.tar\n')
    ctr.chmod(0o755)
    node = container(require_image(), "sleep", "600", volumes={"/bin/ctr:ro": str(ctr)})
    k3s.share(node)
    with node:
        monkeypatch.setenv(k3s.CONTAINER, node.get_container_id())
        assert k3s.load.__wrapped__(require_image()) == require_image()
    with tarfile.open(tmp_path / "imported.tar") as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert f'"{require_image()}"' in manifest.read().decode()


def test_a_command_that_fails() -> None:
    """What it said is in the error."""
    with container(require_image(), "sleep", "600") as node, pytest.raises(OSError, match="exit code 3: oh"):
        k3s.run(node.get_container_id(), "sh", "-c", "echo oh; exit 3")


@pytest.mark.parametrize(
    ("name", "words"), [("helm", "run --rm --network host -e KUBECONFIG"), ("kubectl", "exec -i the-node kubectl")]
)
def test_programs_that_are_not_installed(
    name: str, words: str, tmp_path: Path, undone: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cluster is ours, `helm` and `kubectl` run beside it; elsewhere there is none."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert k3s.program(name, str(tmp_path)) is None
    monkeypatch.setenv(k3s.CONTAINER, "the-node")
    path = k3s.program(name, str(tmp_path))
    assert path is not None
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$@"\n')
    docker.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run([path, "a b", "c"], env=environ, capture_output=True, text=True, check=True).stdout
    assert said.startswith(words)
    assert said.endswith(" a b c\n")

"""A real cluster for what is particular to Jobs and Pods; without KUBECONFIG these tests skip, and in CI fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.rig import KubernetesRig, open_to_tasks
from tests.cluster import CLAIM, Namespace, close_shared, require_image, shared_namespace
from tests.kubernetes.managers import Start


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


@pytest.fixture
def namespace(tmp_path: Path) -> Namespace:
    """Return a namespace whose claim holds the state directory of the test, which is on this machine."""
    os.makedirs(tmp_path / "state")
    open_to_tasks(tmp_path)
    return shared_namespace(str(tmp_path.parent))


@pytest.fixture
def start(tmp_path: Path, namespace: Namespace) -> Iterator[Start]:
    """Start managers of the state directory; what each says is in a file, and none is left."""
    started = []

    def one(name: str, *words: str, **settings: str) -> subprocess.Popen[bytes]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("AIR_")} | {
            "AIR_BACKEND": "kubernetes",
            "AIR_KUBERNETES_CLAIM": CLAIM,
            "AIR_KUBERNETES_SUB_PATH": f"{tmp_path.name}/state",
            "AIR_KUBERNETES_NAMESPACE": namespace.name,
            "AIR_KUBERNETES_LEASE": "true",
            "AIR_KUBERNETES_VISIBILITY": "10ms",
            "AIR_RUNNER_IMAGE": require_image(),
            "AIR_MAX_RUNNERS": "3",
            "AIR_HTTP_PORT": "0",
            **settings,
        }
        command = [sys.executable, "-m", "air_executor", "--state-dir", str(tmp_path / "state"), "manager", *words]
        with open(tmp_path / f"{name}.log", "ab") as log:
            process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log)
        started.append(process)
        return process

    yield one
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
    namespace.clear()

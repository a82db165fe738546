"""A real Kubernetes cluster for tests: the one that KUBECONFIG names, else k3s. Without one tests skip, and in CI fail.

Each test gets a namespace of its own, with a volume claim on a folder of this machine: the cluster's node must be here.
The images are ones that the node has (AIR_TEST_IMAGE, AIR_TEST_MANAGER_IMAGE, AIR_TEST_RUNNER_IMAGE), for such clusters
rarely reach a registry; into k3s, which `tests/k3s.py` starts, they are loaded.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any

from air_executor.backends.container.refusals import ConflictError, MissingError
from air_executor.backends.kubernetes.api import Api
from air_executor.errors import AirExecutorError
from tests import engine, k3s
from tests.conftest import wait_for
from tests.engine import BUSYBOX
from tests.images.rig import image
from tests.lanes import missing, require_service

CLAIM = "state"
SIZE = {"storage": "1Gi"}


def require_image() -> str:
    """Return the image that the cluster's node has."""
    if named := os.environ.get("AIR_TEST_IMAGE"):
        return named
    return k3s.load(engine.require_image()) if k3s.is_ours() else BUSYBOX


def require_manager_image() -> str:
    """Return the manager's image, which the cluster's node has; without it the test is skipped, and in CI fails."""
    return _require("manager")


def require_runner_image() -> str:
    """Return the image `runner`, which has the carrier; as `require_manager_image`."""
    return _require("runner")


def _require(target: str) -> str:
    variable = f"AIR_TEST_{target.upper()}_IMAGE"
    if named := os.environ.get(variable):
        return named
    if not k3s.is_ours():
        missing(f"{variable} is not set: name the image `{target}` that the cluster's nodes have")
    return k3s.load(f"{image(target)}:latest")


def require_cluster() -> None:
    """Make sure that there is a cluster; without one the test is skipped, and in CI fails."""
    require_service("a Kubernetes cluster")
    _find_cluster()


@functools.cache
def _find_cluster() -> None:
    if not os.environ.get("KUBECONFIG"):
        why = os.environ.get(k3s.REFUSED, "`make test-kubernetes` starts k3s if the Docker Engine can pull it")
        missing(
            "KUBECONFIG is not set: these tests need a Kubernetes cluster, and leave yours alone unless you name it; "
            + why
        )
    api = Api(None, 60, 100)
    try:
        api.version()
    except AirExecutorError as error:
        missing(f"no Kubernetes cluster answers: {error}")
    finally:
        api.close()


class Namespace:
    """A namespace with a claim on a folder; what is in it goes with it."""

    def __init__(self, folder: str) -> None:
        require_cluster()
        self.name = f"air-test-{os.getpid()}-{secrets.token_hex(3)}"
        self.api = Api(self.name, 120, 100)
        self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})
        self._volumes: list[str] = []
        shared = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        reference = {"namespace": self.name, "name": CLAIM}
        volume = self.make_volume(folder, {**shared, "claimRef": reference})
        spec = {**shared, "volumeName": volume, "resources": {"requests": SIZE}}
        claim = {"metadata": {"name": CLAIM}, "spec": spec}
        self.ask("POST", f"{self.core}/persistentvolumeclaims", claim)
        wait_for(self._is_ready, timeout=180, what="the claim to be bound")

    def make_volume(self, folder: str, spec: Mapping[str, Any]) -> str:
        """Make a volume on a folder, which goes with the namespace; return its name."""
        name = f"{self.name}-{len(self._volumes)}"
        whole = {
            "capacity": SIZE,
            "hostPath": {"path": folder, "type": "Directory"},
            "persistentVolumeReclaimPolicy": "Retain",
            **spec,
        }
        self.ask("POST", "/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": whole})
        self._volumes.append(name)

        def is_available() -> bool:
            volume = self.ask("GET", f"/api/v1/persistentvolumes/{name}")
            return bool(volume["status"].get("phase") == "Available")

        wait_for(is_available, timeout=180, what="the volume to be available")  # else a claim waits for a resync
        return name

    @property
    def core(self) -> str:
        """The path of the namespace's own objects."""
        return f"/api/v1/namespaces/{self.name}"

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str) -> dict[str, Any]:
        """Make any request; raises as the backend's own do."""
        return self.api.ask(method, path, query, body=body)

    def jobs(self) -> list[dict[str, Any]]:
        """Return all Jobs."""
        found: list[dict[str, Any]] = self.ask("GET", f"/apis/batch/v1/namespaces/{self.name}/jobs")["items"]
        return found

    def pods(self) -> list[dict[str, Any]]:
        """Return all Pods."""
        found: list[dict[str, Any]] = self.ask("GET", f"{self.core}/pods")["items"]
        return found

    def secrets(self) -> list[dict[str, Any]]:
        """Return the Secrets of runs."""
        ours = "app.kubernetes.io/managed-by=air-executor"
        found: list[dict[str, Any]] = self.ask("GET", f"{self.core}/secrets", labelSelector=ours)["items"]
        return found

    def _is_ready(self) -> bool:
        claim = self.ask("GET", f"{self.core}/persistentvolumeclaims/{CLAIM}")
        try:
            self.ask("GET", f"{self.core}/serviceaccounts/default")
        except MissingError:
            return False
        return bool(claim["status"].get("phase") == "Bound")

    def clear(self, selector: str = "") -> None:
        """Delete all Jobs and Pods with these labels, at once."""
        now = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        for path in (f"/apis/batch/v1/namespaces/{self.name}/jobs", f"{self.core}/pods"):
            self.ask("DELETE", path, now, labelSelector=selector)

    def close(self) -> None:
        """Delete everything; the cluster takes some seconds more to clear it away."""
        self.clear()
        volumes = [f"/api/v1/persistentvolumes/{name}" for name in self._volumes]
        for path in (f"/api/v1/namespaces/{self.name}", *volumes):
            with contextlib.suppress(MissingError, ConflictError):
                self.ask("DELETE", path)
        self.api.close()


def address_for_pods(space: Namespace) -> str:
    """Return the address of this machine at which pods reach it: that from which it reaches their node."""
    (node, *_) = space.ask("GET", "/api/v1/nodes")["items"]
    (inner, *_) = [one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((inner, 9))
        return str(probe.getsockname()[0])


def free_port(host: str) -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


_SHARED: dict[str, Namespace] = {}


def shared_namespace(folder: str) -> Namespace:
    """Return the namespace for a folder, made at the first call: for tests that only need part of it each."""
    if folder not in _SHARED:
        _SHARED[folder] = Namespace(folder)
    return _SHARED[folder]


def close_shared() -> None:
    """Delete the namespaces that tests have shared."""
    while _SHARED:
        _SHARED.popitem()[1].close()

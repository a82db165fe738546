"""A namespace of a real Kubernetes cluster to measure in, with a claim on the measured folder; its node must be here.

`jobs.py` uses it. Knows nothing of what is measured.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from benchmarks.place import Place

CLAIM = "state"
PATIENCE = 300.0


def image() -> str:
    """Return the image of the tasks: one that the node has."""
    return os.environ.get("AIR_TEST_IMAGE", "python:3.12-slim")


def missing() -> str | None:
    """Return why Jobs cannot be measured, or None."""
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG names no cluster, and yours is left alone unless you name it"
    try:
        from air_executor.backends.kubernetes.api import Api  # noqa: PLC0415 - not everybody has the client library
    except ImportError:
        return "the Kubernetes client is not installed: pip install 'air-executor[kubernetes]'"
    from air_executor.errors import AirExecutorError  # noqa: PLC0415

    api = Api(None, 10, 100)
    try:
        api.version()
    except AirExecutorError as error:
        return f"no cluster answers: {error}"
    finally:
        api.close()
    return None


class Namespace:
    """A namespace with a claim on the folder where everything measured lies; gone when the `with` ends."""

    def __init__(self) -> None:
        from air_executor.backends.container.refusals import MissingError  # noqa: PLC0415 - see `missing`
        from air_executor.backends.kubernetes.api import Api  # noqa: PLC0415 - see `missing`

        self._missing = MissingError
        self.name = f"air-bench-{secrets.token_hex(4)}"
        self.folder = tempfile.gettempdir()
        self.api = Api(self.name, 30, 1000)

    def __enter__(self) -> Self:
        where = f"/api/v1/namespaces/{self.name}"
        self._ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})
        shared = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        size = {"storage": "1Gi"}
        volume = {
            **shared,
            "capacity": size,
            "hostPath": {"path": self.folder, "type": "Directory"},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": self.name, "name": CLAIM},
        }
        self._ask("POST", "/api/v1/persistentvolumes", {"metadata": {"name": self.name}, "spec": volume})
        claim = {**shared, "volumeName": self.name, "resources": {"requests": size}}
        self._ask("POST", f"{where}/persistentvolumeclaims", {"metadata": {"name": CLAIM}, "spec": claim})
        await_until(lambda: self._is("Bound", f"{where}/persistentvolumeclaims/{CLAIM}"), "the claim is not bound")
        await_until(lambda: self._is(None, f"{where}/serviceaccounts/default"), "there is no service account")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in (f"/api/v1/namespaces/{self.name}", f"/api/v1/persistentvolumes/{self.name}"):
            with contextlib.suppress(self._missing):
                self._ask("DELETE", path)
        self.api.close()

    def settle(self) -> None:
        """Wait until the cluster has cleared away the Pods of what was measured last, which costs the node as well."""
        from air_executor.backends.kubernetes.api import pods  # noqa: PLC0415 - see `missing`

        await_until(lambda: not self.api.list(pods(self.name), "")[0], "the pods do not go")

    def _is(self, phase: str | None, path: str) -> bool:
        try:
            found = self._ask("GET", path)
        except self._missing:
            return False
        return phase is None or found["status"].get("phase") == phase

    def node_address(self) -> str:
        """Return the address of the cluster's node."""
        [node, *_] = self._ask("GET", "/api/v1/nodes")["items"]
        found = {one["type"]: one["address"] for one in node["status"]["addresses"]}
        return str(found["InternalIP"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.api.ask(method, path, body=body)


def await_until(reached: Callable[[], bool], what: str) -> None:
    """Wait for something that the cluster does."""
    until = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > until:
            raise RuntimeError(what)
        time.sleep(0.2)


class JobsPlace(Place):
    """A place whose runners are Jobs of the namespace, and whose manager tells what it has asked of the cluster."""

    def __init__(self, namespace: Namespace, port: int, **settings: str) -> None:
        super().__init__(AIR_BACKEND="kubernetes", AIR_HTTP_PORT=str(port), **settings)
        self.env |= {
            "AIR_RUNNER_IMAGE": image(),
            "AIR_KUBERNETES_NAMESPACE": namespace.name,
            "AIR_KUBERNETES_CLAIM": CLAIM,
            "AIR_KUBERNETES_SUB_PATH": os.path.relpath(self.layout.root, namespace.folder),
            "AIR_KUBERNETES_PULL": "never",
            "AIR_KUBERNETES_CPU_REQUEST": "0.01",  # as many as measured shall fit on the node
            "AIR_KUBERNETES_MEMORY_REQUEST": "1Mi",
            "AIR_KUBERNETES_RATE": "1000",  # what is measured is the work, not our limit to it
        }


class Ends:
    """The moments at which the server's stream tells that Pods have ended; waits for them. Needs one request."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace.name
        self.seen: dict[str, tuple[float, str]] = {}
        """By the Job's uid: when, Unix seconds, and its run."""
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def following(self) -> Iterator[Self]:
        """Follow the stream until the `with` ends."""
        from air_executor.backends.kubernetes.api import Api, pods  # noqa: PLC0415 - see `missing`

        resource = pods(self._namespace)
        api = Api(self._namespace, 30, 1000)
        _, version = api.list(resource, "")

        def collect(events: Iterator[dict[str, Any]]) -> None:
            for event in events:
                self._take(event["object"])

        with api.watch(resource, "", version, seconds=3600, silence=3600) as events:
            thread = threading.Thread(target=collect, args=(events,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                api.close()
                thread.join()

    def _take(self, pod: dict[str, Any]) -> None:
        from air_executor.backends.kubernetes.manifests import RUN  # noqa: PLC0415 - see `missing`
        from air_executor.backends.kubernetes.object_status import read_pod  # noqa: PLC0415

        if "labels" not in pod["metadata"]:
            return  # a bookmark
        found = read_pod(pod)
        if found.termination is not None and found.job_uid not in self.seen:
            with self._changed:
                self.seen[found.job_uid] = (time.time(), pod["metadata"]["labels"][RUN])
                self._changed.notify_all()

    def wait(self, job_uid: str) -> float:
        """Wait for the end of a Job's Pod; return when it was seen."""
        with self._changed:
            if not self._changed.wait_for(lambda: job_uid in self.seen, PATIENCE):
                msg = f"the pod of job {job_uid} does not end"
                raise RuntimeError(msg)
        return self.seen[job_uid][0]

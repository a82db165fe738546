"""The requests to the Kubernetes API that we make: Jobs, Pods, events, Leases, versions and permissions.

Objects are plain JSON. Knows kinds of objects and where they are, but not what they mean for a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from air_executor.backends.kubernetes.api_connection import JSON, ApiConnection, PodProcess, Resource

PAGE = 500
"""Objects per page of a list."""
_LOG_LINES, _LOG_BYTES = 100_000, 10 << 20
"""How much of a service's log is kept."""
_NO_LOG = b"unable to retrieve container logs for "
"""How a kubelet begins instead of an error where the runtime has removed the container (`GetKubeletContainerLogs`)."""
_KUEUE = "kueue.x-k8s.io"
_LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}


class Propagation(Enum):
    """What becomes of the Pods of a deleted Job."""

    FOREGROUND = "Foreground"
    """They are deleted, and the Job's name stays taken until they are gone."""
    BACKGROUND = "Background"
    """They are deleted; the name is free at once."""
    ORPHAN = "Orphan"
    """They stay, and the name is free once the server has made them nobody's."""


def jobs(namespace: str) -> Resource:
    """Return the Jobs of a namespace, their metadata alone."""
    accept = f"{JSON};as={{}};g=meta.k8s.io;v=v1"
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    return Resource(path, accept.format("PartialObjectMetadataList"), accept.format("PartialObjectMetadata"))


def pods(namespace: str) -> Resource:
    """Return the Pods of a namespace, in full."""
    return Resource(f"/api/v1/namespaces/{namespace}/pods", JSON, JSON)


class Api(ApiConnection):
    """The requests to one API server, in one namespace. Each raises as `ApiConnection.ask` does."""

    @property
    def _leases(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    def version(self) -> tuple[int, int]:
        """Return the server's version, such as (1, 31)."""
        found = self.ask("GET", "/version")
        return int(found["major"]), int("".join(filter(str.isdecimal, found["minor"])))

    def is_allowed(self, group: str, resource: str, verb: str) -> bool:
        """Tell whether we may do this in our namespace."""
        attributes = {"namespace": self.namespace, "group": group, "resource": resource, "verb": verb}
        body = {"spec": {"resourceAttributes": attributes}}
        found = self.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        return bool(found["status"]["allowed"])

    def create_job(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Job and return it as the server has it.

        Raises:
            ConflictError: the name is taken.
        """
        return self.ask("POST", jobs(self.namespace).path, body=body)

    def read_job(self, name: str) -> dict[str, Any]:
        """Return a Job as it is now."""
        return self.ask("GET", f"{jobs(self.namespace).path}/{name}")

    def delete_job(self, name: str, uid: str, policy: Propagation) -> bool:
        """Delete a Job. True if it is gone; False if it goes once the server has done the rest.

        Args:
            name: the Job's name.
            uid: the Job's uid; a later Job of the same name is not touched.
            policy: what becomes of its pods.

        Raises:
            MissingError, ConflictError: it is gone already.
        """
        body = {"propagationPolicy": policy.value, "preconditions": {"uid": uid}}
        return self.ask("DELETE", f"{jobs(self.namespace).path}/{name}", body=body).get("kind") == "Status"

    def delete_pod(self, name: str, uid: str, *, grace: int | None = None) -> None:
        """Delete a Pod. `grace` replaces its own, in seconds; 0 drops it without waiting for its node.

        Raises:
            MissingError, ConflictError: it is gone already.
        """
        body: dict[str, Any] = {"preconditions": {"uid": uid}}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        self.ask("DELETE", f"{pods(self.namespace).path}/{name}", body=body)

    def create_secret(self, body: Mapping[str, Any]) -> None:
        """Create a Secret.

        Raises:
            ConflictError: the name is taken.
        """
        self.ask("POST", f"/api/v1/namespaces/{self.namespace}/secrets", body=body)

    def patch_pod(self, name: str, body: Mapping[str, Any]) -> None:
        """Change a Pod by a strategic merge patch.

        Raises:
            MissingError: it is gone.
        """
        self.ask("PATCH", f"{pods(self.namespace).path}/{name}", body=body)

    def read_deployment(self, name: str) -> dict[str, Any]:
        """Return a Deployment as it is now."""
        return self.ask("GET", f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}")

    def read_lease(self, name: str) -> dict[str, Any]:
        """Return a Lease as it is now."""
        return self.ask("GET", f"{self._leases}/{name}")

    def create_lease(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Lease and return it as the server has it.

        Raises:
            ConflictError: the name is taken.
        """
        return self.ask("POST", self._leases, body={**_LEASE, **body})

    def replace_lease(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a Lease of the version that the body names, and return it as the server has it.

        Raises:
            ConflictError: its version has changed.
        """
        return self.ask("PUT", f"{self._leases}/{name}", body={**_LEASE, **body})

    def events_of(self, uid: str) -> list[dict[str, Any]]:
        """Return the recent events of one object."""
        query = {"fieldSelector": f"involvedObject.uid={uid}"}
        return list(self.ask("GET", f"/api/v1/namespaces/{self.namespace}/events", query)["items"] or ())

    def workloads_of(self, uid: str) -> list[dict[str, Any]]:
        """Return the Workloads of Kueue for a Job, by the label that Kueue gives them.

        Raises:
            MissingError: the cluster has no Kueue.
        """
        version = self.ask("GET", f"/apis/{_KUEUE}")["preferredVersion"]["groupVersion"]
        query = {"labelSelector": f"{_KUEUE}/job-uid={uid}"}
        return list(self.ask("GET", f"/apis/{version}/namespaces/{self.namespace}/workloads", query)["items"] or ())

    def container_log(self, pod: str, container: str, *, previous: bool = False) -> bytes:
        """Return the end of a container's log; with `previous`, of what it was before its node started it again."""
        query = {"container": container, "tailLines": str(_LOG_LINES), "limitBytes": str(_LOG_BYTES)}
        query |= {"previous": "true"} if previous else {}
        text = self._read_bytes(f"{pods(self.namespace).path}/{pod}/log", query)
        return b"" if text.startswith(_NO_LOG) and b"\n" not in text else text

    def execute(self, pod: str, container: str, command: Sequence[str], *, tty: bool) -> PodProcess:
        """Start a program in a container of a pod: with a terminal, or without stdin."""
        return self._open_process(pod, container, command, self.namespace, tty=tty)

    def list(self, resource: Resource, selector: str) -> tuple[list[dict[str, Any]], str]:
        """Return all objects with these labels, read page by page, and the version from which to watch.

        Raises:
            ExpiredError: it took too long; start over.
        """
        items: list[dict[str, Any]] = []
        query = {"labelSelector": selector, "limit": str(PAGE)}
        while True:
            page = self.ask("GET", resource.path, query, accept=resource.list_as)
            items += page["items"] or ()
            if not (more := page["metadata"].get("continue")):
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = more

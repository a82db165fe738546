"""The Kubernetes API: the requests that we make, and its failures as ours.

The only module that imports the client library, of which it uses the configuration, the credentials and the transport;
bodies stay plain JSON, so that a server may know fields that the library does not. Every request has a timeout. May be
used from several threads. Knows Jobs, Pods and their events as objects, but not what they mean for a run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.config import ConfigException

from air_executor.backends.base import Requested
from air_executor.backends.kubernetes.rate_limiter import RateLimiter
from air_executor.errors import AirExecutorError, BackendUnavailableError, BadInputError

log = logging.getLogger(__name__)

PAGE = 500
"""Objects of one answer to a list."""
CONNECTIONS = 12
"""Kept open; each watch has one of its own."""
PATIENCE_SECONDS = 10.0
"""How long a request waits where the server asks for pauses, before it counts as not answered."""
_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
_JSON = "application/json"
_LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
_UNAUTHORIZED, _NOT_FOUND, _CONFLICT, _GONE, _TOO_MANY, _ERRORS = 401, 404, 409, 410, 429, 500
_FAILURES = (urllib3.exceptions.HTTPError, ConfigException, OSError, ValueError)
"""What the library and the transport below it raise when there is no answer, or one that is no JSON."""
_KEEPALIVE = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
for _name, _value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
    if hasattr(socket, _name):  # not on every system
        _KEEPALIVE.append((socket.IPPROTO_TCP, getattr(socket, _name), _value))


class RefusedError(AirExecutorError):
    """The server said no; `status` is its HTTP status, `reason` its word for it, the message its own words."""

    def __init__(self, words: str, status: int, reason: str = "") -> None:
        super().__init__(words)
        self.status = status
        self.reason = reason


class MissingError(RefusedError):
    """There is no such object."""


class ConflictError(RefusedError):
    """The name is taken, or is now that of another object than the one that was meant."""


class ExpiredError(RefusedError):
    """The version to go on from is too old: list anew."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Objects that can be listed and watched."""

    path: str
    list_as: str
    """The media type of a list."""
    watch_as: str


def jobs(namespace: str) -> Resource:
    """Return the Jobs of a namespace, of each its metadata alone."""
    accept = f"{_JSON};as={{}};g=meta.k8s.io;v=v1"
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    return Resource(path, accept.format("PartialObjectMetadataList"), accept.format("PartialObjectMetadata"))


def pods(namespace: str) -> Resource:
    """Return the Pods of a namespace, in full."""
    return Resource(f"/api/v1/namespaces/{namespace}/pods", _JSON, _JSON)


class Api:
    """One API server, seen from one namespace."""

    def __init__(self, namespace: str | None, timeout: float, rate: float) -> None:
        self._client, found = _connect()
        self.namespace = namespace or found
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"
        self._timeout = timeout
        self._pace = RateLimiter(rate)
        self._closed = threading.Event()
        self.before_write: Callable[[], None] = lambda: None
        """Called before each request that changes something; where it raises, the request is not made."""
        self.requested: Requested = lambda _verb, _code: None
        """Called after each request, from any thread."""
        self._lock = threading.Lock()
        self._streams: list[urllib3.response.BaseHTTPResponse] = []

    # Requests

    def version(self) -> tuple[int, int]:
        """Return the server's version, as (1, 31)."""
        found = self._ask("GET", "/version")
        return int(found["major"]), int("".join(filter(str.isdecimal, found["minor"])))

    def is_allowed(self, group: str, resource: str, verb: str) -> bool:
        """Tell whether we may do this in our namespace."""
        attributes = {"namespace": self.namespace, "group": group, "resource": resource, "verb": verb}
        body = {"spec": {"resourceAttributes": attributes}}
        found = self._ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        return bool(found["status"]["allowed"])

    def create_job(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Job and return it as the server has it.

        Raises:
            ConflictError: the name is taken.
        """
        return self._ask("POST", jobs(self.namespace).path, body=body)

    def read_job(self, name: str) -> dict[str, Any]:
        """Return a Job as it is now."""
        return self._ask("GET", f"{jobs(self.namespace).path}/{name}")

    def delete_job(self, name: str, uid: str, *, wait_for_pods: bool) -> bool:
        """Delete a Job and its pods. True if it is gone by now; False if it goes once the server has cleared up.

        Args:
            name: of the Job.
            uid: of the very Job that is meant; one that has the name since is left alone.
            wait_for_pods: the name stays taken until its pods are gone.

        Raises:
            MissingError, ConflictError: it is gone already.
        """
        policy = "Foreground" if wait_for_pods else "Background"
        body = {"propagationPolicy": policy, "preconditions": {"uid": uid}}
        return self._ask("DELETE", f"{jobs(self.namespace).path}/{name}", body=body).get("kind") == "Status"

    def delete_pod(self, name: str, uid: str, *, grace: int | None = None) -> None:
        """Delete a Pod. `grace`: in seconds, other than its own; 0 forgets it, whatever its node says.

        Raises:
            MissingError, ConflictError: it is gone already.
        """
        body: dict[str, Any] = {"preconditions": {"uid": uid}}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        self._ask("DELETE", f"{pods(self.namespace).path}/{name}", body=body)

    def read_deployment(self, name: str) -> dict[str, Any]:
        """Return a Deployment as it is now."""
        return self._ask("GET", f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}")

    def read_lease(self, name: str) -> dict[str, Any]:
        """Return a Lease as it is now."""
        return self._ask("GET", f"{self._leases}/{name}")

    def create_lease(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Lease and return it as the server has it.

        Raises:
            ConflictError: the name is taken.
        """
        return self._ask("POST", self._leases, body={**_LEASE, **body})

    def replace_lease(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write a Lease over the one of the version that the body names, and return it as the server has it.

        Raises:
            ConflictError: it is of another version by now.
        """
        return self._ask("PUT", f"{self._leases}/{name}", body={**_LEASE, **body})

    def events_of(self, uid: str) -> list[dict[str, Any]]:
        """Return what the cluster has noted of one object lately."""
        query = {"fieldSelector": f"involvedObject.uid={uid}"}
        return list(self._ask("GET", f"/api/v1/namespaces/{self.namespace}/events", query)["items"] or ())

    def list(self, resource: Resource, selector: str) -> tuple[list[dict[str, Any]], str]:
        """Return all objects with these labels, page by page, and the version from which to watch.

        Raises:
            ExpiredError: it took too long; begin again.
        """
        items: list[dict[str, Any]] = []
        query = {"labelSelector": selector, "limit": str(PAGE)}
        while True:
            page = self._ask("GET", resource.path, query, accept=resource.list_as)
            items += page["items"] or ()
            if not (more := page["metadata"].get("continue")):
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = more

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        accept: str = _JSON,
    ) -> dict[str, Any]:
        """Make one request; where the server asks for a pause, make it again after that.

        Raises:
            RefusedError: the server said no.
            BackendUnavailableError: it did not answer in time, cannot be reached, or has an error of its own.
        """
        what = f"{method} {path}"
        patience = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._pace.wait(self._closed)
            if method != "GET":
                self.before_write()
            try:
                response = self._send(method, path, query, body, accept, self._timeout)
                found = json.loads(response.data or b"{}")
            except _FAILURES as error:
                raise self._silence(what, error) from error
            if response.status == _TOO_MANY and not self._closed.is_set():
                seconds = _retry_after(response)
                now = time.monotonic()
                self._pause(seconds, what)
                if now + seconds < patience:
                    continue
            if response.status >= 400:  # noqa: PLR2004 - where HTTP's refusals begin
                raise _refusal(what, response.status, found)
            return dict(found)

    def _send(  # noqa: PLR0917 - what a request is made of
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        accept: str,
        silence: float,
    ) -> urllib3.response.BaseHTTPResponse:
        """Send one request; `silence` is how many seconds may pass without a byte of its answer."""
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = _JSON
        request = self._client.param_serialize(
            method, path, None, list((query or {}).items()), headers, body, auth_settings=["BearerToken"]
        )
        code = "none"
        try:
            answer = self._client.call_api(*request, _request_timeout=(self._timeout, silence))
            response: urllib3.response.BaseHTTPResponse = answer.response
            code = str(response.status)
            return response
        finally:
            self.requested(_verb(method, query or {}), code)

    def _pause(self, seconds: float, what: str) -> None:
        log.warning("the API server asks for a pause of %.1f s (%s)", seconds, what)
        self._pace.pause(seconds, time.monotonic())

    def _silence(self, what: str, error: Exception) -> BackendUnavailableError:
        host = self._client.configuration.host
        remedy = "does it run, and is KUBECONFIG right?"
        return BackendUnavailableError(
            f"the Kubernetes API server {host} does not answer ({what}: {_brief(error)}); {remedy}"
        )

    # Watching

    @contextlib.contextmanager
    def watch(
        self, resource: Resource, selector: str, version: str, *, seconds: int, silence: float
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """Open a stream of what happens to objects after a version, for about so many seconds.

        It ends early, without a word, when the connection breaks or brings nothing for `silence` seconds: whether there
        still is a server shows when it is opened again. Its ERROR events raise as refusals do.

        Raises:
            ExpiredError: the version is too old.
            RefusedError, BackendUnavailableError: as every request.
        """
        query = {
            "labelSelector": selector,
            "resourceVersion": version,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        what = f"watch {resource.path}"
        self._pace.wait(self._closed)
        try:
            response = self._send("GET", resource.path, query, None, resource.watch_as, silence)
            failed = json.loads(response.data or b"{}") if response.status != 200 else None  # noqa: PLR2004 - OK
        except _FAILURES as error:
            raise self._silence(what, error) from error
        if failed is not None:
            if response.status == _TOO_MANY:
                self._pause(_retry_after(response), what)
            raise _refusal(what, response.status, failed)
        with self._lock:
            self._streams.append(response)
        try:
            if not self._closed.is_set():
                yield _events(response, what)
        finally:
            with self._lock:
                self._streams.remove(response)
            with contextlib.suppress(*_FAILURES):
                response.close()

    def close(self) -> None:
        """End all streams and close all connections; what still waits for an answer gets none."""
        self._closed.set()
        with self._lock:
            for stream in self._streams:
                with contextlib.suppress(*_FAILURES, RuntimeError):
                    stream.shutdown()
        self._client.rest_client.close()


def _connect() -> tuple[client.ApiClient, str]:
    """Return a client with the credentials of the pod that we are in, or else of KUBECONFIG, and its namespace.

    Raises:
        BadInputError: there are none.
    """
    settings = client.Configuration()
    namespace = "default"
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            config.load_incluster_config(client_configuration=settings)
            with open(_NAMESPACE_FILE, encoding="ascii") as file:
                namespace = file.read().strip()
        else:
            file_name = os.environ.get("KUBECONFIG")  # the library looks only when it is imported
            config.load_kube_config(file_name, client_configuration=settings, persist_config=False)
            namespace = config.list_kube_config_contexts(file_name)[1]["context"].get("namespace") or namespace
    except (ConfigException, OSError) as error:
        msg = f"there is no access to a Kubernetes cluster: {_brief(error)}; set KUBECONFIG, or run in a pod"
        raise BadInputError(msg) from error
    settings.retries = False
    settings.socket_options = _KEEPALIVE
    settings.connection_pool_maxsize = CONNECTIONS
    return client.ApiClient(settings), namespace


def _events(response: urllib3.response.BaseHTTPResponse, what: str) -> Iterator[dict[str, Any]]:
    rest = b""
    try:
        for chunk in response.stream(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not line:
                    continue
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _refusal(what, int(event["object"].get("code") or _ERRORS), event["object"])
                yield event
    except _FAILURES as error:
        log.debug("%s ended: %s", what, _brief(error))


def _verb(method: str, query: Mapping[str, str]) -> str:
    if method == "GET":
        return "watch" if "watch" in query else "list" if query else "get"
    return {"POST": "create", "PUT": "update"}.get(method, method.lower())


def _refusal(what: str, status: int, found: Mapping[str, Any]) -> AirExecutorError:
    words, reason = str(found.get("message") or found), str(found.get("reason") or "")
    if status == _UNAUTHORIZED:
        return BackendUnavailableError(f"the Kubernetes API server does not accept our credentials ({what}: {words})")
    if status == _TOO_MANY or status >= _ERRORS:
        return BackendUnavailableError(f"the Kubernetes API server cannot answer ({what}: {status} {words})")
    kinds = {_NOT_FOUND: MissingError, _CONFLICT: ConflictError, _GONE: ExpiredError}
    return kinds.get(status, RefusedError)(words, status, reason)


def _retry_after(response: urllib3.response.BaseHTTPResponse) -> float:
    """Return for how many seconds the server asks to be left alone; some ask without a number."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else 1.0


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

"""A connection to a Kubernetes API server: sends requests and opens watches, and turns failures into our own errors.

The only module that imports the client library, of which it uses the configuration, the credentials and the transport.
Bodies stay plain JSON, so that a server may know fields that the library does not. Every request has a timeout. May be
used from several threads. Knows no kinds of objects: those are in `api`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client, config, stream
from kubernetes.config import ConfigException
from websocket import WebSocketException

from air_executor.backends.base import Requested
from air_executor.backends.container.platform_text import describe_error
from air_executor.backends.container.refusals import CONFLICT, NOT_FOUND, ConflictError, MissingError, RefusedError
from air_executor.backends.kubernetes.rate_limiter import RateLimiter
from air_executor.errors import AirExecutorError, BackendUnavailableError, BadInputError

log = logging.getLogger(__name__)

JSON = "application/json"
_PATCH = "application/strategic-merge-patch+json"
CONNECTIONS = 12
"""Kept open; each watch uses one of its own."""
MAX_PAUSE_SECONDS = 10.0
"""How long a request is held back at the server's demand before it counts as unanswered."""
_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
_UNAUTHORIZED, _GONE, _TOO_MANY, _ERRORS = 401, 410, 429, 500
_FAILURES = (urllib3.exceptions.HTTPError, ConfigException, OSError, ValueError)
"""What the library and the transport below it raise when there is no answer, or none in JSON."""
_HANDSHAKE = re.compile(r"Handshake status (\d{3}) ([^-+]*)")
_KEEPALIVE = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
for _name, _value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
    if hasattr(socket, _name):  # not on every system
        _KEEPALIVE.append((socket.IPPROTO_TCP, getattr(socket, _name), _value))


class ExpiredError(RefusedError):
    """The version to resume from is too old: list again."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of objects that can be listed and watched."""

    path: str
    list_as: str
    """Media type of a list."""
    watch_as: str


class ApiConnection:
    """One API server, used in one namespace."""

    def __init__(self, namespace: str | None, timeout: float, rate: float) -> None:
        self._client, found = _connect()
        self.namespace = namespace or found
        self._timeout = timeout
        self._rate_limiter = RateLimiter(rate)
        self._closed = threading.Event()
        self.before_write: Callable[[], None] = lambda: None
        """Called before each request that changes something; if it raises, the request is not sent."""
        self.requested: Requested = lambda _verb, _code: None
        """Called after each request, from any thread."""
        self._lock = threading.Lock()
        self._streams: list[urllib3.response.BaseHTTPResponse] = []

    @property
    def server(self) -> str:
        """The address of the server."""
        return str(self._client.configuration.host)

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        accept: str = JSON,
    ) -> dict[str, Any]:
        """Make one request; if the server asks for a pause, repeat it after that.

        Raises:
            RefusedError: the server refused it.
            BackendUnavailableError: it did not answer in time, cannot be reached, or has an internal error.
        """
        what = f"{method} {path}"
        until = time.monotonic() + MAX_PAUSE_SECONDS
        while True:
            self._rate_limiter.wait(self._closed)
            if method != "GET":
                self.before_write()
            try:
                response = self.send(method, path, query, body, accept, self._timeout)
                found = _content(response)
            except _FAILURES as error:
                raise self._unavailable(what, error) from error
            if response.status == _TOO_MANY and not self._closed.is_set():
                seconds = _retry_after(response)
                now = time.monotonic()
                self._pause(seconds, what)
                if now + seconds < until:
                    continue
            if response.status >= 400:  # noqa: PLR2004 - where HTTP's refusals begin
                raise _refusal(what, response.status, found)
            return found

    def _read_bytes(self, path: str, query: Mapping[str, str]) -> bytes:
        """Return what is no JSON; raises as `ask`."""
        what = f"GET {path}"
        self._rate_limiter.wait(self._closed)
        try:
            response = self.send("GET", path, query, None, "*/*", self._timeout)
            data: bytes = response.data or b""
            failed = json.loads(data or b"{}") if response.status >= 400 else None  # noqa: PLR2004 - HTTP's refusals
        except _FAILURES as error:
            raise self._unavailable(what, error) from error
        if failed is not None:
            raise _refusal(what, response.status, failed)
        return data

    def send(  # noqa: PLR0917 - what a request is made of
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        accept: str,
        silence: float,
    ) -> urllib3.response.BaseHTTPResponse:
        """Send one request; `silence` is the longest time without a byte of the answer, in seconds."""
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = _PATCH if method == "PATCH" else JSON
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
        self._rate_limiter.pause(seconds, time.monotonic())

    def _unavailable(self, what: str, error: Exception) -> BackendUnavailableError:
        host = self._client.configuration.host
        remedy = "does it run, and is KUBECONFIG right?"
        return BackendUnavailableError(
            f"the Kubernetes API server {host} does not answer ({what}: {describe_error(error)}); {remedy}"
        )

    # Watching

    @contextlib.contextmanager
    def watch(
        self, resource: Resource, selector: str, version: str, *, seconds: int, silence: float
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """Open a stream of the changes to objects after a version, for about so many seconds.

        The stream ends early, without an error, when the connection breaks or is silent for `silence` seconds: opening
        it again shows whether the server is up. Its ERROR events raise as refusals do.

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
        self._rate_limiter.wait(self._closed)
        try:
            response = self.send("GET", resource.path, query, None, resource.watch_as, silence)
            failed = json.loads(response.data or b"{}") if response.status != 200 else None  # noqa: PLR2004 - OK
        except _FAILURES as error:
            raise self._unavailable(what, error) from error
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

    def _open_process(
        self, pod: str, container: str, command: Sequence[str], namespace: str, *, tty: bool
    ) -> PodProcess:
        """Start a program in a container of a pod: with a terminal, or without stdin; raises as `ask`."""
        what = f"exec in pod {pod}"
        try:
            opened = stream.stream(
                client.CoreV1Api(self._client).connect_get_namespaced_pod_exec,
                pod,
                namespace,
                container=container,
                command=list(command),
                stdin=tty,
                stdout=True,
                stderr=not tty,
                tty=tty,
                binary=True,
                _preload_content=False,
            )
        except client.ApiException as error:
            status = _HANDSHAKE.search(str(error.reason))
            if status is None:
                raise self._unavailable(what, error) from error
            raise _refusal(what, int(status[1]), {"message": f"{what}: {status[1]} {status[2]}"}) from error
        except _FAILURES as error:
            raise self._unavailable(what, error) from error
        return PodProcess(self, opened)

    def close(self) -> None:
        """End all streams and close all connections; requests in flight get no answer."""
        self._closed.set()
        with self._lock:
            for stream in self._streams:
                with contextlib.suppress(*_FAILURES, RuntimeError):
                    stream.shutdown()
        self._client.rest_client.close()


class PodProcess:
    """A program in a container of a pod; see `RemoteProcess`."""

    def __init__(self, connection: ApiConnection, opened: stream.ws_client.WSClient) -> None:
        self._connection = connection
        self._stream = opened

    def output(self) -> Iterator[tuple[int, bytes]]:
        """See `RemoteProcess`."""
        try:
            while True:
                is_open = self._stream.is_open()
                self._stream.update(timeout=1)
                for number in (stream.ws_client.STDOUT_CHANNEL, stream.ws_client.STDERR_CHANNEL):
                    if data := self._stream.read_channel(number):
                        yield number, data
                if not is_open:
                    return
        except (*_FAILURES, WebSocketException) as error:
            msg = f"the connection to the pod broke: {describe_error(error)}"
            raise BackendUnavailableError(msg) from error

    def send(self, data: bytes) -> None:
        """See `RemoteProcess`."""
        self._write(stream.ws_client.STDIN_CHANNEL, data)

    def resize(self, rows: int, columns: int) -> None:
        """See `RemoteProcess`."""
        size = json.dumps({"Height": rows, "Width": columns})
        self._write(stream.ws_client.RESIZE_CHANNEL, size.encode())

    def _write(self, channel: int, data: bytes) -> None:
        with contextlib.suppress(OSError, WebSocketException):  # it has ended
            self._stream.write_channel(channel, data)

    def exit_code(self) -> int:
        """See `RemoteProcess`."""
        found = json.loads(self._stream.read_channel(stream.ws_client.ERROR_CHANNEL) or b"{}")
        if found.get("status") == "Success":
            return 0
        for cause in (found.get("details") or {}).get("causes") or ():
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        msg = found.get("message") or "the run has ended, and the shell with it"
        raise BackendUnavailableError(msg)

    def close(self) -> None:
        """See `RemoteProcess`."""
        self._stream.sock.shutdown()  # its own `close` does nothing once the server has closed
        self._connection.close()


def _connect() -> tuple[client.ApiClient, str]:
    """Return a client with the credentials of our own pod, or else of KUBECONFIG, and its namespace.

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
            file_name = os.environ.get("KUBECONFIG")  # the library reads it only when it is imported
            config.load_kube_config(file_name, client_configuration=settings, persist_config=False)
            namespace = config.list_kube_config_contexts(file_name)[1]["context"].get("namespace") or namespace
    except (ConfigException, OSError) as error:
        msg = f"there is no access to a Kubernetes cluster: {describe_error(error)}; set KUBECONFIG, or run in a pod"
        raise BadInputError(msg) from error
    settings.retries = False
    settings.socket_options = _KEEPALIVE
    settings.connection_pool_maxsize = CONNECTIONS
    return client.ApiClient(settings), namespace


def _events(response: urllib3.response.BaseHTTPResponse, what: str) -> Iterator[dict[str, Any]]:
    partial = b""
    try:
        for chunk in response.stream(65536):
            *lines, partial = (partial + chunk).split(b"\n")
            for line in lines:
                if not line:
                    continue
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _refusal(what, int(event["object"].get("code") or _ERRORS), event["object"])
                yield event
    except _FAILURES as error:
        log.debug("%s ended: %s", what, describe_error(error))


def _verb(method: str, query: Mapping[str, str]) -> str:
    if method == "GET":
        return "watch" if "watch" in query else "list" if query else "get"
    return {"POST": "create", "PUT": "update"}.get(method, method.lower())


def _content(response: urllib3.response.BaseHTTPResponse) -> dict[str, Any]:
    """Return what an answer says; of a path that the server does not know, it says so in plain text.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return dict(json.loads(response.data or b"{}"))
    except ValueError:
        if response.status != NOT_FOUND:
            raise
        return {"message": response.data.decode(errors="replace").strip()}


def _refusal(what: str, status: int, found: Mapping[str, Any]) -> AirExecutorError:
    message = str(found.get("message") or found)
    if status == _UNAUTHORIZED:
        return BackendUnavailableError(f"the Kubernetes API server does not accept our credentials ({what}: {message})")
    if status == _TOO_MANY or status >= _ERRORS:
        return BackendUnavailableError(f"the Kubernetes API server cannot answer ({what}: {status} {message})")
    kinds = {NOT_FOUND: MissingError, CONFLICT: ConflictError, _GONE: ExpiredError}
    return kinds.get(status, RefusedError)(message, status)


def _retry_after(response: urllib3.response.BaseHTTPResponse) -> float:
    """Return the pause that the server asks for, in seconds; some ask without a number."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else 1.0

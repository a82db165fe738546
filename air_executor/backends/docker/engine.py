"""The Docker Engine's API: the calls that we make, and its failures as ours.

The only module that imports the SDK, none of which leaves it. Every request has a timeout. One `Engine` may be used by
several threads: each gets a connection of its own. Knows containers, images and networks, but not runners.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import docker
import docker.errors
import requests
import urllib3.exceptions
from docker.types.daemon import CancellableStream
from docker.utils import kwargs_from_env, parse_repository_tag

from air_executor.backends.base import Requested
from air_executor.backends.container.platform_text import describe_error
from air_executor.backends.container.refusals import CONFLICT, NOT_FOUND, ConflictError, MissingError, RefusedError
from air_executor.backends.container.remote_process import STDOUT
from air_executor.backends.docker import ssh_tunnel
from air_executor.backends.docker.engine_support import refuse_podman
from air_executor.errors import BackendUnavailableError

T = TypeVar("T")

_NO_ANSWER = (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""What the SDK and the libraries below it raise when there is no answer."""
_GATEWAY_ERRORS = frozenset({502, 503, 504})
"""What a proxy in front of an engine returns when the engine does not answer."""
_LOG_LINES = 5
_CHUNK = 65536
_FRAME = struct.Struct(">BxxxL")
"""Before each part of a program's output, where it has no terminal: number of the stream, and bytes."""


class _EngineSession(docker.APIClient):
    """A client that trusts what `DOCKER_CERT_PATH` says, also where REQUESTS_CA_BUNDLE names other certificates."""

    def request(self, *given: Any, **named: Any) -> requests.Response:  # noqa: ANN401 - as the library has them
        """Send a request. A session's own `verify` is used only where the environment has none (requests#3829)."""
        named.setdefault("verify", self.verify)
        return super().request(*given, **named)


class Engine:
    """One Docker Engine: the one that `DOCKER_HOST` names, or the local one."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._tunnel = ssh_tunnel.from_environment()
        self._local = threading.local()
        self._clients: list[docker.APIClient] = []
        self._streams: list[CancellableStream[Any]] = []
        self._version: str | None = None
        self._lock = threading.Lock()
        self.requested: Requested = lambda _verb, _code: None
        """Called after each request, from any thread."""
        self.scrub: Callable[[str], str] = lambda text: text
        """Removes secrets from the engine's messages before anybody sees them."""

    def _client(self) -> docker.APIClient:
        client: docker.APIClient | None = getattr(self._local, "client", None)
        if client is None:
            way = kwargs_from_env() if self._tunnel is None else {"base_url": self._tunnel.address}
            client = _EngineSession(version=self._version or "auto", timeout=math.ceil(self._timeout), **way)
            if client.base_url.startswith("http+docker:"):
                client.trust_env = False  # a socket has no proxy, and looking for one takes a fifth of each request
            self._version = client.api_version
            client.hooks["response"].append(self._note)
            self._local.client = client
            with self._lock:
                self._clients.append(client)
        return client

    def _note(self, response: requests.Response, **_: object) -> None:
        self.requested(getattr(self._local, "what", "version"), str(response.status_code))
        refuse_podman(response.headers)

    def _ask(self, what: str, call: Callable[[docker.APIClient], T]) -> T:
        """Make one request.

        Raises:
            RefusedError: the engine refused it.
            BackendUnavailableError: it did not answer in time, cannot be reached, or cannot be used.
        """
        self._local.what = what
        try:
            if self._tunnel is not None:
                self._tunnel.ensure()
            return call(self._client())
        except docker.errors.APIError as error:
            message = self.scrub(str(error.explanation or error))
            status = error.status_code or 500
            if status in _GATEWAY_ERRORS:
                msg = f"the Docker engine does not answer ({what}: {message})"
                raise BackendUnavailableError(msg) from error
            kinds = {NOT_FOUND: MissingError, CONFLICT: ConflictError}
            raise kinds.get(status, RefusedError)(message, status) from error
        except _NO_ANSWER as error:
            self.requested(what, "none")
            why = self.scrub(describe_error(_innermost(error)))
            msg = f"the Docker engine does not answer ({what}: {why}); does it run, and is DOCKER_HOST right?"
            raise BackendUnavailableError(msg) from error

    # The engine

    @property
    def api_version(self) -> tuple[int, ...]:
        """The API version that engine and SDK agreed upon."""
        version: str = self._ask("version", lambda client: client.api_version)
        return tuple(int(part) for part in version.split("."))

    def info(self) -> dict[str, Any]:
        """Return what `docker info` shows."""
        return self._ask("info", lambda client: client.info())

    def version(self) -> dict[str, Any]:
        """Return what `docker version` shows of the server."""
        return self._ask("version", lambda client: client.version(api_version=False))

    @contextlib.contextmanager
    def events(self, label: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Open the stream of events of containers with this label, from now until `close`.

        Iterating raises as `_ask` does.
        """
        filters = {"type": ["container"], "label": [label]}
        stream = self._ask("events", lambda client: client.events(decode=True, filters=filters))
        self._streams.append(stream)
        try:
            yield self._guarded(stream)
        finally:
            self._streams.remove(stream)
            _close(stream)

    def _guarded(self, stream: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        while True:
            try:
                yield self._ask("events", lambda _: next(stream))
            except StopIteration:
                return

    def break_events(self) -> None:
        """Close the open event streams; their readers see them break."""
        for stream in tuple(self._streams):
            _close(stream)

    def release(self) -> None:
        """Close the calling thread's own connections; for threads that end before `close`."""
        client: docker.APIClient | None = getattr(self._local, "client", None)
        if client is not None:
            del self._local.client
            with self._lock, contextlib.suppress(ValueError):
                self._clients.remove(client)
            _close(client)

    def close(self) -> None:
        """Close all connections; requests in flight in other threads fail."""
        with self._lock:
            for stream in self._streams:
                _close(stream)
            for client in self._clients:
                _close(client)
            self._clients.clear()
        if self._tunnel is not None:
            self._tunnel.close()

    # Containers

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container and return its id.

        Raises:
            ConflictError: the name is taken.
            MissingError: there is no such image.
        """
        made = self._ask("create", lambda client: client.create_container_from_config(dict(config), name=name))
        return str(made["Id"])

    def start(self, container: str) -> None:
        """Start a container; does nothing if it runs already."""
        self._ask("start", lambda client: client.start(container))

    def kill(self, container: str, signal: str) -> None:
        """Send a signal to the container's first process."""
        self._ask("kill", lambda client: client.kill(container, signal))

    def unpause(self, container: str) -> None:
        """Resume a paused container."""
        self._ask("unpause", lambda client: client.unpause(container))

    def delete(self, container: str, *, force: bool = False) -> None:
        """Remove a stopped container and its anonymous volumes; with `force` a running one, too."""
        self._ask("remove", lambda client: client.remove_container(container, v=True, force=force))

    def delete_volume(self, name: str) -> None:
        """Remove a named volume; fine if it does not exist, or if a container has it."""
        with contextlib.suppress(MissingError, ConflictError):
            self._ask("remove", lambda client: client.remove_volume(name))

    def prune_volumes(self, label: str) -> None:
        """Remove all volumes with this label that no container has."""
        filters = {"label": [label], "all": ["true"]}
        with contextlib.suppress(ConflictError):  # somebody else does the same
            self._ask("remove", lambda client: client.prune_volumes(filters))

    def inspect(self, container: str) -> dict[str, Any]:
        """Return the full description of a container, by its id or name."""
        return self._ask("inspect", lambda client: client.inspect_container(container))

    def list(self, label: str) -> list[dict[str, Any]]:
        """Return all containers with this label, including stopped ones."""
        return self._ask("list", lambda client: client.containers(all=True, filters={"label": [label]}))

    def has_file(self, container: str, path: str) -> bool:
        """Tell whether a container, running or not, has a file, mounts included."""

        def read(client: docker.APIClient) -> None:
            stream, _ = client.get_archive(container, path)
            stream.close()

        try:
            self._ask("archive", read)
        except MissingError:
            return False
        return True

    def log_tail(self, container: str) -> str:
        """Return the last lines of a container's log, on one line."""
        return " ".join(self.scrub(self.log(container, _LOG_LINES).decode("utf-8", "replace")).split())

    def log(self, container: str, tail: int | None = None) -> bytes:
        """Return a container's log, or its last lines; the engine keeps no more of it than `LogConfig` says."""
        found: bytes = self._ask("logs", lambda client: client.logs(container, tail="all" if tail is None else tail))
        return found

    def begin(self, container: str, command: Sequence[str]) -> str:
        """Start a program in a running container, with nobody at its streams; return its id for `exit_code`."""

        def start(client: docker.APIClient) -> str:
            made = client.exec_create(container, list(command), stdout=False, stderr=False)
            client.exec_start(made["Id"], detach=True)
            return str(made["Id"])

        return self._ask("exec", start)

    def execute(self, container: str, command: Sequence[str], *, tty: bool) -> ContainerProcess:
        """Start a program in a running container: with a terminal, or without stdin."""

        def start(client: docker.APIClient) -> ContainerProcess:
            made = client.exec_create(container, list(command), stdin=tty, tty=tty)
            return ContainerProcess(self, made["Id"], client.exec_start(made["Id"], tty=tty, socket=True), tty=tty)

        return self._ask("exec", start)

    def resize(self, program: str, rows: int, columns: int) -> None:
        """Tell the terminal of a program in a container its size."""
        self._ask("resize", lambda client: client.exec_resize(program, rows, columns))

    def exit_code(self, program: str) -> int | None:
        """Return the exit code of a program in a container; None while it runs."""
        code: int | None = self._ask("inspect", lambda client: client.exec_inspect(program)["ExitCode"])
        return code

    # Images and networks

    def image(self, image: str) -> dict[str, Any]:
        """Return the description of an image that the engine has.

        Raises:
            MissingError: it does not have the image.
        """
        return self._ask("image", lambda client: client.inspect_image(image))

    def pull(self, image: str) -> Iterator[dict[str, Any]]:
        """Pull an image with the credentials of the user's Docker configuration; yield the engine's reports.

        Iterating raises as `_ask` does. The stream as a whole has no timeout.
        """
        repository, tag = parse_repository_tag(image)
        tag = tag or "latest"
        stream = self._ask("pull", lambda client: client.pull(repository, tag=tag, stream=True, decode=True))
        for report in self._guarded(stream):
            if "error" in report:
                raise RefusedError(str(report["error"]), 500)
            yield report

    def ensure_network(self, name: str) -> None:
        """Create a bridge network unless it exists. Containers in it cannot reach each other."""
        try:
            self._ask("network", lambda client: client.inspect_network(name))
        except MissingError:
            options = {"com.docker.network.bridge.enable_icc": "false"}
            with contextlib.suppress(ConflictError):  # another manager has just created it
                self._ask(
                    "network",
                    lambda client: client.create_network(
                        name, driver="bridge", options=options, check_duplicate=True, labels={"air-executor": "network"}
                    ),
                )


class ContainerProcess:
    """A program in a container; see `RemoteProcess`."""

    def __init__(self, engine: Engine, program: str, stream: Any, *, tty: bool) -> None:  # noqa: ANN401 - any socket
        self._engine = engine
        self._program = program
        self._stream = stream  # the SDK closes the connection with it
        self._socket: socket.socket = getattr(stream, "_sock", stream)
        self._socket.settimeout(None)
        self._tty = tty

    def output(self) -> Iterator[tuple[int, bytes]]:
        """See `RemoteProcess`."""
        try:
            while self._tty and (data := self._socket.recv(_CHUNK)):
                yield STDOUT, data
            while not self._tty and (head := self._read(_FRAME.size)):
                number, size = _FRAME.unpack(head)
                yield number, self._read(size)
        except _NO_ANSWER as error:
            msg = f"the connection to the Docker engine broke: {describe_error(error)}"
            raise BackendUnavailableError(msg) from error

    def _read(self, size: int) -> bytes:
        """Return so many bytes; nothing at the end."""
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                return b""
            data += part
        return data

    def send(self, data: bytes) -> None:
        """See `RemoteProcess`."""
        with contextlib.suppress(OSError):  # it has ended
            self._socket.sendall(data)

    def resize(self, rows: int, columns: int) -> None:
        """See `RemoteProcess`."""
        with contextlib.suppress(RefusedError):  # it has ended
            self._engine.resize(self._program, rows, columns)

    def exit_code(self) -> int:
        """See `RemoteProcess`."""
        with contextlib.suppress(MissingError):
            if (code := self._engine.exit_code(self._program)) is not None:
                return code
        raise BackendUnavailableError("the run has ended, and the shell with it")

    def close(self) -> None:
        """See `RemoteProcess`."""
        _close(self._stream)
        self._socket.close()
        self._engine.close()


def _close(connection: Any) -> None:  # noqa: ANN401 - whatever the SDK returns
    with contextlib.suppress(Exception):  # closing a broken connection may fail in many ways
        connection.close()


def _innermost(error: BaseException) -> BaseException:
    """Return the first cause: the SDK and its libraries wrap each other's errors three deep."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error

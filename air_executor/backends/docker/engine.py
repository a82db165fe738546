"""The Docker Engine's API: the calls that we make, and its failures as ours.

The only module that imports the SDK; nothing of it leaves here. Every request has a timeout. One `Engine` may be used
from several threads: each gets a connection of its own. Knows containers, images and networks, but not runners.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import docker
import docker.errors
import requests
import urllib3.exceptions
from docker.types.daemon import CancellableStream
from docker.utils import kwargs_from_env, parse_repository_tag

from air_executor.backends.base import Requested
from air_executor.errors import AirExecutorError, BackendUnavailableError

T = TypeVar("T")

_SILENCE = (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""What the SDK and the libraries below it raise when there is no answer."""
_CONFLICT = 409
_NOT_FOUND = 404
_NOBODY_THERE = frozenset({502, 503, 504})
"""What a proxy in front of an engine says when that does not answer."""
_LOG_LINES = 5


class RefusedError(AirExecutorError):
    """The engine said no; `status` is its HTTP status, the message its own words."""

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status

    @property
    def final(self) -> bool:
        """The same request would be refused again: it is wrong in itself."""
        return self.status == 400  # noqa: PLR2004 - Bad Request


class MissingError(RefusedError):
    """There is no such container, image or network."""


class ConflictError(RefusedError):
    """The name is taken, or the container is not in the state that the request needs."""


class Engine:
    """One Docker Engine: the one that `DOCKER_HOST` names, or the local one."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._own = threading.local()
        self._clients: list[docker.APIClient] = []
        self._streams: list[CancellableStream[Any]] = []
        self._version: str | None = None
        self._lock = threading.Lock()
        self.requested: Requested = lambda _verb, _code: None
        """Called after each request, from any thread."""

    def _client(self) -> docker.APIClient:
        client: docker.APIClient | None = getattr(self._own, "client", None)
        if client is None:
            client = docker.APIClient(
                version=self._version or "auto", timeout=math.ceil(self._timeout), **kwargs_from_env()
            )
            if client.base_url.startswith("http+docker:"):
                client.trust_env = False  # a socket has no proxy, and looking for one takes a fifth of each request
            self._version = client.api_version
            client.hooks["response"].append(self._note)
            self._own.client = client
            with self._lock:
                self._clients.append(client)
        return client

    def _note(self, response: requests.Response, **_: object) -> None:
        self.requested(getattr(self._own, "what", "version"), str(response.status_code))

    def _ask(self, what: str, call: Callable[[docker.APIClient], T]) -> T:
        """Make one request.

        Raises:
            RefusedError: the engine said no.
            BackendUnavailableError: it did not answer in time, or cannot be reached.
        """
        self._own.what = what
        try:
            return call(self._client())
        except docker.errors.APIError as error:
            words = str(error.explanation or error)
            status = error.status_code or 500
            if status in _NOBODY_THERE:
                msg = f"the Docker engine does not answer ({what}: {words})"
                raise BackendUnavailableError(msg) from error
            kinds = {_NOT_FOUND: MissingError, _CONFLICT: ConflictError}
            raise kinds.get(status, RefusedError)(words, status) from error
        except _SILENCE as error:
            self.requested(what, "none")
            msg = f"the Docker engine does not answer ({what}: {_brief(error)}); does it run, and is DOCKER_HOST right?"
            raise BackendUnavailableError(msg) from error

    # The engine

    @property
    def api_version(self) -> tuple[int, ...]:
        """Return the version of the API that engine and SDK agreed upon."""
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
        """Open the stream of events of containers with this label; it begins now, and `close` ends it.

        Iterating may raise as `_ask` does.
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
        """End the streams of events that are open; who follows them sees them break."""
        for stream in tuple(self._streams):
            _close(stream)

    def release(self) -> None:
        """Close the calling thread's own connections, for one that ends before `close`."""
        client: docker.APIClient | None = getattr(self._own, "client", None)
        if client is not None:
            del self._own.client
            with self._lock, contextlib.suppress(ValueError):
                self._clients.remove(client)
            _close(client)

    def close(self) -> None:
        """Close all connections; requests under way in other threads fail."""
        with self._lock:
            for stream in self._streams:
                _close(stream)
            for client in self._clients:
                _close(client)
            self._clients.clear()

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
        """Start a container; one that runs already is fine."""
        self._ask("start", lambda client: client.start(container))

    def kill(self, container: str, signal: str) -> None:
        """Send a signal to the container's first process."""
        self._ask("kill", lambda client: client.kill(container, signal))

    def unpause(self, container: str) -> None:
        """Let a paused container go on."""
        self._ask("unpause", lambda client: client.unpause(container))

    def delete(self, container: str) -> None:
        """Remove a container that does not run, with its anonymous volumes."""
        self._ask("remove", lambda client: client.remove_container(container, v=True))

    def inspect(self, container: str) -> dict[str, Any]:
        """Return all that the engine knows of a container, by its id or name."""
        return self._ask("inspect", lambda client: client.inspect_container(container))

    def list(self, label: str) -> list[dict[str, Any]]:
        """Return all containers with this label, those that have ended too."""
        return self._ask("list", lambda client: client.containers(all=True, filters={"label": [label]}))

    def has_file(self, container: str, path: str) -> bool:
        """Tell whether a container, running or not, has a file; what is mounted into it counts."""

        def look(client: docker.APIClient) -> None:
            stream, _ = client.get_archive(container, path)
            stream.close()

        try:
            self._ask("archive", look)
        except MissingError:
            return False
        return True

    def last_words(self, container: str) -> str:
        """Return the last lines that a container printed, on one line."""
        tail: bytes = self._ask("logs", lambda client: client.logs(container, tail=_LOG_LINES))
        return " ".join(tail.decode("utf-8", "replace").split())

    # Images and networks

    def image(self, image: str) -> dict[str, Any]:
        """Return what the engine knows of an image that it has.

        Raises:
            MissingError: it does not have it.
        """
        return self._ask("image", lambda client: client.inspect_image(image))

    def pull(self, image: str) -> Iterator[dict[str, Any]]:
        """Pull an image with the credentials of the user's Docker configuration; yield the engine's reports.

        Iterating raises as `_ask` does; the stream may take as long as it likes.
        """
        repository, tag = parse_repository_tag(image)
        tag = tag or "latest"
        stream = self._ask("pull", lambda client: client.pull(repository, tag=tag, stream=True, decode=True))
        for report in self._guarded(stream):
            if "error" in report:
                raise RefusedError(str(report["error"]), 500)
            yield report

    def ensure_network(self, name: str) -> None:
        """Make a bridge network of our own, unless there is one of that name; what is in it cannot reach each other."""
        try:
            self._ask("network", lambda client: client.inspect_network(name))
        except MissingError:
            options = {"com.docker.network.bridge.enable_icc": "false"}
            with contextlib.suppress(ConflictError):  # another manager was faster
                self._ask(
                    "network",
                    lambda client: client.create_network(
                        name, driver="bridge", options=options, check_duplicate=True, labels={"air-executor": "network"}
                    ),
                )


def _close(connection: CancellableStream[Any] | docker.APIClient) -> None:
    with contextlib.suppress(Exception):  # closing what is broken may fail in many ways
        connection.close()


def _brief(error: Exception) -> str:
    """Return the innermost reason: the SDK and its libraries wrap each other three deep."""
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    return str(inner) or type(inner).__name__

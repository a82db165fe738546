"""HTTP to a manager's server: one request at a time and thread, over a connection that is kept open.

Errors become those of `errors`, in one line each. A request that may be repeated is, when the connection breaks or the
server is busy; once a server has answered, a program that follows something waits while it restarts.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from air_executor.client.proxies import open_connection
from air_executor.client.server_address import API, ServerAddress
from air_executor.errors import (
    AirExecutorError,
    AlreadyExistsError,
    BadInputError,
    DeniedError,
    NotFoundError,
    ServerUnavailableError,
)

TIMEOUT = 60.0
"""Seconds to wait for an answer: a report reads all jobs."""
PATIENCE = 300.0
"""Seconds for which a server that has answered before may be away."""
BUSY_FOR = 20.0
"""Seconds for which a request is repeated that a busy server refuses."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two attempts."""
SUBMIT_FOR = 60.0
"""Seconds for which a submission is repeated whose answer did not arrive."""
MAX_ANSWER = 1 << 30
PIECE = 1 << 18
"""Bytes of a file that are sent at a time."""
NO_SUCH_PATH = "the API has no such path"
_BUSY = frozenset({429, 502, 503, 504})
_REFUSALS: Mapping[int, type[AirExecutorError]] = {
    404: NotFoundError,
    409: BadInputError,
    413: BadInputError,
    415: BadInputError,
    422: BadInputError,
}
_AT_SERVER: Mapping[int, type[AirExecutorError]] = {403: DeniedError}
"""Errors whose message names the server."""
_PROBLEM = "urn:air-executor:problem:"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a server answered, an error or not."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


class Connection:
    """A server and the token for it."""

    def __init__(self, address: ServerAddress, token: str | None, report: Callable[[str], object]) -> None:
        """`report` is told, in one line, that the server does not answer and is tried again."""
        self.address = address
        self._token = token
        self._report = report
        self._open = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        """Those of all threads."""
        self._met = False
        """Whether the server has answered before."""
        self._reported = False

    def close(self) -> None:
        """Close the connections of all threads."""
        while self._all:
            self._all.pop().close()

    def get(self, path: str, query: Iterable[tuple[str, object]] = (), headers: Mapping[str, str] = {}) -> HttpAnswer:
        """Read something; raises as `ask`."""
        return self.ask("GET", path, query=query, headers=headers, repeat_for=PATIENCE if self._met else 0.0)

    def json(self, path: str, query: Iterable[tuple[str, object]] = ()) -> Any:  # noqa: ANN401 - JSON data
        """Read data; raises as `ask`."""
        return self.data(self.get(path, query))

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Iterable[tuple[str, object]] = (),
        body: bytes | BinaryIO | None = None,
        kind: str = "application/json",
        headers: Mapping[str, str] = {},
        repeat_for: float | None = None,
    ) -> HttpAnswer:
        """Send a request and return the answer, which is no error, but perhaps 304 or 416.

        `body`: data, or a file, which is sent in pieces, from its start to its present end.
        `repeat_for`: seconds for which it is repeated where no answer arrives; None: it must not arrive twice.

        Raises:
            ServerUnavailableError: there is no answer, or none of such a server.
            DeniedError, NotFoundError, AlreadyExistsError, BadInputError: the server refused.
        """
        given = [(name, value) for name, value in query if value is not None]
        target = f"{self.address.prefix}{API}{quote(path)}{'?' if given else ''}{urlencode(given)}"
        sent = {"User-Agent": "air-executor", "Accept": "application/json", **headers}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            sent["Content-Type"] = kind
        begun, pause = time.monotonic(), FIRST_PAUSE
        while True:
            left = (0.0 if repeat_for is None else repeat_for) - (time.monotonic() - begun)
            try:
                found = self._exchange(method, target, body, sent, again=repeat_for is not None)
            except _NoAnswerError as problem:
                if left <= 0 or not (problem.sent or self._met):
                    raise self._unavailable(problem.error, sent=problem.sent and repeat_for is None) from None
                self._say(problem.error)
            else:
                waited = time.monotonic() - begun
                if found.status not in _BUSY or waited > BUSY_FOR or (found.status != 429 and left <= 0):  # noqa: PLR2004
                    self._reported = False
                    return self._checked(found)
            time.sleep(min(pause, LONGEST_PAUSE))
            pause *= 2

    def data(self, found: HttpAnswer) -> Any:  # noqa: ANN401 - JSON data
        """Return the data of an answer.

        Raises:
            ServerUnavailableError: it has none.
        """
        try:
            return json.loads(found.body)
        except ValueError:
            raise self._stranger(found) from None

    # One request

    def _exchange(
        self, method: str, target: str, body: bytes | BinaryIO | None, headers: Mapping[str, str], *, again: bool
    ) -> HttpAnswer:
        """Send a request once; twice if the connection was kept open and the server has closed it meanwhile."""
        kept: http.client.HTTPConnection | None = getattr(self._open, "connection", None)
        sent = False
        whole = True
        connection = kept or open_connection(self.address, TIMEOUT)
        try:
            if kept is not None and not again and is_closed(kept):
                kept.close()
            if connection.sock is None:
                connection.connect()
            sent = True
            if body is None or isinstance(body, bytes):
                connection.request(method, target, body, dict(headers))
            else:
                whole = _send_file(connection, method, target, body, headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            data = answer.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            self._drop(connection)
            if kept is not None and again and not isinstance(error, TimeoutError):
                return self._exchange(method, target, body, headers, again=again)
            raise _NoAnswerError(error, sent=sent) from None
        except AirExecutorError:
            self._drop(connection)
            raise
        self._met = True
        if not whole:
            self._drop(connection)
        elif kept is None:
            self._open.connection = connection
            self._all.append(connection)
        return HttpAnswer(answer.status, found, data)

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._open.connection = None
        if connection in self._all:
            self._all.remove(connection)

    # What went wrong

    def _checked(self, found: HttpAnswer) -> HttpAnswer:
        status = found.status
        if status < 300 or status in {304, 416}:  # noqa: PLR2004 - success
            return found
        if status < 400:  # noqa: PLR2004 - a redirection
            where = found.headers.get("location", "")[:200]
            msg = f"{self.address.url} sends elsewhere, to {where}: a page to sign in, or another address"
            raise ServerUnavailableError(msg)
        try:
            problem = json.loads(found.body)
            kind, detail = str(problem["type"]).removeprefix(_PROBLEM), str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            raise self._stranger(found) from None
        raise self._refusal(status, kind, detail)

    def _refusal(self, status: int, kind: str, detail: str) -> AirExecutorError:
        url = self.address.url
        if status == 401 and self._token is not None:  # noqa: PLR2004
            return DeniedError(f"{url}: the token is wrong, has expired, or was revoked; ask for a new one")
        if status == 401:  # noqa: PLR2004
            return DeniedError(f"{url}: {detail}; then set AIR_TOKEN, or `air-executor login {url}`")
        if status in {404, 405} and (detail == NO_SUCH_PATH or kind == "method-not-allowed"):
            return ServerUnavailableError(f"{url}: is an older version, which cannot do this; upgrade the manager")
        made = AlreadyExistsError if kind == "already-exists" else _REFUSALS.get(status)
        return made(detail) if made is not None else _AT_SERVER.get(status, ServerUnavailableError)(f"{url}: {detail}")

    def _stranger(self, found: HttpAnswer) -> ServerUnavailableError:
        kind = found.headers.get("content-type", "nothing").partition(";")[0][:100]
        msg = f"{self.address.url}: no Air-Executor answers there, but something else: {found.status}, {kind}"
        return ServerUnavailableError(msg)

    def _unavailable(self, error: Exception, *, sent: bool) -> ServerUnavailableError:
        unsure = "; whether the request took effect is not known" if sent else ""
        return ServerUnavailableError(f"{self._what(error)}{unsure}")

    def _what(self, error: Exception) -> str:
        url = self.address.url
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"its certificate cannot be verified: {error.verify_message}"
            return f"{url}: {why}; SSL_CERT_FILE names a file of further authorities"
        if isinstance(error, ssl.SSLError):
            return f"{url}: no TLS is possible ({error.reason or error}); is the address http:// instead?"
        if isinstance(error, socket.gaierror):
            return f"{url}: no such host ({error.strerror}); check the address"
        if isinstance(error, ConnectionRefusedError):
            return f"{url}: nothing answers there (connection refused); is the manager, or the port-forward, running?"
        if isinstance(error, TimeoutError):
            return f"{url}: no answer within {TIMEOUT:.0f} s"
        return f"{url}: the connection broke ({getattr(error, 'strerror', None) or type(error).__name__})"

    def _say(self, error: Exception) -> None:
        if not self._reported:
            self._reported = True
            self._report(f"{self._what(error)}; trying again")


class _NoAnswerError(Exception):
    """A request has no answer."""

    def __init__(self, error: Exception, *, sent: bool) -> None:
        super().__init__(error)
        self.error = error
        self.sent = sent
        """Whether the server may have got it."""


def _send_file(
    connection: http.client.HTTPConnection, method: str, target: str, file: BinaryIO, headers: Mapping[str, str]
) -> bool:
    """Send a request with a file, and tell whether all of it was sent: a server that refuses it takes no more."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        connection.request(method, target, _pieces(file, size), {**headers, "Content-Length": str(size)})
    except (BrokenPipeError, ConnectionResetError):
        return False  # if there is no answer either, reading it fails
    return True


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a file, whatever is appended meanwhile.

    Raises:
        BadInputError: it has become shorter.
    """
    while size > 0:
        piece = file.read(min(PIECE, size))
        if not piece:
            raise BadInputError("the file has become shorter while it was sent; send it again")
        size -= len(piece)
        yield piece


def is_closed(connection: http.client.HTTPConnection) -> bool:
    """Tell whether the server has closed a connection that was kept open."""
    import select  # noqa: PLC0415 - only before changes

    if connection.sock is None:
        return True
    poll = select.poll()  # not `select`, which takes no descriptor above 1023
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))

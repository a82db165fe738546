"""The connection of a run to its manager: one request at a time, repeated until it is answered."""

from __future__ import annotations

import contextlib
import errno
import http.client
import ssl
import sys
import tarfile
import time
import urllib.parse
from collections.abc import Callable, Mapping

PIECE = 1 << 20
"""Bytes that are read or sent at a time: no more than what proxies take by default, nginx 1 MiB."""
ANSWER_LIMIT = 2000
TIMEOUT = 60.0
"""Seconds for one answer."""
CONNECT_TIMEOUT = 5.0
"""Seconds for a connection: one that was begun while the manager was away may never come about, another one does."""
PATIENCE = 3600.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds between attempts to reach the manager: twice as many each time."""
NO_CONTENT, REFUSED, FAILED, CONFLICT = 204, 300, 500, 409
"""HTTP statuses: it is done; from here on nothing was; from here on it may be later; another runner has the run."""
LATER = frozenset({408, 429})
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of our own disk, which no waiting for the manager ends."""

OURS = "Air-Run-Answer"
"""Header of what the manager answers, and nothing that lies in between."""
NOT_FOUND, MISROUTED_FOR = 404, 60.0
"""Seconds for which an answer that nothing is there is believed to change: routes are made while a manager starts."""
HINTS: Mapping[int, str] = {
    401: "it must let /transport/ through: runs sign in at the manager, with tokens of their own",
    403: "it must let /transport/ through: runs sign in at the manager, with tokens of their own",
    404: "does the path in the transport's URL lead to the manager?",
    411: "it must take bodies of a known length",
    413: f"it must take bodies of {PIECE >> 20} MiB (nginx: client_max_body_size)",
    414: "it must take longer addresses",
}
"""What is wrong where something in between answers so."""


class AnswerError(Exception):
    """The same request would be refused again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class MisroutedError(OSError):
    """Something has answered that does not know the manager, as before its routes are made."""


def say(text: str) -> None:
    """Write a line for people."""
    sys.stderr.write(f"air-carrier: {text}\n")
    sys.stderr.flush()


class Uplink:
    """The connection to the manager; one request at a time."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._url = urllib.parse.urlsplit(env["AIR_CARRIER_URL"])
        self.token = env["AIR_CARRIER_TOKEN"].strip()
        """The latest one: an answer may bring the next."""
        self._holder = env["AIR_CARRIER_HOLDER"]
        self._patience = float(env.get("AIR_CARRIER_PATIENCE", PATIENCE))
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else None
        if self._tls is not None and env.get("AIR_CARRIER_CA"):
            self._tls.load_verify_locations(cadata=env["AIR_CARRIER_CA"])
        self._connection: http.client.HTTPConnection | None = None

    def ask(
        self, method: str, path: str, body: bytes = b"", use: Callable[[http.client.HTTPResponse], None] | None = None
    ) -> bytes:
        """Send a request until it is answered; return the content of the answer, unless `use` takes it.

        Raises:
            AnswerError: the manager refuses, or something in between that will not change its mind.
            OSError: it has not answered for too long.
        """
        begun = time.monotonic()
        pause, until, said = FIRST_PAUSE, begun + self._patience, ""
        while True:
            try:
                return self._ask_once(method, path, body, use)
            except (OSError, http.client.HTTPException, tarfile.TarError, EOFError) as error:
                self._connection = None
                if isinstance(error, OSError) and error.errno in NO_SPACE:
                    raise
                if isinstance(error, MisroutedError):
                    until = min(until, begun + MISROUTED_FOR)
                problem = f"{type(error).__name__}: {error}"
            if time.monotonic() + pause > until:
                msg = f"the manager at {self._url.netloc} does not answer: {problem}"
                raise OSError(msg)
            if problem != said:
                say(f"waiting for the manager at {self._url.netloc}: {problem}")
                said = problem
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    def close(self) -> None:
        """Close the connection; another request opens it again."""
        if self._connection is not None:
            self._connection.close()

    def _ask_once(
        self, method: str, path: str, body: bytes, use: Callable[[http.client.HTTPResponse], None] | None
    ) -> bytes:
        response = self._send(method, f"{self._url.path.rstrip('/')}/transport/v1/{path}", body)
        if response.status >= REFUSED:
            raise self._refusal(response)
        if response.status == NO_CONTENT:
            return response.read()  # there is nothing, but unread it would be in the way of the next answer
        if use is None:
            found = response.read()
        else:
            use(response)
            found = b"used"
            while response.read(PIECE):  # a broken answer shows only at its end
                pass
        if not found:  # one that has broken off among its headers looks complete
            raise OSError("the answer has broken off")
        self.token = response.headers.get("Air-Run-Token") or self.token
        return found

    def _refusal(self, response: http.client.HTTPResponse) -> Exception:
        """Return what a refused request raises: an OSError where it may be taken later."""
        status, text = response.status, response.read(ANSWER_LIMIT).decode(errors="replace").strip()
        later = status >= FAILED or status in LATER
        if OURS in response.headers:
            return OSError(f"{status}: {text}") if later else AnswerError(status, f"the manager refuses: {text}")
        hint = HINTS.get(status)
        if target := response.headers.get("Location"):
            hint = f"it leads to {target}, and the transport's URL must be where the manager is"
        words = f"what answers at {self._url.netloc} is not the manager: {status} {response.reason}"
        text = f"{words}; {hint}" if hint else words
        if status == NOT_FOUND:
            return MisroutedError(text)
        return OSError(text) if later else AnswerError(status, text)

    def _send(self, method: str, path: str, content: bytes) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self.token}", "Air-Holder": self._holder}
        if self._connection is not None:
            with contextlib.suppress(OSError, http.client.HTTPException):  # the manager closes it when it is idle
                self._connection.request(method, path, content, headers)
                return self._connection.getresponse()
        self._connection = self._connect()
        self._connection.request(method, path, content, headers)
        return self._connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._tls is None:
            made = http.client.HTTPConnection(host, port or 80, timeout=CONNECT_TIMEOUT)
        else:
            made = http.client.HTTPSConnection(host, port or 443, timeout=CONNECT_TIMEOUT, context=self._tls)
        made.connect()
        made.sock.settimeout(TIMEOUT)
        return made

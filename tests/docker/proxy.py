"""In front of a real engine: notes every request, and answers some of them wrongly, late or never.

One connection carries one request here, so that requests can be told apart; clients do not mind.
"""

from __future__ import annotations

import contextlib
import enum
import json
import re
import shutil
import socket
import tempfile
import threading
from dataclasses import dataclass
from typing import NamedTuple

_CHUNK = 1 << 16
_VERSION = re.compile(r"^/v1\.\d+")


class Request(NamedTuple):
    """One request as a client made it."""

    method: str
    path: str
    """As it was sent, without the query."""

    def __str__(self) -> str:
        """Return it without the version of the API."""
        return f"{self.method} {_VERSION.sub('', self.path)}"


class Fault(enum.Enum):
    """What may become of a request."""

    REFUSED = "the engine answers 500, without having done anything"
    UNHEARD = "the connection is cut before the engine hears of it"
    UNANSWERED = "the engine does it, and the connection is cut before its answer"
    STALLED = "nothing happens until the proxy is healed"


@dataclass(slots=True)
class _Rule:
    pattern: re.Pattern[str]
    fault: Fault
    times: int


class Proxy:
    """An address for `DOCKER_HOST` that leads to the engine at another unix socket."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._folder = tempfile.mkdtemp(prefix="air-proxy-")  # a short path: a socket's address has at most 107 bytes
        self.address = f"unix://{self._folder}/engine"
        self.requests: list[Request] = []
        self._rules: list[_Rule] = []
        self._healed = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._hushed = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{self._folder}/engine")
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def spoil(self, pattern: str, fault: Fault, times: int = 1_000_000) -> None:
        """Let the next requests fail whose `METHOD /path` the pattern finds."""
        with self._lock:
            self._healed.clear()
            self._rules.append(_Rule(re.compile(pattern), fault, times))

    def unspoiled(self) -> list[str]:
        """Return the patterns of which fewer requests came than were to be spoiled."""
        with self._lock:
            return [rule.pattern.pattern for rule in self._rules if rule.times > 0]

    def hush(self) -> None:
        """Hold back what comes on the streams that are open now, without breaking them."""
        with self._lock:
            self._hushed = True

    def heal(self) -> None:
        """Spoil nothing any more; what was stalled is cut."""
        with self._lock:
            self._rules.clear()
            self._hushed = False
            self._healed.set()

    def made(self, pattern: str) -> list[str]:
        """Return the requests so far that a pattern finds."""
        return [str(request) for request in tuple(self.requests) if re.search(pattern, str(request))]

    def close(self) -> None:
        """Be gone, with all connections."""
        self.heal()
        with self._lock:
            left = tuple(self._open)
        for one in (self._listener, *left):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        shutil.rmtree(self._folder)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as engine, client, contextlib.suppress(OSError):
            with self._lock:
                self._open |= {client, engine}
            try:
                self._pass_on(client, engine)
            finally:
                with self._lock:
                    self._open -= {client, engine}

    def _pass_on(self, client: socket.socket, engine: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            if not (chunk := client.recv(_CHUNK)):
                return
            received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        line, *headers = head.decode("latin-1").split("\r\n")
        length = next((int(text[15:]) for text in headers if text.lower().startswith("content-length:")), 0)
        while len(body) < length:
            body += client.recv(_CHUNK)
        method, target, _ = line.split(" ")
        request = Request(method, target.partition("?")[0])
        fault = self._note(request)
        if fault is Fault.STALLED:
            self._healed.wait()
        if fault in {Fault.STALLED, Fault.UNHEARD}:
            return
        if fault is Fault.REFUSED:
            words = json.dumps({"message": "the engine has a bad day"}).encode()
            start = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(words)}\r\nConnection: close\r\n"
            client.sendall(f"{start}Content-Type: application/json\r\n\r\n".encode() + words)
            return
        engine.connect(self._engine)
        kept = [text for text in headers if not text.lower().startswith("connection:")]
        engine.sendall("\r\n".join([line, *kept, "Connection: close", "", ""]).encode("latin-1") + body)
        while chunk := engine.recv(_CHUNK):
            if fault is not Fault.UNANSWERED and not self._holds_back(request):
                client.sendall(chunk)

    def _note(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for rule in self._rules:
                if rule.times > 0 and rule.pattern.search(str(request)):
                    rule.times -= 1
                    return rule.fault
        return None

    def _holds_back(self, request: Request) -> bool:
        return self._hushed and str(request) == "GET /events"

"""Servers that are not there, are something else, break off, or are older: one clear line each, and nothing twice."""

from __future__ import annotations

import fcntl
import http.client
import http.server
import json
import resource
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from air_executor.client import connection
from air_executor.client.server_address import read_address
from air_executor.client.server_client import ServerClient
from air_executor.core.submission import parse_job
from air_executor.errors import BadInputError, DeniedError, NotFoundError, ServerUnavailableError
from tests.api.conftest import ServedApi
from tests.client.conftest import PATIENCE, Air

JOB = parse_job({"id": "x", "tasks": [{"command": "true"}]})
SUBMITTED = (201, {"jobs": [{"id": "x", "uid": "0badcafe", "phase": "queued"}]})


class Script(http.server.BaseHTTPRequestHandler):
    """A server that answers what it is told, request by request: a status and data, bytes, or None to hang up."""

    protocol_version = "HTTP/1.1"
    answers: list[Any]
    seen: list[tuple[str, str, dict[str, str]]]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.command, self.path, dict(self.headers)))
        answer = self.answers.pop(0)
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, data = answer
        kind = "text/html" if isinstance(data, bytes) else "application/json"
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status == 302:
            self.send_header("Location", "https://login.example/oauth2/start")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 - as the library calls them

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def scripted(*answers: Any, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, type[Script]]]:  # noqa: ANN401 - see `Script`
    """Serve a script; yields its address and what it has seen."""

    class Played(Script):
        pass

    Played.answers, Played.seen = list(answers), []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Played)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}", Played
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


def problem(status: int, kind: str, detail: str) -> tuple[int, dict[str, object]]:
    """Return a problem of the API."""
    return status, {"type": f"urn:air-executor:problem:{kind}", "title": "", "status": status, "detail": detail}


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((200, b"<html>"), ServerUnavailableError, "no Air-Executor answers there, but something else: 200, text/html"),
        ((404, b"nginx"), ServerUnavailableError, "something else: 404, text/html"),
        ((302, b""), ServerUnavailableError, "sends elsewhere, to https://login.example"),
        (problem(404, "not-found", "the API has no such path"), ServerUnavailableError, "is an older version"),
        (problem(405, "method-not-allowed", "the path takes other methods"), ServerUnavailableError, "older version"),
        (problem(404, "not-found", "no job x"), NotFoundError, "^no job x$"),
        (problem(401, "unauthorized", "no"), DeniedError, "the token is wrong, has expired, or was revoked"),
        (problem(403, "forbidden", "takes the role admin"), DeniedError, "takes the role admin"),
        (problem(421, "wrong-host", "for localhost only"), ServerUnavailableError, "for localhost only"),
        (problem(500, "error", "internal error"), ServerUnavailableError, "internal error"),
    ],
)
def test_what_a_server_answers_becomes_one_line(answer: Any, error: type[Exception], words: str) -> None:  # noqa: ANN401 - see `Script`
    """With the class, so the exit code, of the command line."""
    with scripted(answer) as (url, _), closing(ServerClient(url, "air_token")) as client:
        with pytest.raises(error, match=words) as caught:
            client.caller()
        assert "\n" not in str(caught.value)
        assert "air_token" not in str(caught.value)


def test_a_dropped_connection_submits_once() -> None:
    """The same key goes with each attempt; a change without a key is sent once, and says that its fate is unknown."""
    said: list[str] = []
    with (
        scripted(None, None, SUBMITTED, None) as (url, server),
        closing(ServerClient(url, "t", report=said.append)) as client,
    ):
        assert client.submit_all([JOB])[0].uid == "0badcafe"
        keys = {headers["Idempotency-Key"] for _, _, headers in server.seen}
        assert (len(server.seen), len(keys)) == (3, 1)
        with pytest.raises(ServerUnavailableError, match="whether the request took effect is not known"):
            client.ask("cancel", "x")
        assert len(server.seen) == 4
    assert len(said) == 1, said


def test_a_real_server_that_breaks_off_has_the_job_once(served: ServedApi) -> None:
    """A proxy that swallows the first answer: the job was submitted, and the second attempt finds it."""
    with (
        lossy_proxy(served.port) as port,
        closing(ServerClient(f"http://127.0.0.1:{port}", served.tokens["submitter"])) as client,
    ):
        named = parse_job({"name": "lossy", "tasks": [{"command": "true"}]})
        assert client.submit_all([named])[0].id == "lossy-1"
    assert [run.id for run in served.client.named_runs.newest_first("lossy")] == ["lossy-1"]


@contextmanager
def lossy_proxy(port: int) -> Iterator[int]:
    """Pass connections on to a port; of the first one the answer is dropped."""
    listening = socket.create_server(("127.0.0.1", 0))
    first = threading.Event()

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=relay, args=(client,), daemon=True).start()

    def relay(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            threading.Thread(target=copy, args=(client, server), daemon=True).start()
            if not first.is_set():
                first.set()
                server.recv(1)
                client.shutdown(socket.SHUT_RDWR)  # closing it does nothing while the other thread reads
                return
            copy(server, client)

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(PATIENCE)


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many requests: later; for ever: an error."""
    busy = problem(429, "too-many-requests", "more than 100 changes a second")
    applied = (200, {"request": "r", "applied": True, "job": "x"})
    with scripted(busy, applied) as (url, _), closing(ServerClient(url, "t")) as client:
        assert client.ask("cancel", "x").applied
    monkeypatch.setattr(connection, "BUSY_FOR", 0.1)
    with (
        scripted(busy, busy, busy) as (url, _),
        closing(ServerClient(url, "t")) as client,
        pytest.raises(ServerUnavailableError, match="more than 100 changes a second"),
    ):
        client.ask("cancel", "x")


def test_nobody_there_is_said_at_once(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """No route, no such host, no certificate: exit code 8, and what to look at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for url, words in (
        (f"http://127.0.0.1:{port}", "nothing answers there (connection refused); is the manager"),
        ("http://no-such-host.invalid", "no such host"),
    ):
        done = air("status", "--server", url)
        assert (done.code, done.out, words in done.err, done.err.count("\n")) == (8, "", True, 1), done.err


def test_a_certificate_is_verified(tmp_path: Path, air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of an unknown authority is refused before the token is sent; `SSL_CERT_FILE` makes it known."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    with scripted((200, {"requests": []}), tls=tls) as (url, server):
        done = air("status", "--server", url)
        assert (done.code, "certificate cannot be verified" in done.err, server.seen) == (8, True, []), done.err
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        with closing(ServerClient(url, "t")) as client:
            assert client.requests() == []
        done = air("status", "--server", url.replace("https", "http"))
        assert done.code == 8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "air.example.com",
        "ftp://x",
        "http://",
        "http://x:99999",
        "https://me:secret@x",
        "http://x/?token=1",
        "http://[::1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """A password in it is not repeated."""
    with pytest.raises(BadInputError) as caught:
        read_address(text)
    assert "secret" not in str(caught.value)


def test_addresses_are_the_same_with_and_without_what_is_usual() -> None:
    """The path of the API, a slash at the end, the usual port."""
    assert read_address("https://X.example:443/air/api/v1/").url == "https://x.example/air"
    assert read_address("http://[::1]:9464").url == "http://[::1]:9464"
    assert (read_address("http://localhost").is_local, read_address("http://10.0.0.1").is_local) == (True, False)


def test_a_token_over_an_open_network_is_warned_of() -> None:
    """Once, and not on this machine, and not over TLS."""
    said: list[str] = []
    for url in ("http://10.0.0.1", "http://127.0.0.1", "https://10.0.0.1"):
        ServerClient(url, "t", report=said.append)
    assert said == ["warning: http://10.0.0.1 is not encrypted: everybody on the way can read the token; use https"]


def test_a_proxy_is_used_for_other_machines(monkeypatch: pytest.MonkeyPatch, outside: Path) -> None:
    """As `HTTP_PROXY` and `NO_PROXY` say."""
    with scripted(None) as (url, _):
        monkeypatch.setenv("http_proxy", url)
        with closing(ServerClient("http://air.example", "t")) as client, pytest.raises(ServerUnavailableError):
            client.caller()


def test_a_client_among_many_open_files() -> None:
    """Whether a connection is still open is known of every descriptor, however high its number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ours, theirs = socket.socketpair()
    try:
        kept = http.client.HTTPConnection("localhost")
        with socket.socket(fileno=fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, 1024)) as kept.sock:
            assert not connection.is_closed(kept)
            theirs.close()
            assert connection.is_closed(kept)
    finally:
        ours.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

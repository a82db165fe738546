"""What attackers try: other hosts and sites, paths, bodies, slow clients, markup. Against a real manager."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

import pytest

from air_executor.web import body_limit
from air_executor.web.api.api_context import BURST, ChangeRate
from air_executor.web.problem_details import TooOftenError
from tests.api.conftest import API, ServedApi
from tests.conftest import wait_for

MARKUP = "</script><script>alert(1)</script>"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_pages_of_other_sites_change_nothing(served: ServedApi, headers: dict[str, Any]) -> None:
    """Even where a browser adds a token that it knows."""
    body = {"id": "foreign", "tasks": [{"command": "true"}]}
    answer = served.ask("POST", "/jobs", body, role="admin", **headers)
    assert (answer.status, answer.headers["content-type"]) == (403, "application/problem+json")
    assert served.get("/jobs/foreign").status == 404
    assert "access-control-allow-origin" not in served.get("/jobs", Origin="https://evil.example").headers


def test_a_page_of_this_server_may_change(served: ServedApi) -> None:
    """Its origin is the host that was asked."""
    body = {"id": "own-page", "tasks": [{"command": "true"}]}
    own: dict[str, Any] = {"Origin": f"http://127.0.0.1:{served.port}", "Sec_Fetch_Site": "same-origin"}
    assert served.ask("POST", "/jobs", body, role="submitter", **own).status == 201


def test_a_foreign_host_is_refused(served: ServedApi) -> None:
    """A site cannot point a name of its own to this server."""
    answer = served.get("/jobs", role="admin", Host="evil.example")
    assert (answer.status, answer.data["type"]) == (421, "urn:air-executor:problem:wrong-host")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_forms_are_no_requests(served: ServedApi, kind: str) -> None:
    """A form can be sent from everywhere without asking."""
    body = json.dumps({"id": "formed", "tasks": [{"command": "true"}]}).encode()
    assert served.ask("POST", "/jobs", role="submitter", body=body, Content_Type=kind).status == 415


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/..",
        "/jobs/%2e%2e",
        "/jobs/..%2f..%2fetc%2fpasswd",
        "/jobs/%00",
        "/report?job=%00",
        "/report?job=../../jobs/x",
        "/charges?job=x%00",
        "/jobs/x/tasks/..%2f..",
        "/jobs/x/tasks/y/attempts/0/log",
        "/jobs/x/tasks/y/attempts/99999999999999999999/log",
        "/jobs/-x",
        "/names/..%2fx/runs",
        "/schedules/..%2f..%2ftokens",
        "/../../tokens.json",
        "/" + "a" * 10_000,
    ],
)
def test_paths_lead_nowhere_else(served: ServedApi, path: str) -> None:
    """An id is an id."""
    answer = served.get(path, role="admin")
    assert answer.status in (400, 404, 422), answer.body
    assert b"sha256" not in answer.body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"id": 1}',
        b'{"id": "x", "id": "y", "tasks": []}',
        b'{"id": "x", "tasks": [{"command": "\\ud800"}]}',
        b"[" * 9_999,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"id": "x", "tasks": NaN}',
        b'{"id": "' + b"x" * 1_000_000 + b'"}',
    ],
)
def test_odd_bodies_are_bad_input(served: ServedApi, body: bytes) -> None:
    """A message, whatever is sent, as JSON and as YAML, and nothing of it takes effect."""
    for kind in ("application/json", "application/yaml"):
        for path in ("/jobs", "/schedules"):
            answer = served.ask("POST", path, role="admin", body=body, Content_Type=kind)
            assert answer.status in (201, 415, 422), answer.body
            assert answer.status != 201 or b"\\ud800" in body
    for path in ("/jobs/x/cancel", "/jobs/x/tasks"):
        answer = served.ask("POST", path, role="admin", body=body, Content_Type="application/json")
        assert answer.status in (404, 422), answer.body


def test_markup_stays_data(served: ServedApi) -> None:
    """It comes back as JSON, under headers that keep a browser from taking it for a page."""
    served.submit("marked", f"echo '{MARKUP}'", labels={"l": MARKUP}, description=MARKUP)
    served.ended("marked")
    for path in (
        "/jobs/marked",
        "/jobs?label=" + "%3Cb%3E",
        "/jobs/%3Cscript%3E",
        "/jobs/marked/tasks/only/attempts/1/log",
    ):
        answer = served.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["content-type"].split(";")[0] in (
            "application/json",
            "application/problem+json",
            "text/plain",
        )


def connected(served: ServedApi) -> socket.socket:
    """Return a connection to the server."""
    return socket.create_connection(("127.0.0.1", served.port), timeout=60)


def test_a_large_body_is_refused_before_it_comes(served: ServedApi) -> None:
    """By its announced length, or as soon as it has become too long."""
    head = f"POST {API}/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.tokens['submitter']}\r\n"
    with connected(served) as client:
        client.sendall(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")
    with connected(served) as client:
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        try:
            for _ in range(body_limit.MAX_BODY // (1 << 20) + 1):
                client.sendall(chunk)
        except OSError:
            pass  # it was told already
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_slow_bodies_keep_nobody_waiting(served: ServedApi) -> None:
    """While clients dribble, others are answered, and changes are made."""
    head = f"POST {API}/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.tokens['submitter']}\r\n"
    slow = [connected(served) for _ in range(100)]
    try:
        for client in slow:
            client.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        begun = time.monotonic()
        assert served.get("/jobs").status == 200
        assert served.submit("meanwhile").status == 201
        assert time.monotonic() - begun < body_limit.WITHIN
    finally:
        for client in slow:
            client.close()


def test_a_storm_of_streams_leaves_room_for_the_rest(served: ServedApi) -> None:
    """All that come at once, to the page and to the API, are no more than there may be; others are answered."""
    asked = ("/events", f"{API}/events")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(served)) for _ in range(230)]
        for number, client in enumerate(clients):
            client.sendall(f"GET {asked[number % 2]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        heads = [client.recv(12) for client in clients]
        assert heads.count(b"HTTP/1.1 200") == 200
        assert set(heads) == {b"HTTP/1.1 200", b"HTTP/1.1 503", b"HTTP/1.1 429"}
        assert served.get("/jobs").status == 200
        assert served.submit("after-the-storm").status == 201
    wait_for(lambda: _one_more(served), 60, "the streams to end")


def _one_more(served: ServedApi) -> bool:
    with connected(served) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return client.recv(12) == b"HTTP/1.1 200"


def test_changes_have_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller that asks for too much is told so; another one is not."""
    monkeypatch.setattr("time.monotonic", lambda: 1.0)
    rate = ChangeRate()
    for _ in range(BURST):
        rate.take("busy")
    with pytest.raises(TooOftenError, match="changes a second"):
        rate.take("busy")
    rate.take("calm")

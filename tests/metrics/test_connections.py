"""What clients can do to the server with connections alone, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from air_executor.metrics.collector import Collector, ManagerInfo
from air_executor.web import asgi, guarded_connection
from air_executor.web.asgi import make_app
from tests.conftest import wait_for
from tests.metrics import rig
from tests.metrics.rig import get

MOST = 16


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with few connections."""
    for module in (asgi, guarded_connection):
        monkeypatch.setattr(module, "connection_limit", lambda: MOST)


def serving(*pages: Route) -> contextlib.AbstractContextManager[int]:
    """Serve probes and some pages; return the port."""
    collector = Collector(ManagerInfo("test", "fake", max_runners=4, baseline_pool=2), lambda: None)
    return rig.serving(make_app(collector.scrape, collector.health, pages, host="127.0.0.1", token=None))


@contextlib.contextmanager
def clients(port: int, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections that send this much and then nothing."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(count)]
        for one in found:
            with contextlib.suppress(OSError):  # the server has ended it already
                one.sendall(sent)
        yield found


def is_closed(client: socket.socket) -> bool:
    """Tell whether the server has ended a connection; waits for it."""
    with contextlib.suppress(ConnectionResetError):
        return client.recv(1) == b""
    return True


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_idle_connections_make_room(sent: bytes) -> None:
    """More of them than the server accepts take nothing from a probe or a scrape: the oldest ones end."""
    with serving() as port, clients(port, 3 * MOST, sent) as idle:
        assert [get(port, path).status for path in ("/healthz", "/metrics", "/healthz")] == [200] * 3
        assert is_closed(idle[0])


def test_a_client_that_sends_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody else needs its connection, and also one that sends a request byte by byte."""
    monkeypatch.setattr(guarded_connection, "REQUEST_WITHIN", 0.2)
    with serving() as port, clients(port, 1) as [silent], clients(port, 1, b"GET / HT") as [slow]:
        assert is_closed(silent)
        assert is_closed(slow)


@pytest.mark.usefixtures("few")
def test_probes_answer_while_all_else_waits() -> None:
    """Pages that wait for a volume take no more than their share of the connections."""
    opened, begun = threading.Event(), []

    def page(_: object) -> PlainTextResponse:
        begun.append(1)
        opened.wait(60)
        return PlainTextResponse("late")

    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    share = MOST * 3 // 4
    with serving(Route("/", page)) as port, clients(port, share, request) as waiting:
        try:
            wait_for(lambda: len(begun) == share, 30, "the pages to be asked for")
            with clients(port, 2 * MOST, request):
                assert get(port, "/healthz").status == 200
                assert get(port, "/").status == 503
        finally:
            opened.set()
        assert waiting[0].recv(12) == b"HTTP/1.1 200"
        assert get(port, "/").status == 200


def test_a_client_that_takes_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that nobody reads must not keep its file and its connection."""
    monkeypatch.setattr(guarded_connection, "STALLED_AFTER", 0.2)
    ended = threading.Event()

    async def endless(_: object) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65536
                    await asyncio.sleep(0)
            finally:
                ended.set()

        return StreamingResponse(parts())

    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(Route("/", endless)) as port, clients(port, 1, request):
        assert ended.wait(30)


def test_most_descriptors_are_for_the_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few a process may have, and also where it may have any number."""
    for descriptors, connections in ((256, 64), (1024, 256), (1_000_000, 256), (resource.RLIM_INFINITY, 256)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, found=descriptors: (found, found))
        assert guarded_connection.connection_limit() == connections

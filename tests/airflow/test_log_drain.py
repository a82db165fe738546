"""How a trigger waits until Airflow has read its lines: with the socket that a triggerer's process logs into."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from air_executor.airflow import log_drain
from air_executor.airflow.log_drain import MAX_UNREAD, drain, wait_for_room

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what was read of a socket")


@pytest.fixture
def reader() -> Iterator[socket.socket]:
    """Have the root logger write into a socket; return its other end."""
    reads, writes = socket.socketpair()
    with reads, writes, writes.makefile("w") as stream:
        handler = logging.StreamHandler(stream)
        root = logging.getLogger()
        root.addHandler(handler)
        yield reads
        root.removeHandler(handler)


def say(lines: int) -> None:
    """Log so many lines."""
    for number in range(lines):
        logging.getLogger("trigger").error("line %d", number)


def run(check: Coroutine[Any, Any, None]) -> None:
    """Run in a thread of its own: a browser's tests leave an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, check).result()


async def passes(waiting: asyncio.Task[None]) -> bool:
    """Tell whether a wait has ended, after it had the time to."""
    await asyncio.sleep(0.2)
    return waiting.done()


def test_all_is_read(reader: socket.socket) -> None:
    """A trigger goes on when nothing is left, and not before."""

    async def check() -> None:
        say(3)
        waiting = asyncio.create_task(drain(60))
        assert not await passes(waiting)
        assert reader.recv(8) == b"line 0\nl"
        assert not await passes(waiting)
        assert reader.recv(4096) == b"ine 1\nline 2\n"
        await waiting

    run(check())


def test_little_is_unread(reader: socket.socket) -> None:
    """A few lines do not make a trigger wait, many do until they are few again."""

    async def check() -> None:
        say(3)
        await wait_for_room(60)
        say(2 * MAX_UNREAD // 1280)
        waiting = asyncio.create_task(wait_for_room(60))
        assert not await passes(waiting)
        reader.recv(1 << 16)
        await waiting

    run(check())


def test_patience_ends(reader: socket.socket) -> None:
    """Whoever never reads, or is kept busy by others, does not hold a trigger for ever."""
    say(3)
    run(drain(0.1))
    assert reader.recv(4) == b"line"


def test_where_it_cannot_be_told() -> None:
    """Without such a socket a trigger that ends waits a moment, and one that goes on does not."""
    assert log_drain._log_socket() is None
    before = time.monotonic()
    run(drain())
    assert time.monotonic() - before >= log_drain.FALLBACK_WAIT
    run(wait_for_room())

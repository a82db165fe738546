"""A trigger waits until Airflow has read its lines from the socket that the triggerer's process logs into."""

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
    """Make the root logger write into a socket; return the other end."""
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


async def ends(waiting: asyncio.Task[None]) -> bool:
    """Tell whether a wait has ended within 0.2 s."""
    await asyncio.sleep(0.2)
    return waiting.done()


def test_drain(reader: socket.socket) -> None:
    """A trigger waits until nothing is unread."""

    async def check() -> None:
        say(3)
        waiting = asyncio.create_task(drain(60))
        assert not await ends(waiting)
        assert reader.recv(8) == b"line 0\nl"
        assert not await ends(waiting)
        assert reader.recv(4096) == b"ine 1\nline 2\n"
        await waiting

    run(check())


def test_wait_for_room(reader: socket.socket) -> None:
    """A few unread lines do not make a trigger wait; many do, until they are few again."""

    async def check() -> None:
        say(3)
        await wait_for_room(60)
        say(2 * MAX_UNREAD // 1280)
        waiting = asyncio.create_task(wait_for_room(60))
        assert not await ends(waiting)
        reader.recv(1 << 16)
        await waiting

    run(check())


def test_time_limit(reader: socket.socket) -> None:
    """A reader that never reads, or is kept busy by others, delays a trigger for a limited time only."""
    say(3)
    run(drain(0.1))
    assert reader.recv(4) == b"line"


def test_without_socket() -> None:
    """Without such a socket a trigger waits a moment at its end, and not before."""
    before = time.monotonic()
    run(drain())
    assert time.monotonic() - before >= log_drain.FALLBACK_WAIT
    run(wait_for_room())

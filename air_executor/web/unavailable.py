"""Answers 503 on a port while no server serves it, so that clients do not wait for one that cannot start.

The manager's thread for its server calls it: a loop without threads, which holds few connections for a short time.
"""

from __future__ import annotations

import math
import socket
import time
from contextlib import suppress
from multiprocessing.connection import Connection, wait

CONNECTIONS = 64
"""Connections whose request is awaited at a time; the oldest gets its answer before another one is accepted."""
REQUEST_WITHIN = 1.0
"""Seconds for a request to arrive; then the answer goes out all the same."""
MAX_READ = 65_536


def refuse(listening: socket.socket, stopped: Connection, seconds: float, reason: str) -> bool:
    """Answer each request with one line for this time; return whether `stopped` has been closed meanwhile."""
    end = time.monotonic() + seconds
    waiting: dict[socket.socket, float] = {}
    listening.settimeout(0)  # who has connected may be gone
    try:
        while (now := time.monotonic()) < end:
            soonest = min([end, *waiting.values()])
            ready = wait([stopped, listening, *waiting], max(0.0, soonest - now))
            if stopped in ready:
                return True
            late = [one for one, until in waiting.items() if one in ready or until <= time.monotonic()]
            if listening in ready and len(waiting) - len(late) >= CONNECTIONS:
                late.append(next(one for one in waiting if one not in late))
            for one in late:
                del waiting[one]
                _answer(one, reason, end)
            if listening in ready:
                with suppress(OSError):
                    waiting[_accepted(listening)] = time.monotonic() + REQUEST_WITHIN
        return False
    finally:
        for one in waiting:
            _answer(one, reason, end)


def _accepted(listening: socket.socket) -> socket.socket:
    connection, _ = listening.accept()
    connection.settimeout(0)
    return connection


def _answer(connection: socket.socket, reason: str, end: float) -> None:
    body = f"{reason}\n".encode()
    head = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f"Retry-After: {max(1, math.ceil(end - time.monotonic()))}",
        "Connection: close",
    )
    with connection, suppress(OSError):
        _read(connection)
        connection.send("".join(f"{line}\r\n" for line in (*head, "")).encode() + body)
        connection.shutdown(socket.SHUT_WR)
        _read(connection)


def _read(connection: socket.socket) -> None:
    """Take what has arrived: what is left at the end would make the kernel drop the answer."""
    with suppress(BlockingIOError):
        connection.recv(MAX_READ)

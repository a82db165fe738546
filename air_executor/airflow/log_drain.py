"""Whether Airflow has read what the triggers of this process have logged.

A triggerer's process writes its lines into a socket, from which its supervisor reads 4 KiB at a time between two looks
into the database. What is unread when a trigger ends does not get into the task's log any more, and while the socket is
full every trigger waits that logs a line (Airflow 3.3.2, `TriggerRunnerSupervisor`). Called by `triggers`; knows
nothing of jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import stat
import struct
import termios
import time

FEW = 32 << 10
"""Bytes that may be unread when a trigger goes on to log. As the kernel counts them: 1,280 for a line."""
BLIND = 0.5
"""Seconds to wait where it cannot be told what was read."""
_STEP = 0.01


async def all_read(patience: float = 60.0) -> None:
    """Wait until Airflow has read all that was logged; with others who log all the time, for `patience` seconds."""
    fd = _socket()
    if fd is None or _unread(fd) is None:
        await asyncio.sleep(BLIND)
    else:
        await _wait(fd, 0, patience)


async def room(patience: float = 5.0) -> None:
    """Wait until few lines are unread, for `patience` seconds at most, so that others' lines need not wait for ours."""
    fd = _socket()
    if fd is not None:
        await _wait(fd, FEW, patience)


async def _wait(fd: int, most: int, patience: float) -> None:
    until = time.monotonic() + patience
    while (_unread(fd) or 0) > most and time.monotonic() < until:  # noqa: ASYNC110 - a socket does not tell
        await asyncio.sleep(_STEP)


def _socket() -> int | None:
    """Return the socket that log records go to, if they go to one."""
    for handler in logging.getLogger().handlers:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            fd: int = handler.stream.fileno()  # type: ignore[attr-defined]
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                return fd
    return None


def _unread(fd: int) -> int | None:
    """Return how many bytes of a socket its reader has yet to read; None where the kernel does not tell (no Linux)."""
    try:
        found: int = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))[0]
    except OSError:
        return None
    return found

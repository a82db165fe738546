"""Wait until Airflow has read what the triggers of this process have logged.

The process that runs triggers writes its log records into a socket. Its supervisor reads 4 KiB of it at a time, between
two queries to the database (Airflow 3.3.2, `TriggerRunnerSupervisor`). Two things follow: records that are unread when
a trigger ends do not reach the task's log, and while the socket is full every trigger that logs a line blocks. Called
by `triggers`; knows nothing of jobs.
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

MAX_UNREAD = 32 << 10
"""Unread bytes up to which a trigger goes on logging, as the kernel counts them: 1,280 for one line."""
FALLBACK_WAIT = 0.5
"""Seconds to wait where the number of unread bytes is unknown."""
_POLL_INTERVAL = 0.01


async def drain(seconds: float = 60.0) -> None:
    """Wait until Airflow has read everything, or for so many `seconds`: other triggers may log without a pause."""
    fd = _log_socket()
    if fd is None or _unread(fd) is None:
        await asyncio.sleep(FALLBACK_WAIT)
    else:
        await _wait(fd, 0, seconds)


async def wait_for_room(seconds: float = 5.0) -> None:
    """Wait until few lines are unread, at most so many `seconds`, so that lines of other triggers are not held up."""
    fd = _log_socket()
    if fd is not None:
        await _wait(fd, MAX_UNREAD, seconds)


async def _wait(fd: int, limit: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (_unread(fd) or 0) > limit and time.monotonic() < until:  # noqa: ASYNC110 - a socket sends no event for it
        await asyncio.sleep(_POLL_INTERVAL)


def _log_socket() -> int | None:
    """Return the socket that log records are written to, if there is one."""
    for handler in logging.getLogger().handlers:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            fd: int = handler.stream.fileno()  # type: ignore[attr-defined]
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                return fd
    return None


def _unread(fd: int) -> int | None:
    """Return how many bytes the reader of a socket has yet to read; None where the kernel cannot tell (not Linux)."""
    try:
        found: int = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))[0]
    except OSError:
        return None
    return found

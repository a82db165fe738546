"""What wakes the manager: new requests, ended runners, signals. Hints only; polling finds the same a little later.

Any thread or signal handler may call `wake`; only the loop sleeps here. On Linux it waits for the kernel's own events:
`watchfiles` polls its buffer from a thread, which costs 3 % of a core every millisecond, and less often breaks the
promise of a start within milliseconds. Doesn't know what has happened, only that something may have.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import sys
import threading

log = logging.getLogger(__name__)

_CLOSE_WRITE, _MOVED_TO, _CREATE = 0x8, 0x80, 0x100
"""Of `inotify(7)`: a file was written, renamed to here, or linked."""
_STEP_MS = 10
"""Polling interval of `watchfiles`, elsewhere than on Linux."""


class Wakeups:
    """Ends the manager's sleep when something may have happened."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else _pipe()
        self._poll = _Poll()
        self._poll.register(self._read)
        self._stop = threading.Event()
        self._watchers: list[threading.Thread] = []
        self._events = -1
        self._news = True

    def wake(self) -> None:
        """End the sleep; cheap, and safe from anywhere, also after `close`."""
        try:
            os.write(self._write, b"x")
        except (BlockingIOError, OSError):
            return  # it is awake already, or closed

    def sleep(self, seconds: float) -> bool:
        """Sleep until woken, at most `seconds`; return whether it was woken."""
        ready = self._poll.wait(max(0.0, seconds))
        for fd in ready:
            if fd == self._events:
                self._news |= _drain(fd)
            elif fd == self._read:
                _drain(fd)
        return bool(ready)

    def also(self, fd: int | None) -> None:
        """Wake whenever this descriptor becomes readable, too; its owner reads it."""
        if fd is not None:
            self._poll.register(fd, once=True)

    def news(self) -> bool:
        """Tell whether something may have appeared since the last call; always True where no events come."""
        if self._events < 0:
            return True
        news = _drain(self._events) or self._news
        self._news = False
        return news

    def watch(self, folder: str) -> None:
        """Wake when something appears in `folder`, if its volume sends events (a network volume does not)."""
        if sys.platform != "linux":
            thread = threading.Thread(target=self._watch, args=(folder,), name="inbox-watch", daemon=True)
            thread.start()
            self._watchers.append(thread)
            return
        self._forget_events()
        try:
            self._events = _inotify(folder)
        except OSError as error:
            log.warning("no events from %s, polling only: %s", folder, error)
        else:
            self._poll.register(self._events)
            self._news = True

    def _watch(self, folder: str) -> None:
        from watchfiles import watch  # noqa: PLC0415 - 60 ms, and only where events are wanted

        try:
            for _ in watch(
                folder,
                watch_filter=None,
                debounce=1,
                step=_STEP_MS,
                stop_event=self._stop,
                recursive=False,
                raise_interrupt=False,
            ):
                self.wake()
        except (OSError, RuntimeError) as error:
            log.warning("no events from %s, polling only: %s", folder, error)

    def _forget_events(self) -> None:
        if self._events >= 0:
            self._poll.unregister(self._events)
            os.close(self._events)
            self._events = -1

    def close(self) -> None:
        """Stop watching."""
        self._forget_events()
        self._stop.set()
        for thread in self._watchers:
            thread.join(timeout=0.2)


class _Poll:
    """`epoll` where it exists, because only that can wake once for what stays readable; `poll` elsewhere."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if sys.platform == "linux" else None
        self._poll = select.poll()

    def register(self, fd: int, *, once: bool = False) -> None:
        if self._epoll is not None:
            self._epoll.register(fd, select.EPOLLIN | (select.EPOLLET if once else 0))
        else:
            self._poll.register(fd, select.POLLIN)

    def unregister(self, fd: int) -> None:
        (self._epoll or self._poll).unregister(fd)

    def wait(self, seconds: float) -> list[int]:
        if self._epoll is not None:
            return [fd for fd, _ in self._epoll.poll(seconds)]
        return [fd for fd, _ in self._poll.poll(seconds * 1000)]


def _drain(fd: int) -> bool:
    try:
        return bool(os.read(fd, 65536))
    except BlockingIOError:
        return False


def _inotify(folder: str) -> int:
    """Return a descriptor that is readable when something appears in `folder`.

    Raises:
        OSError: the kernel refused; mostly, this user has too many watches already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if libc.inotify_add_watch(fd, os.fsencode(folder), _CLOSE_WRITE | _MOVED_TO | _CREATE) < 0:
        error = ctypes.get_errno()
        os.close(fd)
        raise OSError(error, os.strerror(error), folder)
    return fd


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write

"""What wakes the manager: new requests, ended runners, signals. Hints only; polling finds the same a little later.

Any thread or signal handler may call `wake`; only the manager sleeps here.
"""

from __future__ import annotations

import logging
import os
import select
import threading

log = logging.getLogger(__name__)


class Wakeups:
    """A doorbell that the manager sleeps beside."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else _pipe()
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        self._stop = threading.Event()
        self._watchers: list[threading.Thread] = []

    def wake(self) -> None:
        """Ring; cheap, and safe from anywhere, also after `close`."""
        try:
            os.write(self._write, b"x")
        except (BlockingIOError, OSError):
            return  # it rings already, or nobody sleeps here any more

    def sleep(self, seconds: float) -> None:
        """Sleep until somebody rings, at most `seconds`."""
        if self._poll.poll(max(0.0, seconds) * 1000):
            try:
                os.read(self._read, 65536)
            except BlockingIOError:
                return

    def watch(self, folder: str) -> None:
        """Ring when something appears in `folder`, where the volume tells (a network volume does not)."""
        thread = threading.Thread(target=self._watch, args=(folder,), name="inbox-watch", daemon=True)
        thread.start()
        self._watchers.append(thread)

    def _watch(self, folder: str) -> None:
        from watchfiles import watch  # noqa: PLC0415 - 60 ms, and only where events are wanted

        try:
            # step: how long the watcher goes on collecting after the first event, in ms; 1 is as good as at once.
            for _ in watch(
                folder,
                watch_filter=None,
                debounce=1,
                step=1,
                stop_event=self._stop,
                recursive=False,
                raise_interrupt=False,
            ):
                self.wake()
        except (OSError, RuntimeError) as error:
            log.warning("no events from %s, polling only: %s", folder, error)

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        for thread in self._watchers:
            thread.join(timeout=0.2)


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write

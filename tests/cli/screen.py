"""A terminal of a given size, drawn by pyte: what a person sees of a command, and keys to press."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

import pyte

from tests.cli.conftest import SOON
from tests.forked import Program

SIZES = ((80, 24), (120, 40))


def _without_size(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those that say how large a terminal is: this one is asked itself."""
    return {name: value for name, value in environ.items() if name not in ("COLUMNS", "LINES")}


class Screen:
    """A command in a terminal."""

    def __init__(
        self, *arguments: str, size: tuple[int, int] = (80, 24), environ: Mapping[str, str] | None = None
    ) -> None:
        columns, rows = size
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        variables = {**_without_size(os.environ), "TERM": "xterm-256color", **(environ or {})}
        self.process = Program(arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=variables, terminal=True)
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)

    def press(self, keys: str) -> None:
        """Type keys."""
        os.write(self._ours, keys.encode())

    def until(self, seen: Callable[[str], object]) -> str:
        """Draw until what is visible is as wanted; return it."""
        for _ in self._drawn():
            if seen(self.text):
                return self.text
        msg = f"not seen on:\n{self.all_text}"
        raise AssertionError(msg)

    def end(self) -> int:
        """Draw until the command has ended; return its exit code."""
        for _ in self._drawn():
            pass
        return self.process.wait(SOON)

    def _drawn(self) -> Iterator[None]:
        until = time.monotonic() + SOON
        while time.monotonic() < until:
            yield
            if not select.select([self._ours], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            self._stream.feed(data)

    @property
    def lines(self) -> list[str]:
        """What is visible, without blanks at the end of lines."""
        return [text.rstrip() for text in self._screen.display]

    @property
    def text(self) -> str:
        """What is visible, as one text."""
        return "\n".join(self.lines)

    @property
    def all_text(self) -> str:
        """What is visible, and what was scrolled away."""
        columns = range(self._screen.columns)
        above = ["".join(row[column].data for column in columns).rstrip() for row in self._screen.history.top]
        return "\n".join([*above, *self.lines])

    @property
    def cursor_hidden(self) -> bool:
        """Whether the cursor is invisible."""
        return bool(self._screen.cursor.hidden)

"""`status --watch`: a page that follows what it shows, with a window over it where it is longer than the terminal."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from air_executor.cli.pace import Pace
from air_executor.cli.signals import LEAVE_SCREEN, SHOW_CURSOR, reading_keys, restoring_terminal
from air_executor.cli.table import Line, fitted, line, plain, rich_line
from air_executor.cli.terminal import console

if TYPE_CHECKING:
    from rich.console import RenderableType

Page = Callable[[float, int | None], list[Line]]
"""Takes the time and the width; None for pipes."""

REFRESH_EVERY = 0.25
"""Seconds between two reads: the state may be on a volume without events."""
PRINT_EVERY = 1.0
"""The same, where each page that is printed stays."""

_UP, _DOWN, _PAGE_UP, _PAGE_DOWN, _TOP, _BOTTOM, _QUIT = "up", "down", "page up", "page down", "top", "bottom", "quit"
_KEYS = {
    b"\x1b[A": _UP,
    b"\x1bOA": _UP,
    b"k": _UP,
    b"\x1b[B": _DOWN,
    b"\x1bOB": _DOWN,
    b"j": _DOWN,
    b"\x1b[5~": _PAGE_UP,
    b"b": _PAGE_UP,
    b"\x1b[6~": _PAGE_DOWN,
    b" ": _PAGE_DOWN,
    b"\x1b[H": _TOP,
    b"g": _TOP,
    b"\x1b[F": _BOTTOM,
    b"G": _BOTTOM,
    b"q": _QUIT,
    b"Q": _QUIT,
}


class Window:
    """The part of a page that a terminal shows."""

    def __init__(self) -> None:
        self._first = 0

    def visible(self, lines: list[Line], rows: int) -> list[Line]:
        """Return the visible lines of a page; the last one says what is hidden."""
        room = max(1, rows - 1)
        self._first = max(0, min(self._first, len(lines) - room))
        shown = lines[self._first : self._first + room]
        if len(lines) <= room:
            text = "q quits"
        else:
            text = (
                f"lines {self._first + 1}-{self._first + len(shown)} of {len(lines)} · ↑ ↓ PgUp PgDn scroll · q quits"
            )
        return [*shown, *[line("")] * (room - len(shown)), line(text, "reverse")]

    def move(self, key: str, rows: int) -> None:
        """Scroll; the next `visible` keeps the window within the page."""
        step = max(1, rows - 2)
        self._first += {_UP: -1, _DOWN: 1, _PAGE_UP: -step, _PAGE_DOWN: step}.get(key, 0)
        if key in (_TOP, _BOTTOM):
            self._first = 0 if key == _TOP else 1 << 30


def watch_page(page: Page) -> None:
    """Show the page until `q` or Ctrl-C."""
    from rich.live import Live  # noqa: PLC0415

    window = Window()
    pace = Pace(REFRESH_EVERY)
    with (
        restoring_terminal(LEAVE_SCREEN + SHOW_CURSOR),
        reading_keys() as keyboard,
        Live(console=console(), auto_refresh=False, screen=True) as live,
    ):
        try:
            while True:
                begun = time.monotonic()
                lines = page(time.time(), console().width)
                until = time.monotonic() + pace.pause(time.monotonic() - begun)
                key: str | None = ""
                while key is not None:  # scrolling shows the same lines again
                    size = console().size
                    live.update(_picture(window.visible(fitted(lines, size.width), size.height)), refresh=True)
                    key = _key(keyboard, until - time.monotonic())
                    if key == _QUIT:
                        return
                    if key:
                        window.move(key, size.height)
        except KeyboardInterrupt:
            return


def print_changes(page: Page, is_final: Callable[[], bool]) -> None:
    """Print the page whenever more of it than times has changed, until it is final or Ctrl-C."""
    begun = time.time()
    pace = Pace(PRINT_EVERY)
    seen = None
    try:
        while True:
            started = time.monotonic()
            over = is_final()
            same_time = plain(page(begun, None))
            if same_time != seen:
                sys.stdout.write(("" if seen is None else "\n") + plain(page(time.time(), None)))
                sys.stdout.flush()
                seen = same_time
            if over:
                return
            time.sleep(pace.pause(time.monotonic() - started))
    except KeyboardInterrupt:
        return


def _picture(lines: list[Line]) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415

    return Group(*map(rich_line, lines))


def _key(keyboard: int | None, seconds: float) -> str | None:
    """Return the key pressed within that time, "" for an unknown one, None if there was none."""
    if keyboard is None:
        time.sleep(max(0.0, seconds))
        return None
    if not select.select([keyboard], [], [], max(0.0, seconds))[0]:
        return None
    typed = os.read(keyboard, 64)
    return _KEYS.get(typed, _QUIT if not typed else "")

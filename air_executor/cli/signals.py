"""Signals while a command runs: handlers that respect what the caller ignores, and a terminal that is left usable.

A shell starts background jobs with SIGINT ignored, and `nohup` ignores SIGHUP: both mean it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Any

SHOW_CURSOR = "\x1b[?25h"
LEAVE_SCREEN = "\x1b[?1049l"

Handler = Callable[..., Any]


@contextlib.contextmanager
def handling(number: int, handler: Handler | signal.Handlers) -> Iterator[None]:
    """Handle a signal, unless the caller of this program ignores it."""
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextlib.contextmanager
def restoring_terminal(sequence: str) -> Iterator[None]:
    """Write a sequence to the terminal and undo its modes before SIGQUIT (Ctrl+Backslash) ends the program."""
    terminal = sys.stdout.fileno() if sys.stdout.isatty() else None
    keyboard = sys.stdin.fileno() if sys.stdin.isatty() else None
    modes = None if keyboard is None else termios.tcgetattr(keyboard)

    def leave(*_: object) -> None:
        if keyboard is not None and modes is not None:
            termios.tcsetattr(keyboard, termios.TCSANOW, modes)
        if terminal is not None:
            with contextlib.suppress(OSError):
                os.write(terminal, sequence.encode())
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGQUIT)

    with handling(signal.SIGQUIT, leave):
        yield


@contextlib.contextmanager
def reading_keys() -> Iterator[int | None]:
    """Let single keys be read, unseen, from the terminal; yields its descriptor, or None if stdin is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    modes = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, modes)

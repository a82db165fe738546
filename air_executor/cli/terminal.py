"""Terminal output. No control sequence from a task's name, message or log reaches the terminal.

All printing of the command line goes through here. rich is imported only where layout is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

from air_executor.model.plain_text import clean, clean_log, plain_log

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDE = 10_000
"""Columns for files and pipes: lines are never cut or wrapped."""
_SIZES = ("COLUMNS", "LINES")


@cache
def console(*, stderr: bool = False) -> Console:
    """Return the console for stdout or stderr. It prints text verbatim, without markup."""
    from rich.console import Console  # noqa: PLC0415 - see the module

    stream = sys.stderr if stderr else sys.stdout
    # A size of 0 means that the size is unknown, so the terminal itself is asked.
    environ = {name: value for name, value in os.environ.items() if name not in _SIZES or value.strip("0")}
    return Console(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        width=None if stream.isatty() else WIDE,
        _environ=environ,
    )


def is_interactive() -> bool:
    """Tell whether stdout is a terminal on which something already printed can be changed."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def line_cleaner() -> Callable[[str], str] | None:
    """Return what makes a line of a log fit for stdout; None: files and pipes get every byte."""
    if not sys.stdout.isatty():
        return None
    return plain_log if console().no_color or not is_interactive() else clean_log


def report_console() -> Console:
    """Return the console for what the program itself says of a job: not stdout where that is for the tasks' output."""
    return console(stderr=not sys.stdout.isatty())


def styled(value: object, style: str = "") -> Text:
    """Return a value as styled text without control characters."""
    from rich.text import Text  # noqa: PLC0415

    return Text(clean(value), style=style)


def say(message: str) -> None:
    """Print one line of results to stdout."""
    sys.stdout.write(f"{clean(message)}\n")


def report(message: str) -> None:
    """Print one line of what the program itself says of a job; see `report_console`."""
    if sys.stdout.isatty():
        say(message)
    else:
        note(message)


def write_bytes(data: bytes) -> None:
    """Write bytes to stdout."""
    if isinstance(sys.stdout, SteadyStdout):
        sys.stdout.write_bytes(data)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)


def note(message: str) -> None:
    """Print one informational line to stderr."""
    sys.stdout.flush()
    sys.stderr.write(f"{clean(message)}\n")
    sys.stderr.flush()


def error(message: str) -> None:
    """Print an error to stderr; each further line of it, about one problem, is indented."""
    sys.stdout.flush()
    lines = "\n  ".join(clean(line) for line in message.split("\n  "))
    sys.stderr.write(f"error: {lines}\n")


class SteadyStdout:
    """Stdout of a command that must outlive its reader: what can no longer be written is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, if anybody reads it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes, if anybody reads them."""
        try:
            self._stream.flush()
            self._stream.buffer.write(data)
        except OSError as error:
            self._drop(error)

    def flush(self) -> None:
        """Flush what is buffered, if anybody reads it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())  # the buffer of the stream keeps what it could not write
        os.close(null)
        note(f"warning: cannot write to stdout ({error.strerror}); continuing without it")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of a stream
        return getattr(self._stream, name)


@contextlib.contextmanager
def steady_stdout() -> Iterator[None]:
    """Go on when the reader of stdout has left (`| head -1`), the disk is full, or the terminal is gone.

    Stderr needs no such care: `lossy_stderr` has replaced it.
    """
    out = sys.stdout
    sys.stdout = SteadyStdout(out)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = out


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print data as ASCII-only JSON, which cannot contain control sequences."""
    for piece in json.JSONEncoder(indent=2).iterencode(value):  # the text may be much larger than the data
        sys.stdout.write(piece)
    sys.stdout.write("\n")
    sys.stdout.flush()


PHASE_STYLES = {
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "skipped": "bright_black",
    "running": "cyan",
    "paused": "magenta",
    "pending": "bright_black",
    "queued": "",
}

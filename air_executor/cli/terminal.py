"""Terminal output. No control sequence from a task's name, message or log reaches the terminal.

All printing of the command line goes through here. rich is imported only where layout is needed.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from air_executor.model.plain_text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDE = 10_000
"""Columns for files and pipes: lines are never cut or wrapped."""


@cache
def console(*, stderr: bool = False) -> Console:
    """Return the console for stdout or stderr. It prints text verbatim, without markup."""
    from rich.console import Console  # noqa: PLC0415 - see the module

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=None if stream.isatty() else WIDE)


def styled(value: object, style: str = "") -> Text:
    """Return a value as styled text without control characters."""
    from rich.text import Text  # noqa: PLC0415

    return Text(clean(value), style=style)


def say(message: str) -> None:
    """Print one line of results to stdout."""
    sys.stdout.write(f"{clean(message)}\n")


def note(message: str) -> None:
    """Print one informational line to stderr."""
    sys.stdout.flush()
    sys.stderr.write(f"{clean(message)}\n")
    sys.stderr.flush()


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print data as ASCII-only JSON, which cannot contain control sequences."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
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

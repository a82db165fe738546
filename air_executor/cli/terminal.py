"""How text reaches a terminal: nothing that a task wrote may steer it, whether in a name, a message or a log.

All printing of the command line goes through here. rich is imported only where there is something to lay out.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDE = 10_000
"""Columns of what is no terminal: files and pipes get every line whole."""

# C0 and C1 controls (line ends and tabs apart), half surrogates, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?|\x1b[ -/]*[0-~]"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def clean(value: object) -> str:
    """Return a value as one line of harmless text: control characters become visible."""
    return _CONTROL.sub(_visible, str(value).replace("\t", " ").replace("\n", " "))


def clean_log(line: str) -> str:
    """Return a line of a log with its colours, and without everything else that steers a terminal.

    Of a line that was overwritten by carriage returns (a progress bar), what was visible last is left.
    """
    line = line.rstrip("\r").rpartition("\r")[2]
    line = _SEQUENCE.sub(lambda match: match[0] if _COLOUR.fullmatch(match[0]) else "", line)
    pieces = _COLOUR.split(line)
    colours = [*_COLOUR.findall(line), ""]
    text = "".join(_CONTROL.sub(_visible, piece) + colour for piece, colour in zip(pieces, colours, strict=True))
    return f"{text}\x1b[0m" if len(colours) > 1 else text


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004


@cache
def console(*, stderr: bool = False) -> Console:
    """Return the console for stdout or stderr; it takes text as it is, without markup."""
    from rich.console import Console  # noqa: PLC0415 - 80 ms

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=None if stream.isatty() else WIDE)


def styled(value: object, style: str = "") -> Text:
    """Return a value as clean text in a style."""
    from rich.text import Text  # noqa: PLC0415

    return Text(clean(value), style=style)


def say(message: str) -> None:
    """Print one line of result."""
    sys.stdout.write(f"{clean(message)}\n")


def note(message: str) -> None:
    """Print one line for the person who watches, beside the result."""
    sys.stdout.flush()
    sys.stderr.write(f"{clean(message)}\n")
    sys.stderr.flush()


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print data; pure ASCII, so that nothing in it can steer a terminal."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()


PHASE_STYLES = {
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "skipped": "bright_black",
    "running": "cyan",
    "paused": "magenta",
    "held": "bright_black",
    "queued": "",
}

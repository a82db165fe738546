"""What tasks name and print as harmless text: control characters become visible, what steers a terminal goes.

For whatever shows it to people: the command line and the page. Pure.
"""

from __future__ import annotations

import re

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


def plain_log(line: str) -> str:
    """Return a line of a log as `clean_log`, and without its colours."""
    return _COLOUR.sub("", clean_log(line))

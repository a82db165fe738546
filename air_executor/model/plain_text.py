"""What tasks name and print as harmless text: control characters become visible, what steers a terminal goes.

For whatever shows it to people: the command line and the page. Pure.
"""

from __future__ import annotations

import re

# What does not show itself: C0 and C1 controls (line ends and tabs apart), separators of lines, half surrogates,
# annotations, and all that Unicode calls Default_Ignorable_Code_Point (DerivedCoreProperties.txt), which `unicodedata`
# does not know: zero-width characters, turns of the direction of writing, fillers, tags, variation selectors. Of these
# two are left where they show: one that makes a symbol an emoji, and in a log joiners, which are parts of words.
_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufff9-\ufffb"
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_SYMBOLS = "\xa9\xae\u203c\u2049\u2100-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_PRESENTATION = f"(?<![{_SYMBOLS}])[\ufe0e\ufe0f](?!\u20e3)"
_CONTROL = re.compile(f"[{_UNSEEN}\u200c\u200d]|{_PRESENTATION}")
_CONTROL_IN_LOG = re.compile(f"[{_UNSEEN}]|{_PRESENTATION}")
_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?|\x1b[ -/]*[0-~]"
)
COLOR = re.compile(r"\x1b\[[0-9;:]*m")
"""A color sequence: all that `clean_log` leaves of what steers a terminal."""
_FIRST_BYTE = 0xDC80
"""What Python reads the byte 0x80 as where text is no UTF-8."""
_CONCEAL = "8"
_EXTENDED = {"38", "48", "58"}
_PARTS_OF_EXTENDED = {"5": 2, "2": 4}
"""Parameters that belong to an extended color, by its kind."""


def clean(value: object) -> str:
    """Return a value as one line of harmless text: control characters become visible."""
    return _CONTROL.sub(_visible, str(value).replace("\t", " ").replace("\n", " "))


def clean_log(line: str) -> str:
    """Return a line of a log with its colours, and without everything else that steers a terminal.

    Of a line that was overwritten by carriage returns (a progress bar), what was visible last is left.
    """
    line = line.rstrip("\r").rpartition("\r")[2]
    line = _SEQUENCE.sub(lambda match: _shown(match[0]) if COLOR.fullmatch(match[0]) else "", line)
    pieces = COLOR.split(line)
    colours = [*COLOR.findall(line), ""]
    text = "".join(_CONTROL_IN_LOG.sub(_visible, piece) + colour for piece, colour in zip(pieces, colours, strict=True))
    return f"{text}\x1b[0m" if len(colours) > 1 else text


def _shown(colour: str) -> str:
    """Return a color sequence without what makes text invisible."""
    given = colour[2:-1].split(";")
    kept: list[str] = []
    at = 0
    while at < len(given):
        code, colon, _ = given[at].partition(":")
        size = 1
        if code.lstrip("0") in _EXTENDED and not colon and at + 1 < len(given):
            size += _PARTS_OF_EXTENDED.get(given[at + 1].lstrip("0"), 0)
        if code.lstrip("0") != _CONCEAL:
            kept += given[at : at + size]
        at += size
    return f"\x1b[{';'.join(kept)}m" if kept else ""


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if _FIRST_BYTE <= code <= _FIRST_BYTE + 0x7F:
        code -= _FIRST_BYTE - 0x80
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def plain_log(line: str) -> str:
    """Return a line of a log as `clean_log`, and without its colours."""
    return COLOR.sub("", clean_log(line))

"""How a message shows a value that someone gave: short, on one line, whatever the value is.

Used wherever input is refused. The value may be hostile (deep, huge, not printable).
"""

from __future__ import annotations

import reprlib

from air_executor.model.written import text_of

_LONGEST = 60

_short = reprlib.Repr()
_short.maxlevel = 2
_short.maxstring = _short.maxother = _short.maxlong = _LONGEST


def quoted(value: object) -> str:
    """Return `value` as a message shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        text = _short.repr(value) if isinstance(value, str) else text_of(value) or _short.repr(value)
    except ValueError:  # an int with more digits than Python writes
        return "a huge number"
    if isinstance(value, str):
        text = f'"{text[1:-1]}"'
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

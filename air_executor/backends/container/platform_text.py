"""What platforms answer, parsed for our own use: messages on one line, and times. Used by the container backends."""

from __future__ import annotations

from datetime import datetime

_MAX_LENGTH = 500


def brief(text: object) -> str:
    """Return a platform's message on one line, truncated if it is too long."""
    line = " ".join(str(text).split())
    return line if len(line) <= _MAX_LENGTH else line[:_MAX_LENGTH] + "…"


def describe_error(error: BaseException) -> str:
    """Return a library's error on one line: its message, or its type if it has none."""
    return brief(error) or type(error).__name__


def parse_time(text: object) -> float | None:
    """Return an RFC 3339 time, whole seconds, as Unix seconds; None if it is none, or the year 1, which means never."""
    try:
        at = datetime.fromisoformat(str(text)[:19] + "+00:00").timestamp()
    except ValueError:
        return None
    return at if at > 0 else None

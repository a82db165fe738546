"""What platforms answer, made fit for our own use: words on one line, and times. For the backends alone."""

from __future__ import annotations

from datetime import datetime

_LONGEST = 500


def brief(words: object) -> str:
    """Return a platform's words on one line, cut where they are too long."""
    text = " ".join(str(words).split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def instant(text: object) -> float | None:
    """Return a time (RFC 3339, whatever its decimals) in Unix seconds; None if it is none, or the year 1 for never."""
    try:
        at = datetime.fromisoformat(str(text)[:19] + "+00:00").timestamp()
    except ValueError:
        return None
    return at if at > 0 else None

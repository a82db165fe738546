"""Times and durations as text and as numbers, both ways.

Everything that shows, stores or reads a time uses these, so that there is one form of each: Unix seconds in memory,
`2026-01-31T12:00:00.123Z` on the volume, `1h30m` for people. Knows no clock: the time is always an argument.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from air_executor.errors import BadInputError
from air_executor.model.quote import quoted

MAX_DURATION = 36_525 * 86_400
"""Longest duration, in seconds (a century): what is added to a time then still is a time that can be written."""

MIN_TIME, MAX_TIME = 0.0, 253_402_300_799.0
"""Unix seconds that can be written as text: from 1970 to the end of the year 9999."""

DURATION_RULE = 'a number of seconds (90, 0.5) or text like "90s", "10m", "1h30m", "2d" or "500ms"'
DURATION_PATTERN = (
    r"^(?=[0-9])(?:[0-9]+(?:\.[0-9]+)?|"
    r"(?:[0-9]+(?:\.[0-9]+)?d)?(?:[0-9]+(?:\.[0-9]+)?h)?(?:[0-9]+(?:\.[0-9]+)?m)?"
    r"(?:[0-9]+(?:\.[0-9]+)?s)?(?:[0-9]+(?:\.[0-9]+)?ms)?)$"
)
"""A duration as text, for JSON Schema: a bare number of seconds, or units in falling order, each once."""
TIME_RULE = "a time with its zone, like 2026-01-31T12:00:00Z or 2026-01-31T13:00:00.5+01:00"

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_PART = re.compile(r"([0-9.]+)(ms|[dhms])")
_LENGTH = len("2026-01-31T12:00:00.123Z")
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_LONGEST_TEXT = 100


@lru_cache(maxsize=4096)
def _to_second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).isoformat()[:19]


@lru_cache(maxsize=4096)
def _from_second(text: str) -> int | None:
    text += "Z"
    try:
        return int(datetime.fromisoformat(text).timestamp()) if _TIME.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=4096)  # tasks have most of their times in common with others
def to_text(seconds: float) -> str:
    """Return Unix seconds as UTC text with milliseconds, `2026-01-31T12:00:00.123Z`.

    Raises:
        ValueError, OverflowError: it is not a number or outside of the years 1 to 9999.
    """
    whole, milli = divmod(round(seconds * 1000), 1000)
    return f"{_to_second(whole)}.{milli:03d}Z"


def from_text(text: object) -> float:
    """Return the Unix seconds of a time as text, which must say its zone (`Z` or an offset).

    Raises:
        BadInputError: it is no such text.
    """
    if isinstance(text, str):
        if len(text) == _LENGTH and text[19] == "." and text[23] == "Z" and (milli := text[20:23]).isdecimal():
            whole = _from_second(text[:19])
            if whole is not None:
                return (whole * 1000 + int(milli)) / 1000
        try:
            if _TIME.fullmatch(text):
                return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            pass
    msg = f"must be {TIME_RULE}, got {quoted(text)}"
    raise BadInputError(msg)


def parse_duration(value: float | str | timedelta) -> float:
    """Return a duration in seconds, as an int if it is a whole number of them.

    Takes a number of seconds, a `timedelta`, or text: a number of seconds or any of days, hours, minutes, seconds and
    milliseconds in that order (`1h30m`, `500ms`).

    Raises:
        BadInputError: it is something else, negative, not finite, or longer than a century.
    """
    seconds: float | None = None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and len(value) <= _LONGEST_TEXT and _DURATION.fullmatch(value):
        parts = _PART.findall(value)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else float(value)
        seconds = round(seconds, 6)
    if seconds is None or not 0 <= seconds <= MAX_DURATION:
        msg = f"must be {DURATION_RULE}, not negative and at most a century, got {quoted(value)}"
        raise BadInputError(msg)
    return int(seconds) if seconds == int(seconds) else seconds


def format_duration(seconds: float) -> str:
    """Return a duration for people: `12ms`, `1.31s`, `1m30s`, `1h30m`, `2d`. From a minute on, whole seconds."""
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 0.9995:  # noqa: PLR2004 - what rounds to a whole second is one
        return f"{round(seconds * 1000)}ms" if seconds >= 0.0005 else "0s"  # noqa: PLR2004
    if round(seconds, 2) < 60:  # noqa: PLR2004
        return f"{round(seconds, 2):g}s"
    rest = round(seconds)
    text = ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text

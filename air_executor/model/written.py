"""Values that remember how a file wrote them: as text, `0644` is not 644, and `1.10` is not 1.1."""

from __future__ import annotations

import datetime as dt


class WholeNumber(int):
    """A whole number of a file."""

    source: str


class RealNumber(float):
    """A number of a file that is not whole."""

    source: str


def real_number(source: str) -> RealNumber:
    """Return the number that JSON text says."""
    number = RealNumber(source)
    number.source = source
    return number


def text_of(value: object) -> str | None:
    """Return a value as it is written in a file: text, a number, a day. None for others, which have several forms."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | RealNumber) and not isinstance(value, bool):
        return str(getattr(value, "source", value))
    return value.isoformat() if type(value) is dt.date else None


def number_or_text(value: object) -> object:
    """Return a number of a file as a plain one; as text, if it is not written as JSON writes it: 0644, 1.10, 1_000."""
    source = getattr(value, "source", None)
    if source is None:
        return value
    number = int(value) if isinstance(value, WholeNumber) else float(value)  # type: ignore[arg-type]
    return number if str(number) == source else source

"""Numbers that remember how a file wrote them: as text, `0644` is not 644, and `1.10` is not 1.1."""

from __future__ import annotations


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

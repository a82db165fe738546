"""Reads `NAME=VALUE` as people type it, in options of commands and in addresses of the API."""

from __future__ import annotations

from collections.abc import Iterable

from air_executor.errors import BadInputError


def read_pairs(entries: Iterable[str], option: str, form: str = "NAME=VALUE") -> dict[str, str]:
    """Return values by name; of a name that is given twice, the last value.

    Raises:
        BadInputError: an entry has no `=`, or nothing before it. `option` and `form` are for the message.
    """
    pairs = {}
    for entry in entries:
        name, mark, value = entry.partition("=")
        if not name or not mark:
            msg = f"{option}: must be {form}, got {entry[:100]!r}"
            raise BadInputError(msg)
        pairs[name] = value
    return pairs

"""The option `--since` of `logs` and `report`: a duration, a day or a time."""

from __future__ import annotations

import re

from air_executor.errors import BadInputError
from air_executor.model.times import from_text, parse_duration

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def since_moment(text: str, now: float) -> float:
    """Return the Unix seconds that `--since` names.

    Raises:
        BadInputError: it names none.
    """
    try:
        return now - parse_duration(text)
    except BadInputError:
        pass
    try:
        return from_text(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)
    except BadInputError:
        msg = f"--since: must be a duration (24h, 7d), a day (2026-01-31) or a time with its zone, got {text!r}"
        raise BadInputError(msg) from None

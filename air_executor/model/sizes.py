"""Amounts of memory as people write them: `512Mi`, `2G`, or a number of bytes.

For job files, settings and messages alike. Standard library alone.
"""

from __future__ import annotations

import re

from air_executor.errors import BadInputError
from air_executor.model.quote import quoted

MIB = 1 << 20
"""Least memory, in bytes: a smaller number is a forgotten unit."""
PIB = 1 << 50
"""Most memory, in bytes."""
MEMORY_PATTERN = r"^[0-9]+(?:\.[0-9]+)?(?:[KMGT]i?|k)$"
_MEMORY = re.compile(MEMORY_PATTERN)
_LONGEST = 40
_UNITS = {f"{letter}{i}": (1024 if i else 1000) ** n for n, letter in enumerate("KMGT", 1) for i in ("", "i")} | {
    "k": 1000
}


def parse_memory(value: object) -> int:
    """Return bytes, from a number of them or text like `512Mi`.

    Raises:
        BadInputError: it is neither, or less than a mebibyte or more than a pebibyte.
    """
    size: float | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and len(value) <= _LONGEST and _MEMORY.fullmatch(value):
        number = value.rstrip("KMGTik")
        size = float(number) * _UNITS[value[len(number) :]]
    if size is None or not MIB <= size <= PIB:
        msg = f'must be "512Mi", "2Gi", "1.5G" or a number of bytes, at least 1Mi, got {quoted(value)}'
        raise BadInputError(msg)
    return int(size)


def format_memory(size: float) -> str:
    """Return bytes as people read them, in the largest binary unit that leaves at least one: `512Mi`, `1.5Gi`."""
    for unit, factor in (("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f}".removesuffix(".0") + unit
    return f"{size:g}"

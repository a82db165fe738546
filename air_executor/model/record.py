"""What all records have in common: they refuse keys that they do not know, and some know which fields were given."""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from dataclasses import MISSING, fields
from typing import Self


class Record:
    """A record that refuses keys which it does not know."""

    __slots__ = ()
    __pydantic_config__ = {"extra": "forbid", "revalidate_instances": "always"}  # noqa: RUF012 - pydantic's own name

    def __repr__(self) -> str:
        """Return the phase and the fields that differ from their defaults; a task has fifty. Needs `repr=False`."""
        given = []
        for one in fields(self):  # type: ignore[arg-type]
            default = one.default if one.default_factory is MISSING else one.default_factory()
            if (value := getattr(self, one.name)) != default or one.name == "phase":
                given.append(f"{one.name}={value!r}")
        return f"{type(self).__name__}({', '.join(given)})"


class AsWritten(Record):
    """A record that knows which of its fields were given in Python: a value that equals the default counts, too."""

    __slots__ = ("given",)
    given: frozenset[str] | None
    """Names of the fields that were given; None: the record was read from data and is complete."""

    def __new__(cls, *_: object, **given: object) -> Self:
        """Note which fields are given."""
        self = super().__new__(cls)
        self.given = frozenset(given) if given else None
        return self

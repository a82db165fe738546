"""Who manages, as a record on a platform's server: what `manager.leader` asks of a backend that can keep one.

Separate from the runner protocol because only some platforms have it. The server orders the writes. It does not judge
who may take the record, and its clock decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LeaseSnapshot:
    """The record as the server has it."""

    holder: str
    """Empty if the last holder released it."""
    version: str
    """Changes with each write."""
    transitions: int = 0
    """Number of times it changed hands; informational."""
    uid: str = ""
    """Tells this record from every other, also from one of the same name: in another cluster, or made again later."""


class LeaseRecord(Protocol):
    """Reads and writes the record."""

    name: str
    """The record's name in messages."""

    def read(self) -> LeaseSnapshot | None:
        """Return the record; None if there is none.

        Raises:
            BackendUnavailableError: the server does not answer.
        """

    def write(self, holder: str, before: LeaseSnapshot | None, lasts: float) -> LeaseSnapshot | None:
        """Write the record if it is unchanged since `before`, and return it; None if it has changed.

        Args:
            holder: the new holder; empty to release it.
            before: the record as last read; None if there was none.
            lasts: seconds without a renewal after which others may take it; informational.

        Raises:
            BackendUnavailableError: the server does not answer; it may have been written.
        """

"""Who manages, as a record on a platform's server: what `manager.leader` asks of a backend that can keep one.

Beside the protocol of runners because only some platforms have it. The server orders the writes; it does not judge
who may take the record, and its clock decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LeaseSnapshot:
    """The record as the server has it."""

    holder: str
    """Empty: whoever held it let go."""
    version: str
    """Another one after each write."""
    transitions: int = 0
    """How often it changed hands; for people."""


class LeaseRecord(Protocol):
    """Where the record is."""

    name: str
    """As messages name it."""

    def read(self) -> LeaseSnapshot | None:
        """Return the record; None if there is none.

        Raises:
            BackendUnavailableError: the server does not answer.
        """

    def write(self, holder: str, before: LeaseSnapshot | None, lasts: float) -> LeaseSnapshot | None:
        """Write the record if it is still as `before`, and return it; None if it is not.

        Args:
            holder: who has it from now on; empty: nobody.
            before: as it was last seen; None: there was none.
            lasts: after how many seconds without a change others may take it; for people.

        Raises:
            BackendUnavailableError: the server does not answer; it may have been written.
        """

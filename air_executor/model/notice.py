"""Notifications that are to be delivered: in the state of their job, and in the journal's lines that queue them."""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.record import Record

MAX_NOTICES = 1000
"""Notifications that a job keeps: older ones are dropped."""


@dataclass(frozen=True, slots=True)
class Notice(Record):
    """A notification that a decision about a job has queued, until it is delivered."""

    at: t.Time
    version: t.Count
    """The job's version after that decision."""
    on: t.Word
    to: t.Word
    failed: t.Text | None = None
    """Why it was given up; None: it is still to be delivered."""

    @property
    def name(self) -> tuple[int, str, str]:
        """What tells it apart from the others of its job."""
        return self.version, self.on, self.to


@dataclass(kw_only=True, repr=False)
class HasNotices:
    """What a job's state has of what people are told."""

    __slots__ = ()
    reopened_from: t.Word | None = None
    """Phase in which it had ended when it was reopened last."""
    late_since: t.Time | None = None
    """When its `late_after` had passed."""
    notices: Annotated[list[Notice], MaxLen(MAX_NOTICES)] = field(default_factory=list)
    """Notifications that are not delivered yet, or were given up; oldest first."""

    @property
    def undelivered(self) -> list[Notice]:
        """The notifications that are still to be delivered."""
        return [notice for notice in self.notices if notice.failed is None]

    def queue_notices(self, notices: Iterable[Notice]) -> None:
        """Append notifications that a decision has queued."""
        self.notices += notices
        del self.notices[:-MAX_NOTICES]

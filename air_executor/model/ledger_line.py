"""A line of `ledger/`: one run of a job that was deleted, or the sum of those that its state had only as a sum."""

# No `from __future__ import annotations`: `parsing` reads the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.attempt import Attempt
from air_executor.model.record import Record
from air_executor.model.usage import Usage


@dataclass(frozen=True, slots=True)
class LedgerLine(Record):
    """One run, with what reports group it by."""

    job: t.Id
    uid: t.Word
    task: str = ""
    pool: t.Word = "default"
    labels: Annotated[dict[str, str], MaxLen(1000)] = field(default_factory=dict)
    """Those of the task override those of the job."""
    attempt: Attempt | None = None
    followed: bool = False
    """Its task ran again later."""
    requested: Annotated[dict[str, Any], MaxLen(100)] = field(default_factory=dict)
    """The resources that its task requested."""
    earlier: Usage | None = None
    """The sum of the runs that the state did not have individually."""
    after: t.Amount = 0.0
    """When the first of these may have begun, Unix seconds."""
    before: t.Amount = 0.0
    """When the last of these had ended at the latest."""

"""How long the container or pod of a failed task stays, as tasks say it, and what a job knows of one that does."""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from dataclasses import dataclass
from typing import Annotated

from air_executor.model import types as t
from air_executor.model.attempt import Price
from air_executor.model.record import Record
from air_executor.model.types import About


@dataclass(slots=True, kw_only=True)
class Keep(Record):
    """When the runner of a task stays after its end, for people to look around in it."""

    on_failure: Annotated[
        t.PositiveDuration,
        About(
            "How long the container or pod of the last attempt stays if that failed: by `error`, `timeout` or `oom`."
        ),
    ]


@dataclass(frozen=True, slots=True)
class KeptRunner(Record):
    """A runner that stays after its run was committed as failed."""

    seq: t.Seq
    slot: t.SlotNumber
    since: t.Time
    """When the run was committed, by the volume's clock."""
    until: t.Time
    backend: t.Word | None = None
    runner: t.Word | None = None
    """Its name on the platform."""
    price: Price | None = None
    """Per hour, by component, as in force when the run was committed."""
    currency: t.Word | None = None

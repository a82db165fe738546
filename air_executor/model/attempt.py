"""One ended run of a task, for the ledger: a record of `state.json`."""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.record import Record
from air_executor.model.reports import Reported
from air_executor.model.times import from_text

MAX_ATTEMPTS_KEPT = 100
"""Per task; the job's usage counts every run."""
MAX_AGAIN_KEPT = 10
"""Of these, runs that asked for another one: a task may do so every minute for months."""

Price = Annotated[dict[t.Word, t.Money], MaxLen(100)]
"""Money per hour, by component."""


@dataclass(frozen=True, slots=True)
class Attempt(Record):
    """One ended run of a task, for the ledger; stages in seconds."""

    seq: t.Seq
    slot: t.SlotNumber
    spawned_at: t.TimeText
    start: t.Amount
    work: t.Amount
    finish: t.Amount
    reason: t.Word
    exit_code: t.ExitCode | None = None
    message: t.Text | None = None
    """Why it ended so, where there is more to say than the reason."""
    cpu: t.Amount | None = None
    memory: t.Bytes | None = None
    """Peak."""
    memory_limit: t.Bytes | None = None
    """Limit of this run; None if its task names no memory."""
    cost: t.Money = 0.0
    clock_stepped: bool = False
    ready_at: t.TimeText | None = None
    """When only a free runner was missing, by the manager's clock; None if unknown."""
    waited: t.Amount | None = None
    """Seconds from then until the runner was spawned, by the manager's clock; until it had a node, on a cluster."""
    node_wait: t.Amount | None = None
    """The part of it for which its platform had no node for the runner; None if there was no such wait."""
    backend: t.Word | None = None
    image: t.Text | None = None
    """The image of its runner, with its digest; None if it had none, or its platform did not say."""
    price: Price | None = None
    """Per hour of this runner, by component, as in force when the run was committed."""
    currency: t.Word | None = None
    reported: Reported = field(default_factory=dict)
    """What the run said it used, by name."""

    @property
    def spawned(self) -> float:
        """When its runner was spawned, in Unix seconds."""
        return from_text(self.spawned_at)

    @property
    def runner_seconds(self) -> float:
        """How long its runner existed."""
        return self.start + self.work + self.finish

    @property
    def gone_at(self) -> float:
        """When its runner was gone, in Unix seconds."""
        return self.spawned + self.runner_seconds

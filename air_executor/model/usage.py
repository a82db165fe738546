"""From the four moments of a run to runner-seconds, work and idle.

All moments are time stamps of one clock, the volume's, so their differences mean something; they are exact to that
volume's time-stamp step (4 ms on many ext4 volumes).
"""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.record import Record
from air_executor.model.reports import Reported, add_up


@dataclass(frozen=True, slots=True)
class Moments(Record):
    """When a run was spawned, started, ended and gone, in Unix seconds; `cpu` in seconds, `memory` peak in bytes."""

    spawned: t.Moment
    started: t.Moment | None
    """None: the run never began."""
    ended: t.Moment | None
    """None: it was lost, so its work lasted until it was gone."""
    gone: t.Moment
    cpu: t.Amount | None = None
    memory: t.Bytes | None = None
    clock_stepped: bool = False
    """The manager saw wall and monotonic time disagree during the run, so the differences are not to be trusted."""


class Stages(NamedTuple):
    """A run's seconds by stage. Their sum is its runner-seconds, exactly."""

    start: float
    work: float
    finish: float

    @property
    def runner_seconds(self) -> float:
        """How long the runner existed."""
        return self.start + self.work + self.finish


def stages(moments: Moments) -> Stages:
    """Split a run into start, work and finish; negative differences (a stepped clock) count as 0."""
    total = max(0.0, moments.gone - moments.spawned)
    if moments.started is None:
        return Stages(round(total, 6), 0.0, 0.0)
    start = min(max(0.0, moments.started - moments.spawned), total)
    ended = moments.gone if moments.ended is None else moments.ended
    work = min(max(0.0, ended - moments.started), total - start)
    return Stages(round(start, 6), round(work, 6), round(max(0.0, total - start - work), 6))


@dataclass(slots=True)
class Usage(Record):
    """What a job has used so far."""

    __pydantic_config__ = {"extra": "ignore"}  # noqa: RUF012 - pydantic's own name

    runs: t.Total = 0
    start_seconds: t.TotalAmount = 0.0
    work_seconds: t.TotalAmount = 0.0
    finish_seconds: t.TotalAmount = 0.0
    cpu_seconds: t.TotalAmount = 0.0
    cost: t.TotalMoney = 0.0
    """In `currency`, at the prices in force when each run was committed."""
    currency: t.Word | None = None
    """Of the newest run that had a price; None if none had."""
    other_costs: Annotated[dict[t.Word, t.TotalMoney], MaxLen(1000)] = field(default_factory=dict)
    """What was committed in other currencies before, by currency: amounts of different money are never added."""
    reported: Reported = field(default_factory=dict)
    """What tasks said they used, by name."""
    succeeded: t.Total = 0
    """Runs that succeeded; those are missing that were counted by a version which did not know this number."""

    @property
    def runner_seconds(self) -> float:
        """Seconds during which a runner of this job existed, summed over its runs."""
        return self.start_seconds + self.work_seconds + self.finish_seconds

    @property
    def idle_seconds(self) -> float:
        """Runner-seconds without work in them."""
        return self.start_seconds + self.finish_seconds

    def add(
        self,
        spent: Stages,
        cpu: float | None,
        cost: float = 0.0,
        currency: str | None = None,
        reported: dict[str, float] | None = None,
        *,
        succeeded: bool = False,
    ) -> None:
        """Add one run; `currency` is None if it had no price."""
        self.runs += 1
        self.succeeded += succeeded
        add_up(self.reported, reported or {})
        self.start_seconds += spent.start
        self.work_seconds += spent.work
        self.finish_seconds += spent.finish
        self.cpu_seconds += cpu or 0.0
        self._pay(cost, currency)

    def add_stay(self, seconds: float, cost: float, currency: str | None) -> None:
        """Add what the runner of a run that counts already has used since."""
        self.finish_seconds += seconds
        self._pay(cost, currency)

    def _pay(self, cost: float, currency: str | None) -> None:
        if currency is not None and currency != self.currency:
            if self.currency is not None:
                self.other_costs[self.currency] = self.cost
                self.cost = 0.0
            self.cost += self.other_costs.pop(currency, 0.0)
            self.currency = currency
        self.cost += cost

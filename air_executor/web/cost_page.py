"""What all jobs cost, day by day and group by group: the data of the page, from one report. Pure: no files, no HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from air_executor.core.cost_report import CostReport
from air_executor.core.job_cost import CostSums
from air_executor.model.times import from_text, to_text

DAY = 86_400.0
SPANS = (7, 31, 92, 366)
"""Days that the page can show."""
GROUPS_SHOWN = 50


@dataclass(slots=True)
class Amount:
    """What some runs used."""

    used: float = 0.0
    """Money in the report's currency, or runner-seconds if nothing has a price."""
    wasted: float = 0.0
    """The part of it that runs without success used."""
    runs: int = 0
    seconds: float = 0.0
    """Runner-seconds."""
    idle: float = 0.0
    """Those of them before and after the work."""

    def add(self, sums: CostSums, currency: str | None) -> None:
        """Add what these runs used."""
        self.runs += sums.runs
        self.seconds += sums.runner_seconds
        self.idle += sums.idle_seconds
        self.used += sums.runner_seconds if currency is None else sums.costs.get(currency, 0.0)
        self.wasted += sums.waste_seconds if currency is None else sums.waste_costs.get(currency, 0.0)


@dataclass(frozen=True, slots=True)
class DayBar:
    """A day in the chart, in a square of 100 by 100 with the origin at the top left."""

    day: str
    amount: Amount
    x: float
    width: float
    height: float
    wasted: float
    """Height of the part that was wasted, at the foot."""


@dataclass(frozen=True, slots=True)
class CostPage:
    """What the page shows."""

    report: CostReport
    days: Sequence[DayBar]
    most: float
    """What the full height of the chart stands for."""
    groups: Sequence[tuple[str, Amount]]
    """The dearest first."""
    more: int
    """Groups that are left out."""
    total: Amount = field(default_factory=Amount)


def first_moment(days: int, now: float) -> float:
    """Return the beginning of so many days, today included: midnight (UTC), in Unix seconds."""
    return from_text(f"{to_text(now)[:10]}T00:00:00Z") - (days - 1) * DAY


def cost_page(report: CostReport, now: float) -> CostPage:
    """Return the page of a report by day and one other key, whose window begins at a midnight and has no end."""
    by_day: dict[str, Amount] = {}
    by_group: dict[str, Amount] = {}
    total = Amount()
    for (day, group), sums in report.groups.items():
        total.add(sums, report.currency)
        by_day.setdefault(day or "", Amount()).add(sums, report.currency)
        by_group.setdefault("(none)" if group is None else group, Amount()).add(sums, report.currency)
    most = max((one.used for one in by_day.values()), default=0.0)
    ranked = sorted(by_group.items(), key=lambda item: (-item[1].used, item[0]))
    return CostPage(
        report,
        _bars(by_day, report.since or now, now, most),
        most,
        ranked[:GROUPS_SHOWN],
        len(ranked[GROUPS_SHOWN:]),
        total,
    )


def _bars(by_day: Mapping[str, Amount], since: float, now: float, most: float) -> list[DayBar]:
    count = int((now - since) // DAY) + 1
    step, scale = 100 / count, 100 / most if most else 0.0
    bars = []
    for number in range(count):
        day = to_text(since + number * DAY)[:10]
        amount = by_day.get(day, Amount())
        bars.append(DayBar(day, amount, number * step, step, amount.used * scale, amount.wasted * scale))
    return bars

"""Limits that the operator sets for what runs may cost in a day, week or month: of a pool, a DAG, a label, or of all.

The manager keeps the sums of the present periods and starts no run beyond a limit that stops; the report computes the
same from the ledger. A run counts in each period with what it cost there. Pure; times are Unix seconds, periods UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from air_executor.core.cost_query import CostWindow, keep, key_of, period_bounds
from air_executor.core.job_cost import money, sum_costs
from air_executor.core.ledger import Ledger, Origin, UnfinishedRun
from air_executor.model.times import to_text
from air_executor.model.usage import Moments, stages

ALL = "all"
"""What a limit is for, in place of a key and a value: all runs."""
WARN_AT = 0.8
"""Share of a limit from which it is warned of."""


@dataclass(frozen=True, slots=True)
class SpendingLimit:
    """One limit."""

    of: tuple[str, str] | None
    """Key and value, as filters of the report have them; None: all runs."""
    amount: float
    """Money."""
    period: str
    """`day`, `week` or `month`."""
    currency: str = "USD"
    """What was paid in others does not count."""
    stops: bool = False
    """No run starts once it is used up; otherwise people are told, and no more."""

    @property
    def name(self) -> str:
        """What it is for, as the settings name it."""
        return ALL if self.of is None else "=".join(self.of)

    def covers(self, origin: Origin) -> bool:
        """Tell whether it is for the runs of a task."""
        return self.of is None or key_of(self.of[0], origin) == self.of[1]


@dataclass(frozen=True, slots=True)
class Spending:
    """What of a limit is used."""

    limit: SpendingLimit
    since: float
    until: float
    """When its next period begins."""
    used: float

    @property
    def share(self) -> float:
        """The used part of it, over 1 if there is more."""
        return self.used / self.limit.amount if self.limit.amount else float(self.used > 0 or self.limit.stops)

    @property
    def text(self) -> str:
        """The two amounts, for people."""
        return f"{money(self.used)} of {money(self.limit.amount)} {self.limit.currency} for this {self.limit.period}"

    def refusal(self) -> str | None:
        """Return why no further run may start; None: it may."""
        if not self.limit.stops or self.used < self.limit.amount:
            return None
        until = to_text(self.until)[:10]
        return f"the budget {self.limit.name} is used up ({self.text}); the next one begins on {until}"


def spendings(limits: Iterable[SpendingLimit], ledger: Ledger, now: float) -> list[Spending]:
    """Return what is used of limits, from the whole ledger, open runs included."""
    found = []
    for limit in limits:
        since, until = period_bounds(limit.period, now)
        mine = ledger if limit.of is None else keep(ledger, [limit.of])
        spent = sum_costs(CostWindow(since, until).cut(mine)).costs.get(limit.currency, 0.0)
        found.append(Spending(limit, since, until, spent + _open_cost(limit, mine.open, since, now)))
    return found


def _open_cost(limit: SpendingLimit, opened: Iterable[UnfinishedRun], since: float, now: float) -> float:
    """Return what open runs have cost from `since` on."""
    mine = (run for run in opened if run.currency == limit.currency and limit.covers(run.origin))
    return sum(run.cost(now, since) for run in mine)


@dataclass(slots=True)
class SpendingMeter:
    """The sums of one manager, kept as runs end."""

    limits: Sequence[SpendingLimit]
    _ended: list[Spending] = field(default_factory=list)
    """Of the runs that have ended."""

    def begin(self, ledger: Ledger, now: float) -> None:
        """Start from all runs that have ended; of open ones each question tells."""
        self._ended = spendings(self.limits, replace(ledger, open=()), now)

    def ended(self, origin: Origin, moments: Moments, cost: float, currency: str | None, now: float) -> None:
        """Count what a run that has just ended cost in the present periods."""
        self.spent(origin, moments.spawned, stages(moments).runner_seconds, cost, currency, now=now)

    def spent(
        self, origin: Origin, begin: float, seconds: float, cost: float, currency: str | None, *, now: float
    ) -> None:
        """Count what a runner cost that existed for some seconds from `begin` on."""
        self._turn(now)
        for number, one in enumerate(self._ended):
            if one.limit.currency == currency and one.limit.covers(origin):
                inside = min(begin + seconds, one.until) - max(begin, one.since)
                share = min(1.0, max(0.0, inside / seconds)) if seconds > 0 else 1.0
                self._ended[number] = replace(one, used=one.used + cost * share)

    def used(self, opened: Iterable[UnfinishedRun], now: float) -> list[Spending]:
        """Return what is used, with what open runs have cost until now."""
        self._turn(now)
        runs = [*opened] if self._ended else []
        return [replace(one, used=one.used + _open_cost(one.limit, runs, one.since, now)) for one in self._ended]

    def _turn(self, now: float) -> None:
        """Begin the periods that have begun."""
        for number, one in enumerate(self._ended):
            if now >= one.until:
                since, until = period_bounds(one.limit.period, now)
                self._ended[number] = replace(one, since=since, until=until, used=0.0)

"""The cost report: what runs cost by group and in total, the always-on pool compared with them, and advice.

Used by `air-executor report` and by the page; neither computes money itself. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from air_executor.core.advice import Advice, advise
from air_executor.core.always_on import AlwaysOnPool, Waits, demands, simulate, smallest, waits_of
from air_executor.core.cost_query import CostGroup, CostWindow, group, group_by, keep, parse_keys, period_bounds
from air_executor.core.job_cost import CostSums, main_currency, sum_costs
from air_executor.core.ledger import Ledger, Origin
from air_executor.core.spending_limits import Spending
from air_executor.errors import BadInputError


@dataclass(frozen=True, slots=True)
class Savings:
    """What tasks did not use because they had the results of earlier runs."""

    tasks: int
    seconds: float
    """Runner-seconds of those runs."""
    costs: Mapping[str, float]
    """By currency."""


@dataclass(frozen=True, slots=True)
class Previous:
    """What the window before cost."""

    since: float
    until: float
    runner_seconds: float
    costs: Mapping[str, float]
    """By currency."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the present month will have cost at its end, if the rest of it is like the window. Open runs included."""

    until: float
    costs: Mapping[str, float]
    """By currency."""


@dataclass(frozen=True, slots=True)
class CostReport:
    """The numbers of a report: seconds, Unix seconds, and money in `currency`."""

    by: tuple[str, ...]
    since: float | None
    until: float | None
    groups: Mapping[CostGroup, CostSums]
    total: CostSums
    currency: str | None
    """The currency of the costs; amounts in others are in `CostSums.costs`."""
    open_runs: int
    open_seconds: float
    """Seconds that open runs have used until now; not in the total."""
    open_costs: Mapping[str, float]
    """What they have cost until now, by currency, at the prices in force when each was started."""
    undated_runs: int
    """Runs known only as a sum that may have ended since `since`; not included."""
    compared: CostSums
    """The ended runs that the always-on pool is compared with: known individually, after the clock was last set."""
    waits: Waits
    always_on: AlwaysOnPool | None
    """None if nothing ran."""
    size_given: bool
    """The user chose the pool's size; otherwise it is the smallest one without longer waits."""
    hour_price: float | None
    """Mean price of a runner per hour, as charged to these runs; None if some had no price."""
    advice: list[Advice]
    reused: Savings
    previous: Previous | None = None
    """None without `since`."""
    forecast: Forecast | None = None
    """None if the window is over, or if nothing was paid in it."""
    budgets: Sequence[Spending] = ()
    """What is used of budgets now, whatever the window."""

    @property
    def used_seconds(self) -> float:
        """Runner-seconds, open runs included, that the pool is compared with."""
        return self.compared.runner_seconds + self.open_seconds

    @property
    def used_work(self) -> float:
        """The work in them; all seconds of open runs count as work, here and in the pool."""
        return self.compared.work_seconds + self.open_seconds

    def cost_of(self, seconds: float) -> float | None:
        """Return the cost of runner-seconds at the mean price; None without one."""
        return None if self.hour_price is None else self.hour_price * seconds / 3600


def cost_report(
    ledger: Ledger,
    now: float,
    *,
    by: str = "job",
    since: float | None = None,
    until: float | None = None,
    filters: Sequence[tuple[str, str]] = (),
    pool_size: int | None = None,
) -> CostReport:
    """Return a report.

    Args:
        ledger: all runs.
        now: Unix seconds, as are `since` and `until`; runs are divided at these borders.
        by: keys, see `parse_keys`.
        since: the first moment.
        until: the first moment that is not in the report any more.
        filters: see `parse_filter`.
        pool_size: in workers.

    Raises:
        BadInputError: `by` is invalid, or the window is empty.
    """
    keys, window = parse_keys(by), CostWindow(since, until)
    if since is not None and until is not None and until <= since:
        raise BadInputError("until: must be after since")
    every = keep(ledger, filters)
    present, now = now, now if until is None else min(now, until)
    begin = _first_ready(every, now)
    undated = window.undated(every)
    parts, ledger = window.cut(every), window.ended(every)
    if since is not None:
        begin = max(begin, since)  # before the first run nobody needed a pool
    total = sum_costs(parts)
    currency = main_currency(parts)
    sound = ledger.after_clock_step()
    if sound is not ledger:
        # A window that contains the step is longer or shorter than the time that passed.
        begin = max(begin, _first_ready(sound, now))
    load = demands(sound, now, begin)
    waits = waits_of(sound)
    pool = None
    if load:
        to_now = since is not None or until is not None or bool(ledger.open)
        end = max(begin, now if to_now else min(now, max(entry.attempt.gone_at for entry in sound.entries)))
        # Only a pool of a size that someone chose, for a load that has ended, may need time that has not passed yet.
        latest = now if to_now or pool_size is None else math.inf
        size = smallest(load, waits, begin, end).size if pool_size is None else pool_size
        pool = simulate(load, size, begin, end, max(end, latest))
    compared = sum_costs(replace(sound, earlier=()))
    paid = compared.costs
    # The newest run that was paid, whose currency is that of the report, need not be among those that are compared.
    alike = len(paid) == 1 and (currency in paid or not any(paid.values()))
    priced = alike and not compared.unpriced and compared.runner_seconds > 0
    return CostReport(
        by=keys,
        since=since,
        until=until,
        groups={name: sum_costs(part) for name, part in group(parts, keys).items()},
        total=total,
        currency=currency,
        open_runs=len(ledger.open),
        open_seconds=sum(run.seconds(now) for run in ledger.open),
        open_costs=open_costs(ledger, now),
        previous=_previous(every, window, now),
        forecast=_forecast(every, window, parts, present),
        undated_runs=undated,
        compared=compared,
        waits=waits,
        always_on=pool,
        size_given=pool_size is not None,
        hour_price=sum(paid.values()) * 3600 / compared.runner_seconds if priced else None,
        reused=_savings(ledger),
        advice=advise(ledger.entries, group_by(by) if len(keys) == 1 and by.startswith("label=") else _by_job),
    )


def _previous(ledger: Ledger, window: CostWindow, now: float) -> Previous | None:
    """Return the cost of the window before, of the same length; before a month, or a part of it, the month before."""
    if window.since is None:
        return None
    start, end = window.since, now if window.until is None else window.until
    before, before_end = max(0.0, start - (end - start)), start
    month, month_end = period_bounds("month", start)
    if start == month and end <= month_end:
        before = period_bounds("month", start - 1)[0]
        before_end = start if end == month_end else min(start, before + end - start)
    found = sum_costs(CostWindow(before, before_end).cut(replace(ledger, earlier=())))
    return Previous(before, before_end, found.runner_seconds, found.costs)


def _forecast(ledger: Ledger, window: CostWindow, parts: Ledger, now: float) -> Forecast | None:
    """Return the cost of the present month: until now, and the rest at the mean rate of the window."""
    if window.until is not None and window.until <= now:
        return None
    month, month_end = period_bounds("month", now)
    begun = [entry.attempt.spawned for entry in parts.entries] + [sums.after for sums in ledger.earlier if sums.after]
    since = min(begun, default=now) if window.since is None else window.since
    if now - since <= 0 or not (paid := _paid(replace(parts, earlier=ledger.earlier), since, now)):
        return None
    so_far = _paid(replace(CostWindow(month, month_end).cut(ledger), earlier=ledger.earlier), month, now)
    still_open = open_costs(ledger, now, month)
    rest = month_end - now
    costs = {
        name: so_far.get(name, 0.0) + still_open.get(name, 0.0) + amount / (now - since) * rest
        for name, amount in paid.items()
    }
    return Forecast(month_end, costs)


def _paid(ledger: Ledger, since: float, until: float) -> dict[str, float]:
    """Return what ended runs have cost; those known only as a sum as if they had been spread evenly over their time."""
    costs = Counter(sum_costs(replace(ledger, earlier=())).costs)
    for sums in ledger.earlier:
        begin, end = sums.after, min(sums.before, until)
        share = 1.0 if end <= begin else max(0.0, end - max(begin, since)) / (end - begin)
        known = CostSums()
        known.add_earlier(sums)
        costs.update({name: amount * share for name, amount in known.costs.items()})
    return dict(costs)


def _savings(ledger: Ledger) -> Savings:
    costs: dict[str, float] = {}
    for _, one in ledger.reused:
        if one.currency is not None:
            costs[one.currency] = costs.get(one.currency, 0.0) + one.cost
    return Savings(len(ledger.reused), sum(one.seconds for _, one in ledger.reused), costs)


def open_costs(ledger: Ledger, now: float, since: float = 0.0) -> dict[str, float]:
    """Return what open runs cost from `since` until now, by currency."""
    costs: dict[str, float] = {}
    for run in ledger.open:
        if run.price is not None:
            name = run.currency or ""
            costs[name] = costs.get(name, 0.0) + run.cost(now, since)
    return costs


def _first_ready(ledger: Ledger, now: float) -> float:
    return min([entry.ready_at for entry in ledger.entries] + [run.ready_at for run in ledger.open], default=now)


_by_job: Callable[[Origin, float | None], str | None] = group_by("job")

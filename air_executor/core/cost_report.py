"""The cost report: what runs cost by group and in total, the always-on pool compared with them, and advice.

Used by `air-executor report` and by the page; neither computes money itself. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from air_executor.core.advice import Advice, advise
from air_executor.core.always_on import AlwaysOnPool, Waits, demands, simulate, smallest, waits_of
from air_executor.core.job_cost import CostSums, group_by, groups, main_currency, sum_costs
from air_executor.core.ledger import Ledger, Origin
from air_executor.core.price import cost_of


@dataclass(frozen=True, slots=True)
class CostReport:
    """The numbers of a report: seconds, Unix seconds, and money in `currency`."""

    by: str
    since: float | None
    groups: Mapping[str | None, CostSums]
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
    ledger: Ledger, now: float, *, by: str = "job", since: float | None = None, pool_size: int | None = None
) -> CostReport:
    """Return a report. `now` and `since` are Unix seconds; `by` is as in `group_by`; `pool_size` is in workers."""
    begin = _first_ready(ledger, now)
    undated = 0 if since is None else ledger.undated(since)
    if since is not None:
        begin = max(begin, since)  # before the first run nobody needed a pool
        ledger = ledger.since(since)
    key = group_by(by)
    total = sum_costs(ledger)
    currency = main_currency(ledger)
    sound = ledger.after_clock_step()
    if sound is not ledger:
        # A window that contains the step is longer or shorter than the time that passed.
        begin = max(begin, _first_ready(sound, now))
    load = demands(sound, now, begin)
    waits = waits_of(sound)
    pool = None
    if load:
        to_now = since is not None or bool(ledger.open)
        end = max(begin, now if to_now else min(now, max(entry.attempt.gone_at for entry in sound.entries)))
        # Only a pool of a size that someone chose, for a load that has ended, may need time that has not passed yet.
        latest = now if to_now or pool_size is None else math.inf
        size = smallest(load, waits, begin, end).size if pool_size is None else pool_size
        pool = simulate(load, size, begin, end, max(end, latest))
    compared = total if sound is ledger and not ledger.earlier else sum_costs(replace(sound, earlier=()))
    priced = not compared.unpriced and len(compared.costs) == 1 and compared.runner_seconds > 0
    return CostReport(
        by=by,
        since=since,
        groups={name: sum_costs(part) for name, part in groups(ledger, key).items()},
        total=total,
        currency=currency,
        open_runs=len(ledger.open),
        open_seconds=sum(max(0.0, now - run.since) for run in ledger.open),
        open_costs=open_costs(ledger, now),
        undated_runs=undated,
        compared=compared,
        waits=waits,
        always_on=pool,
        size_given=pool_size is not None,
        hour_price=compared.costs.get(currency or "", 0.0) * 3600 / compared.runner_seconds if priced else None,
        advice=advise(ledger.entries, key if by == "job" or by.startswith("label=") else _by_job),
    )


def open_costs(ledger: Ledger, now: float) -> dict[str, float]:
    """Return what open runs cost so far, by currency."""
    costs: dict[str, float] = {}
    for run in ledger.open:
        if run.price is not None:
            name = run.currency or ""
            costs[name] = costs.get(name, 0.0) + cost_of(run.price, max(0.0, now - run.since))
    return costs


def _first_ready(ledger: Ledger, now: float) -> float:
    return min([entry.ready_at for entry in ledger.entries] + [run.ready_at for run in ledger.open], default=now)


_by_job: Callable[[Origin, float | None], str | None] = group_by("job")

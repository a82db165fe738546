"""What runs have cost beside what an always-on pool would have: the groups, the total, the pool, and advice.

Asked by `report` and by the page; neither computes money itself. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from air_executor.core.advice import Advice, advise
from air_executor.core.always_on import AlwaysOnPool, Waits, demands, simulate, smallest, waits_of
from air_executor.core.job_cost import CostSums, group_by, groups, main_currency, sum_costs
from air_executor.core.ledger import Ledger, Origin


@dataclass(frozen=True, slots=True)
class CostReport:
    """A report's numbers. Seconds, Unix seconds, and money in `currency`."""

    by: str
    since: float | None
    groups: Mapping[str | None, CostSums]
    total: CostSums
    currency: str | None
    """In which costs are given; other currencies are in `CostSums.costs`."""
    open_runs: int
    open_seconds: float
    """What open runs have used until now; not in the total."""
    compared: CostSums
    """What the pool is compared with, open runs apart: the runs that are known one by one."""
    waits: Waits
    pool: AlwaysOnPool | None
    """None if nothing ran."""
    given: bool
    """The pool's size was given; else it is the smallest whose waits are no worse."""
    hour: float | None
    """Price of one runner for one hour, the mean of what these runs were charged; None where some had no price."""
    advice: list[Advice]

    @property
    def used_seconds(self) -> float:
        """Runner-seconds, those of open runs included: what the pool is compared with."""
        return self.compared.runner_seconds + self.open_seconds

    @property
    def used_work(self) -> float:
        """The work in them; of open runs, all that they have used counts as work, here and in the pool."""
        return self.compared.work_seconds + self.open_seconds

    def cost_of(self, seconds: float) -> float | None:
        """Return what runner-seconds cost at the mean price; None if there is none."""
        return None if self.hour is None else self.hour * seconds / 3600


def reckon(
    ledger: Ledger, now: float, *, by: str = "job", since: float | None = None, pool: int | None = None
) -> CostReport:
    """Work out a report. `now` and `since` in Unix seconds; `by` as in `group_by`; `pool` is a size."""
    begin = min([entry.ready_at for entry in ledger.entries] + [run.ready_at for run in ledger.open], default=now)
    if since is not None:
        begin = max(begin, since)  # before the first run of all there was nothing to have a pool for
        ledger = ledger.since(since)
    key = group_by(by)
    total = sum_costs(ledger)
    currency = main_currency(ledger)
    load = demands(ledger, now, begin)
    waits = waits_of(ledger)
    beside = None
    if load:
        to_now = since is not None or ledger.open
        end = now if to_now else max(entry.attempt.gone_at for entry in ledger.entries)
        beside = smallest(load, waits, begin, end) if pool is None else simulate(load, pool, begin, end)
    compared = sum_costs(replace(ledger, earlier=())) if ledger.earlier else total
    priced = not compared.unpriced and len(compared.costs) == 1 and compared.runner_seconds > 0
    return CostReport(
        by=by,
        since=since,
        groups={name: sum_costs(part) for name, part in groups(ledger, key).items()},
        total=total,
        currency=currency,
        open_runs=len(ledger.open),
        open_seconds=sum(max(0.0, now - run.since) for run in ledger.open),
        compared=compared,
        waits=waits,
        pool=beside,
        given=pool is not None,
        hour=compared.costs.get(currency or "", 0.0) * 3600 / compared.runner_seconds if priced else None,
        advice=advise(ledger.entries, key if by == "job" or by.startswith("label=") else _by_job),
    )


_by_job: Callable[[Origin, float | None], str | None] = group_by("job")

"""Sums over the ledger: runner-seconds, work, overhead by stage, waste, money.

Used by `run` for its last lines and by `report`, in total and by group. Seconds; money by currency, as committed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from air_executor.core.ledger import WASTE, EarlierRuns, Entry, Ledger
from air_executor.model.reports import add_up

STAMP_STEP = 0.01
"""Seconds by which two time stamps of a volume may disagree: the kernel mixes coarse and fine ones."""
CENT = 0.01
_MOST_WRITTEN_OUT = 1e15


@dataclass(slots=True)
class CostSums:
    """The sums over some runs."""

    runs: int = 0
    succeeded: int = 0
    start_seconds: float = 0.0
    work_seconds: float = 0.0
    finish_seconds: float = 0.0
    cpu_seconds: float = 0.0
    node_wait_seconds: float = 0.0
    """Seconds that runners waited for a node: not runner-seconds, for nothing existed."""
    waste: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WASTE, 0.0))
    """Runner-seconds of runs without success, by kind."""
    waste_costs: dict[str, float] = field(default_factory=dict)
    """What those have cost, by currency."""
    costs: dict[str, float] = field(default_factory=dict)
    """By currency ("" where none was kept), at the prices in force when each run was committed."""
    reported: dict[str, float] = field(default_factory=dict)
    """What tasks said they used, by name."""
    unpriced: int = 0
    """Runs without a price."""
    clock_stepped: int = 0
    """Runs during which the clock was set: their seconds are unreliable."""
    earlier: int = 0
    """Runs known only as a sum: their ends are not known individually."""
    first_spawned: float | None = None
    """Unix seconds; None if nothing ran."""
    last_gone: float | None = None
    peak_runners: int = 0
    """Maximum number of runners that existed at once."""

    @property
    def runner_seconds(self) -> float:
        """Seconds for which runners existed, summed over the runs."""
        return self.start_seconds + self.work_seconds + self.finish_seconds

    @property
    def idle_seconds(self) -> float:
        """Overhead: runner-seconds before and after the work."""
        return self.start_seconds + self.finish_seconds

    @property
    def efficiency(self) -> float | None:
        """Work per runner-second; None without runs."""
        return self.work_seconds / self.runner_seconds if self.runner_seconds > 0 else None

    @property
    def waste_seconds(self) -> float:
        """Runner-seconds of all runs without success."""
        return sum(self.waste.values())

    @property
    def window_seconds(self) -> float:
        """Seconds from the start of the first runner to the end of the last one."""
        return 0.0 if self.first_spawned is None or self.last_gone is None else self.last_gone - self.first_spawned

    def cost_per_success(self, currency: str) -> float | None:
        """Return the cost in a currency, failures included, per successful run.

        None without one, or where some runs were paid in another currency: which successes they bought is not known.
        """
        known = self.succeeded and self.costs.keys() <= {currency}
        return self.costs.get(currency, 0.0) / self.succeeded if known else None

    def add(self, entry: Entry) -> None:
        """Add one run, or a part of one."""
        one = entry.attempt
        self.runs += entry.counts
        self.start_seconds += one.start
        self.work_seconds += one.work
        self.finish_seconds += one.finish
        self.cpu_seconds += one.cpu or 0.0
        self.node_wait_seconds += one.node_wait or 0.0
        if entry.waste is None:
            self.succeeded += entry.counts
        else:
            self.waste[entry.waste] += one.runner_seconds
            if one.cost:
                currency = one.currency or ""
                self.waste_costs[currency] = self.waste_costs.get(currency, 0.0) + one.cost
        if one.price is None and not one.cost:
            self.unpriced += entry.counts
        else:
            self._pay(one.currency or "", one.cost)
        self.clock_stepped += one.clock_stepped and entry.counts
        add_up(self.reported, one.reported)

    def add_earlier(self, sums: EarlierRuns) -> None:
        """Add runs known only as a sum."""
        usage = sums.usage
        self.runs += usage.runs
        self.earlier += usage.runs
        self.succeeded += usage.succeeded
        self.start_seconds += usage.start_seconds
        self.work_seconds += usage.work_seconds
        self.finish_seconds += usage.finish_seconds
        self.cpu_seconds += usage.cpu_seconds
        add_up(self.reported, usage.reported)
        if usage.cost:
            self._pay(usage.currency or "", usage.cost)
        for currency, cost in usage.other_costs.items():
            self._pay(currency, cost)

    def _pay(self, currency: str, cost: float) -> None:
        self.costs[currency] = self.costs.get(currency, 0.0) + cost


def sum_costs(ledger: Ledger) -> CostSums:
    """Sum the ended runs; open ones are not included."""
    total = CostSums()
    for entry in ledger.entries:
        total.add(entry)
    for sums in ledger.earlier:
        total.add_earlier(sums)
    if ledger.entries:
        total.first_spawned = min(entry.attempt.spawned for entry in ledger.entries)
        total.last_gone = max(entry.attempt.gone_at for entry in ledger.entries)
        total.peak_runners = _peak(ledger.entries)
    return total


def main_currency(ledger: Ledger) -> str | None:
    """Return the currency of the newest run with a price, or None if there is none."""
    priced = [(e.attempt.gone_at, e.attempt.currency or "") for e in ledger.entries if e.attempt.cost]
    priced += [(0.0, sums.usage.currency or "") for sums in ledger.earlier if sums.usage.cost]
    return max(priced)[1] if priced else None


def money(amount: float) -> str:
    """Return an amount for people: two decimals, or three digits; less than a cent is only said to be so."""
    if 0 < amount < CENT:
        return f"< {CENT}"
    if amount >= _MOST_WRITTEN_OUT:
        return f"{amount:.3g}"
    digits = 2 if amount == 0 else max(2, 2 - math.floor(math.log10(abs(amount))))
    return f"{amount:.{digits}f}"


def _peak(entries: Iterable[Entry]) -> int:
    """Return how many slots had a runner at once: the runs of one slot follow each other, however short they are."""
    steps: list[tuple[float, int, tuple[str, int]]] = []
    for entry in entries:
        one, slot = entry.attempt, (entry.origin.job, entry.attempt.slot)
        # If one ends when another begins, the end comes first: one worker could have run both. A run that is shorter
        # than the step of the clock still ends after its own beginning.
        long = one.gone_at - STAMP_STEP > one.spawned
        steps.append((one.spawned, 1, slot))
        steps.append((one.gone_at - STAMP_STEP, 0, slot) if long else (one.spawned, 2, slot))
    taken: Counter[tuple[str, int]] = Counter()
    peak = 0
    for _, kind, slot in sorted(steps):
        taken[slot] += 1 if kind == 1 else -1
        if taken[slot] == 0:
            del taken[slot]
        peak = max(peak, len(taken))
    return peak

"""Sums over the ledger: runner-seconds, work, overhead by stage, waste, money.

Used by `run` for its last lines and by `report`, in total and by group. Seconds; money by currency, as committed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from air_executor.core.ledger import WASTE, EarlierRuns, Entry, Ledger, Origin
from air_executor.model.times import to_text

STAMP_STEP = 0.01
"""Seconds by which two time stamps of a volume may disagree: the kernel mixes coarse and fine ones."""
BEFORE = "earlier"
"""The day of runs known only as a sum."""


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
    costs: dict[str, float] = field(default_factory=dict)
    """By currency ("" where none was kept), at the prices in force when each run was committed."""
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
        """Add one run."""
        one = entry.attempt
        self.runs += 1
        self.start_seconds += one.start
        self.work_seconds += one.work
        self.finish_seconds += one.finish
        self.cpu_seconds += one.cpu or 0.0
        self.node_wait_seconds += one.node_wait or 0.0
        if entry.waste is None:
            self.succeeded += 1
        else:
            self.waste[entry.waste] += one.runner_seconds
        if one.price is None and not one.cost:
            self.unpriced += 1
        else:
            self._pay(one.currency or "", one.cost)
        self.clock_stepped += one.clock_stepped

    def add_earlier(self, sums: EarlierRuns) -> None:
        """Add runs known only as a sum."""
        usage = sums.usage
        self.runs += usage.runs
        self.earlier += usage.runs
        self.start_seconds += usage.start_seconds
        self.work_seconds += usage.work_seconds
        self.finish_seconds += usage.finish_seconds
        self.cpu_seconds += usage.cpu_seconds
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


def group_by(what: str) -> Callable[[Origin, float | None], str | None]:
    """Return the function that assigns a run to a group: `job`, `pool`, `day` (UTC, of its end), or `label=NAME`.

    It takes the run's origin and the Unix time of its end, or None if that is not known. `queue` is the old name of
    `pool`.
    """
    if what == "job":
        return lambda origin, _: origin.job
    if what in ("pool", "queue"):
        return lambda origin, _: origin.pool
    if what == "day":
        return lambda _, gone: BEFORE if gone is None else to_text(gone)[:10]
    name = what.removeprefix("label=")
    return lambda origin, _: origin.labels.get(name)


def groups(ledger: Ledger, key: Callable[[Origin, float | None], str | None]) -> Mapping[str | None, Ledger]:
    """Divide the ended runs into groups, sorted by name; None is the group of runs without one."""
    entries: dict[str | None, list[Entry]] = {}
    earlier: dict[str | None, list[EarlierRuns]] = {}
    for entry in ledger.entries:
        entries.setdefault(key(entry.origin, entry.attempt.gone_at), []).append(entry)
    for sums in ledger.earlier:
        earlier.setdefault(key(sums.origin, None), []).append(sums)
    names = sorted(entries.keys() | earlier.keys(), key=lambda name: (name is None, name or ""))
    return {name: Ledger(entries.get(name, ()), (), earlier.get(name, ())) for name in names}


def main_currency(ledger: Ledger) -> str | None:
    """Return the currency of the newest run with a price, or None if there is none."""
    priced = [(e.attempt.gone_at, e.attempt.currency or "") for e in ledger.entries if e.attempt.cost]
    priced += [(0.0, sums.usage.currency or "") for sums in ledger.earlier if sums.usage.cost]
    return max(priced)[1] if priced else None


def money(amount: float) -> str:
    """Return an amount for people: two decimals, or as many as it takes to show three significant digits."""
    digits = 2 if amount == 0 else max(2, 2 - math.floor(math.log10(abs(amount))))
    return f"{amount:.{digits}f}"


def _peak(entries: Iterable[Entry]) -> int:
    # If one ends when another begins, the end comes first: one worker could have run both.
    spans = [(e.attempt.spawned, e.attempt.gone_at) for e in entries]
    steps = sorted((at, by) for spawned, gone in spans for at, by in ((spawned, 1), (gone - STAMP_STEP, -1)))
    now = peak = 0
    for _, by in steps:
        now += by
        peak = max(peak, now)
    return peak

"""What runs have cost: runner-seconds, work, idle by stage, waste, money. Pure sums over the ledger.

Used by `run` for its bill and by `report`, in all and group by group. Seconds; money by currency, as it was booked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from air_executor.core.ledger import WASTE, Earlier, Entry, Ledger, Origin
from air_executor.model.times import to_text

STAMP_STEP = 0.01
"""Seconds by which two time stamps of a volume may disagree: the kernel gives coarse and fine ones to the same file."""
BEFORE = "earlier"
"""The day of runs that are known only as a sum."""


@dataclass(slots=True)
class CostSums:
    """The sums over some runs."""

    runs: int = 0
    succeeded: int = 0
    start_seconds: float = 0.0
    work_seconds: float = 0.0
    finish_seconds: float = 0.0
    cpu_seconds: float = 0.0
    waste: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WASTE, 0.0))
    """Runner-seconds of runs that came to nothing, by kind."""
    costs: dict[str, float] = field(default_factory=dict)
    """By currency ("" where none was kept); prices are those of when each run was booked."""
    unpriced: int = 0
    """Runs for which there was no price."""
    clock_stepped: int = 0
    """Runs during which the clock was set: their seconds are not to be trusted."""
    earlier: int = 0
    """Runs that are known only as a sum: how they ended and when is not."""
    first_spawned: float | None = None
    """Unix seconds; None if nothing ran."""
    last_gone: float | None = None
    peak_runners: int = 0
    """How many runners existed at once, at most."""

    @property
    def runner_seconds(self) -> float:
        """Seconds during which a runner existed, summed over the runs."""
        return self.start_seconds + self.work_seconds + self.finish_seconds

    @property
    def idle_seconds(self) -> float:
        """Runner-seconds without work in them."""
        return self.start_seconds + self.finish_seconds

    @property
    def efficiency(self) -> float | None:
        """Work per runner-second; None if nothing ran."""
        return self.work_seconds / self.runner_seconds if self.runner_seconds > 0 else None

    @property
    def waste_seconds(self) -> float:
        """Runner-seconds of all runs that came to nothing."""
        return sum(self.waste.values())

    @property
    def window_seconds(self) -> float:
        """From the first runner's beginning to the last one's end."""
        return 0.0 if self.first_spawned is None or self.last_gone is None else self.last_gone - self.first_spawned

    def cost_per_success(self, currency: str) -> float | None:
        """Return what a success has cost in a currency, failures included; None without a success."""
        return self.costs.get(currency, 0.0) / self.succeeded if self.succeeded else None

    def add(self, entry: Entry) -> None:
        """Add one run."""
        one = entry.attempt
        self.runs += 1
        self.start_seconds += one.start
        self.work_seconds += one.work
        self.finish_seconds += one.finish
        self.cpu_seconds += one.cpu or 0.0
        if entry.waste is None:
            self.succeeded += 1
        else:
            self.waste[entry.waste] += one.runner_seconds
        if one.price is None and not one.cost:
            self.unpriced += 1
        else:
            self._pay(one.currency or "", one.cost)
        self.clock_stepped += one.clock_stepped

    def add_earlier(self, sums: Earlier) -> None:
        """Add runs that are known only as a sum."""
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
    """Add up the runs that have ended; open ones are not in it."""
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
    """Return how a run is told its group: `job`, `queue`, `day` (UTC, of its end), or `label=NAME`.

    The function takes the run's origin and the Unix time of its end (None if that is not known).
    """
    if what == "job":
        return lambda origin, _: origin.job
    if what == "queue":
        return lambda origin, _: origin.queue
    if what == "day":
        return lambda _, gone: BEFORE if gone is None else to_text(gone)[:10]
    name = what.removeprefix("label=")
    return lambda origin, _: origin.labels.get(name)


def groups(ledger: Ledger, key: Callable[[Origin, float | None], str | None]) -> Mapping[str | None, Ledger]:
    """Divide the runs that have ended into groups, sorted by name; None is the group of those without a name."""
    entries: dict[str | None, list[Entry]] = {}
    earlier: dict[str | None, list[Earlier]] = {}
    for entry in ledger.entries:
        entries.setdefault(key(entry.origin, entry.attempt.gone_at), []).append(entry)
    for sums in ledger.earlier:
        earlier.setdefault(key(sums.origin, None), []).append(sums)
    names = sorted(entries.keys() | earlier.keys(), key=lambda name: (name is None, name or ""))
    return {name: Ledger(entries.get(name, ()), (), earlier.get(name, ())) for name in names}


def main_currency(ledger: Ledger) -> str | None:
    """Return the currency of the newest run that had a price, or None if none had one."""
    priced = [(e.attempt.gone_at, e.attempt.currency or "") for e in ledger.entries if e.attempt.cost]
    priced += [(0.0, sums.usage.currency or "") for sums in ledger.earlier if sums.usage.cost]
    return max(priced)[1] if priced else None


def money(amount: float) -> str:
    """Return an amount as people read it: two decimals, or as many as show three digits that are not 0."""
    digits = 2 if amount == 0 else max(2, 2 - math.floor(math.log10(abs(amount))))
    return f"{amount:.{digits}f}"


def _peak(entries: Iterable[Entry]) -> int:
    # Where one ends as another begins, the end comes first: they can have been one place in a pool.
    spans = [(e.attempt.spawned, e.attempt.gone_at) for e in entries]
    steps = sorted((at, by) for spawned, gone in spans for at, by in ((spawned, 1), (gone - STAMP_STEP, -1)))
    now = peak = 0
    for _, by in steps:
        now += by
        peak = max(peak, now)
    return peak

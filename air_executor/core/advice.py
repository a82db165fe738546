"""Right-sizing: memory and CPU that runs used, compared with what their tasks requested. Pure; for `report`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from air_executor.core.always_on import HIGH, quantile
from air_executor.core.ledger import Entry, Origin

LEAST_RUNS = 20
"""Minimum number of runs for advice."""
LEAST_WORK = 0.1
"""Minimum work in seconds: the CPU time of a shorter run is mostly startup."""
ROOM = 1.2
"""Factor between observed usage and the suggested request."""
TOO_MUCH = 0.75
"""A suggestion of at most this share of the request is reported."""
FULL = {"memory": 0.9, "cpu": 0.95}
"""Share of the request from which on the p95 counts as at the limit."""
_STEP = {"memory": 16 << 20, "cpu": 0.1}


@dataclass(frozen=True, slots=True)
class Advice:
    """Usage of one resource by the runs of one group: `memory` in bytes, `cpu` in CPUs."""

    group: str | None
    resource: str
    requested: float
    runs: int
    p95: float
    most: float
    enough: float
    """The suggested request: slightly above the maximum that was seen (for CPU: above the p95)."""

    @property
    def verdict(self) -> str | None:
        """`less` or `more` if another request would be better, else None."""
        if self.p95 >= FULL[self.resource] * self.requested:
            return "more"
        return "less" if self.enough <= TOO_MUCH * self.requested else None


def advise(entries: Iterable[Entry], key: Callable[[Origin, float | None], str | None]) -> list[Advice]:
    """Return the usage of each group of at least 20 runs with the same request, sorted by group."""
    used: dict[tuple[str | None, str, float], list[float]] = {}
    for entry in entries:
        one = entry.attempt
        group = key(entry.origin, one.gone_at)
        memory, cpu = entry.requested.get("memory"), entry.requested.get("cpu")
        if memory and one.memory is not None:
            used.setdefault((group, "memory", float(memory)), []).append(one.memory)
        if cpu and one.cpu is not None and one.work >= LEAST_WORK:
            used.setdefault((group, "cpu", float(cpu)), []).append(one.cpu / one.work)
    return [
        _advice(group, resource, requested, values)
        for (group, resource, requested), values in sorted(
            used.items(), key=lambda item: (item[0][0] or "", *item[0][1:])
        )
        if len(values) >= LEAST_RUNS
    ]


def _advice(group: str | None, resource: str, requested: float, values: list[float]) -> Advice:
    p95, most = quantile(values, HIGH), max(values)
    step = _STEP[resource]
    seen = most if resource == "memory" else p95
    enough = max(1, math.ceil(round(seen * ROOM / step, 6))) * step
    return Advice(group, resource, requested, len(values), p95, most, enough)

"""The price of a runner per hour, by component, and the cost that follows from it.

The manager computes it once per run and keeps it with the run, so a changed price rewrites no history. Settings are
unknown here: prices are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIB = 1 << 30
COMPONENTS = ("runner", "cpu", "memory", "gpu")


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of a backend's runners per hour, in `currency`."""

    currency: str = "USD"
    runner_hour: float = 0.0
    """For the runner itself, whatever its task requests."""
    cpu_hour: float = 0.0
    """For each CPU that the task requests; a task without a CPU request is charged for none. So for the others."""
    memory_hour: float = 0.0
    """For each GiB."""
    gpu_hour: float = 0.0
    valid_from: float | None = None
    """Unix seconds: runs spawned earlier have no price. None: valid for all runs committed from now on."""
    rules: tuple[PriceRule, ...] = ()
    """Prices of some runs, in place of these: those of the last rule that fits a run."""

    def of(self, labels: Mapping[str, str], nodes: Mapping[str, str], spawned: float) -> Prices:
        """Return the prices of a run: of a task with these labels, for nodes with those, spawned at that time."""
        fitting = (rule.prices for rule in reversed(self.rules) if rule.fits(labels, nodes, spawned))
        return next(fitting, self)


@dataclass(frozen=True, slots=True)
class PriceRule:
    """Prices of runs with certain labels."""

    prices: Prices
    label: tuple[str, str] | None = None
    """Name and value that the task's labels must have."""
    node_label: tuple[str, str] | None = None
    """Name and value of a label of the nodes that the task asks for."""

    def fits(self, labels: Mapping[str, str], nodes: Mapping[str, str], spawned: float) -> bool:
        """Tell whether a run has these prices; see `Prices.of`."""
        wanted = ((self.label, labels), (self.node_label, nodes))
        if any(one is not None and found.get(one[0]) != one[1] for one, found in wanted):
            return False
        return self.prices.valid_from is None or spawned >= self.prices.valid_from


FREE = Prices()
"""Prices where none are set."""


def hourly(prices: Prices, resources: Mapping[str, Any], spawned: float) -> dict[str, float] | None:
    """Return a runner's price per hour by component (those that are not 0), or None if no prices are set or valid yet.

    Empty if other runners have a price and this one is free. `resources` are the task's requests, normalized: CPUs,
    bytes of memory, GPUs; `spawned` is in Unix seconds.
    """
    known = prices.runner_hour or prices.cpu_hour or prices.memory_hour or prices.gpu_hour
    if not known or (prices.valid_from is not None and spawned < prices.valid_from):
        return None
    parts = (
        prices.runner_hour,
        prices.cpu_hour * float(resources.get("cpu") or 0),
        prices.memory_hour * float(resources.get("memory") or 0) / GIB,
        prices.gpu_hour * float(resources.get("gpu") or 0),
    )
    return {name: round(part, 12) for name, part in zip(COMPONENTS, parts, strict=True) if part}


def cost_of(price: Mapping[str, float] | None, seconds: float) -> float:
    """Return the cost of a runner with this price per hour over so many seconds."""
    return 0.0 if price is None else round(sum(price.values()) * seconds / 3600, 12)

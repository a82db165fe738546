"""What a runner costs: its price per hour by component, fixed when a run is booked, and the cost that follows from it.

The manager asks once per run and the answer is kept with it, so that a changed price rewrites no history. Knows nothing
of settings: prices are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIB = 1 << 30
COMPONENTS = ("runner", "cpu", "memory", "gpu")


@dataclass(frozen=True, slots=True)
class Prices:
    """What a backend's runners cost per hour, in `currency`."""

    currency: str = "USD"
    runner_hour: float = 0.0
    """For the runner itself, whatever its task asks for."""
    cpu_hour: float = 0.0
    """For each CPU that the task asks for; one that names none is not charged for any. The same goes for the others."""
    memory_hour: float = 0.0
    """For each GiB."""
    gpu_hour: float = 0.0
    valid_from: float | None = None
    """Unix seconds; what was spawned before has no price. None: they hold for everything that is booked from now on."""


FREE = Prices()
"""Where nobody has said what runners cost."""


def hourly(prices: Prices, resources: Mapping[str, Any], spawned: float) -> dict[str, float] | None:
    """Return a runner's price per hour by component (those that are not 0), or None if there are no prices (yet).

    A runner may be free of charge where others are not; then this is empty. `resources` are what the task asks for,
    normalised: CPUs, bytes of memory, GPUs; `spawned` is in Unix seconds.
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
    """Return what a runner with this price per hour costs in so many seconds."""
    return 0.0 if price is None else round(sum(price.values()) * seconds / 3600, 12)

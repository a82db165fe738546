"""The price of one run: of its resources and those of its services, at the prices for its labels and its nodes."""

from __future__ import annotations

from typing import Any

from air_executor.core.ledger import origin_of
from air_executor.core.memory import resources_of
from air_executor.core.price import FREE, Prices, hourly
from air_executor.model.state import JobState, TaskState


def run_price(
    prices: Prices, job: JobState, task: TaskState, spawned: float
) -> tuple[dict[str, float] | None, str | None]:
    """Return the price per hour by component and its currency, both None if it has none; `spawned`: Unix seconds."""
    if prices is FREE:
        return None, None
    nodes = {} if task.kubernetes is None else task.kubernetes.node_selector
    own = prices.of(origin_of(job, task).labels, nodes, spawned)
    price = hourly(own, _resources(task), spawned)
    return price, None if price is None else own.currency


def _resources(task: TaskState) -> dict[str, Any]:
    """Return what a run asks for, its services included."""
    found = resources_of(task)
    for asked in (one.resources for one in task.services if one.resources is not None):
        for name, amount in (("cpu", asked.cpu), ("memory", asked.memory)):
            if amount is not None:
                found[name] = found.get(name, 0) + amount
    return found

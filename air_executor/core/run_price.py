"""The price of one run: of its resources, at the prices for its labels and its nodes."""

from __future__ import annotations

from air_executor.core.ledger import origin_of
from air_executor.core.memory import resources_of
from air_executor.core.price import Prices, hourly
from air_executor.model.state import JobState, TaskState


def run_price(
    prices: Prices, job: JobState, task: TaskState, spawned: float
) -> tuple[dict[str, float] | None, str | None]:
    """Return the price per hour by component and its currency, both None if it has none; `spawned`: Unix seconds."""
    nodes = {} if task.kubernetes is None else task.kubernetes.node_selector
    own = prices.of(origin_of(job, task).labels, nodes, spawned)
    price = hourly(own, resources_of(task), spawned)
    return price, None if price is None else own.currency

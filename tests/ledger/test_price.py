"""Prices: what a runner costs by what its task asks for, from when they hold, and what is left uncharged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from air_executor.core.price import FREE, GIB, PriceRule, Prices, cost_of, hourly

ALL = Prices("EUR", 0.01, 0.04, 0.005, 2.0, valid_from=1000.0)


@pytest.mark.parametrize(
    ("prices", "resources", "expected"),
    [
        (FREE, {"cpu": 2}, None),
        (ALL, {}, {"runner": 0.01}),
        (ALL, {"cpu": 0.5}, {"runner": 0.01, "cpu": 0.02}),
        (ALL, {"memory": 2 * GIB, "gpu": 1}, {"runner": 0.01, "memory": 0.01, "gpu": 2.0}),
        (Prices("EUR", cpu_hour=0.04), {}, {}),
    ],
)
def test_what_is_asked_for_is_charged(prices: Prices, resources: dict[str, Any], expected: object) -> None:
    """The runner always; CPU, memory and GPU only where a task names them. No prices at all is no price, not 0."""
    assert hourly(prices, resources, 2000.0) == expected


def test_a_price_holds_from_its_day() -> None:
    """A runner that was spawned before has none."""
    assert hourly(ALL, {}, 999.999) is None
    assert hourly(ALL, {}, 1000.0) == {"runner": 0.01}


def test_cost_is_exact_for_the_shortest_run() -> None:
    """A millisecond of a cheap runner is not rounded away."""
    assert cost_of({"runner": 0.01, "cpu": 0.02}, 3600) == pytest.approx(0.03)
    assert cost_of({"runner": 0.0036}, 0.001) == pytest.approx(1e-9, rel=1e-6)
    assert cost_of(None, 3600) == 0.0


SPOT = PriceRule(Prices("EUR", cpu_hour=0.01), label=("capacity", "spot"))
LATER = PriceRule(Prices("EUR", cpu_hour=0.03, valid_from=1000.0))
GPU_NODES = PriceRule(Prices("USD", cpu_hour=0.09), node_label=("gpu", "a100"))


@pytest.mark.parametrize(
    ("labels", "nodes", "spawned", "expected"),
    [
        ({}, {}, 0.0, 0.04),
        ({}, {}, 1000.0, 0.03),
        ({"capacity": "spot"}, {}, 0.0, 0.01),
        ({"capacity": "on-demand"}, {}, 0.0, 0.04),
        ({"capacity": "spot"}, {}, 1000.0, 0.03),
        ({"capacity": "spot"}, {"gpu": "a100"}, 1000.0, 0.09),
        ({"gpu": "a100"}, {}, 0.0, 0.04),
    ],
)
def test_the_last_rule_that_fits_holds(
    labels: dict[str, str], nodes: dict[str, str], spawned: float, expected: float
) -> None:
    """By label of the task, by label of its nodes, and from a day on."""
    prices = replace(ALL, cpu_hour=0.04, rules=(SPOT, LATER, GPU_NODES))
    assert prices.of(labels, nodes, spawned).cpu_hour == expected

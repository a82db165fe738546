"""Prices: what a runner costs by what its task asks for, from when they hold, and what is left uncharged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from air_executor.core.price import FREE, GIB, PriceRule, Prices, cost_of, hourly
from air_executor.core.run_price import run_price
from air_executor.core.submission import initial_state, parse_job

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


def test_services_are_charged_with_their_task() -> None:
    """What they ask for counts as what the task itself asks for; those that ask for nothing cost nothing."""
    services = [
        {"image": "postgres:16", "resources": {"cpu": 0.5, "memory": "2Gi"}},
        {"image": "redis:7", "resources": {"memory": "1Gi"}},
        {"image": "nginx:1"},
    ]
    spec = {"id": "j", "tasks": [{"id": "t", "command": "x", "resources": {"cpu": 1}, "services": services}]}
    job = initial_state(parse_job(spec), uid="0badcafe", now=0.0)
    price, currency = run_price(ALL, job, job.tasks["t"], 2000.0)
    assert price == {"runner": 0.01, "cpu": 0.06, "memory": 0.015}
    assert currency == "EUR"

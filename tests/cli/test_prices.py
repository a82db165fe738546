"""Prices of a file: runs are charged by it, and what is wrong with it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome


def test_runs_are_charged_by_it(air: Callable[..., Outcome], project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at the price for its label; `doctor` and `run` say what is wrong with the file."""
    prices = project / "prices.csv"
    prices.write_text("label,currency,runner_hour\n,EUR,3600\ncapacity=spot,EUR,360\n")
    monkeypatch.setenv("AIR_COST_FILE", str(prices))
    tasks = [{"id": "full", "command": "true"}, {"id": "spot", "command": "true", "labels": {"capacity": "spot"}}]
    (project / "j.json").write_text(json.dumps({"id": "j", "tasks": tasks}))
    assert air("run", "j.json").code == 0
    found = json.loads(air("status", "j", "--json").out)
    hours = {task["id"]: task["attempts"][0]["price"] for task in found["tasks"]}
    assert hours == {"full": {"runner": 3600.0}, "spot": {"runner": 360.0}}
    prices.write_text("label\n")
    assert f"{prices}:1: each column" in air("doctor").out
    refused = air("run", "j.json", "--replace")
    assert (refused.code, f"{prices}:1: each column" in refused.err) == (2, True)

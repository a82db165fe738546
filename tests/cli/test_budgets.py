"""Budgets in the settings, and what `report` says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome

Air = Callable[..., Outcome]


def test_the_report_shows_what_is_used(air: Air, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each, in text and as data; a hard one that is used up keeps the next run waiting."""
    monkeypatch.setenv("AIR_COST_RUNNER_HOUR", "3600000")
    monkeypatch.setenv("AIR_COST_CURRENCY", "EUR")
    monkeypatch.setenv("AIR_COST_BUDGETS", "pool=gpu:1/month+stop, label=team=ml:1e9/week,all:1e9/day")
    (project / "j.json").write_text(json.dumps({"name": "j", "pool": "gpu", "tasks": [{"command": "true"}]}))
    assert air("run", "j.json").code == 0
    lines = [one for one in air("report").out.splitlines() if one.startswith("budget ")]
    assert [one.split(": used")[0].split(":")[0] for one in lines] == [
        "budget pool=gpu",
        "budget label=team=ml",
        "budget all",
    ]
    assert " of 1.00 EUR for this month (" in lines[0]
    assert lines[1].startswith("budget label=team=ml: 0.00 of 1000000000.00 EUR for this week (0%)")
    found = json.loads(air("report", "--json").out)["budgets"]
    assert [(one["name"], one["period"], one["stops"]) for one in found] == [
        ("pool=gpu", "month", True),
        ("label=team=ml", "week", False),
        ("all", "day", False),
    ]
    assert found[0]["used"] == found[2]["used"] > 0
    assert "budget" not in air("report", "j-1").out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pool=gpu", "AIR_COST_BUDGETS: pool=gpu: must be an amount"),
        ("pool=gpu:many/month", "pool=gpu: must be an amount per day, week, month, as in pool=gpu:500/month"),
        ("pool=gpu:5/year", "pool=gpu: must be an amount per day, week, month"),
        ("pool=gpu:-1/day", "pool=gpu: must be an amount per day, week, month"),
        ("pool=gpu:nan/day", "pool=gpu: must be an amount per day, week, month"),
        ("colour=red:5/day", "filter: must be job=ID, pool=NAME"),
        ("all:5/day,all:6/day+stop", "names the same runs twice for the same period"),
    ],
)
def test_a_wrong_budget_is_refused(
    air: Air, project: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    """With what is accepted."""
    assert project.is_dir()
    monkeypatch.setenv("AIR_COST_BUDGETS", text)
    done = air("report")
    assert (done.code, message in done.err) == (2, True), done.err


def test_the_file_has_a_table_of_them(air: Air, project: Path) -> None:
    """By what they are for."""
    (project / "air-executor.toml").write_text('[cost.budgets]\n"pool=gpu" = "500/month"\n"all" = "80/day+stop"\n')
    shown = air("doctor", "--settings").out
    assert "pool=gpu:500/month,all:80/day+stop" in shown

"""Every expression of the dashboards and alerts, evaluated by a real Prometheus that watches a real manager."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from air_executor.cli.app import run
from helm.monitoring.dashboards import DASHBOARDS
from tests.conftest import wait_for
from tests.engine import require_engine, require_image
from tests.managers.rig import Project
from tests.monitoring.shipped import RULES
from tests.prometheus import Prometheus, free_port

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(300)]
PATIENCE = 120.0
SETTINGS = {
    "AIR_BACKEND": "docker",
    "AIR_COST_RUNNER_HOUR": "3600",
    "AIR_COST_CURRENCY": "EUR",
    "AIR_COST_ALWAYS_ON_WORKERS": "3",
    "AIR_COST_BUDGETS": "all:1e9/month",
    "AIR_COST_LABELS": "team",
    "AIR_POOLS": "night=1",
}
JOBS: list[dict[str, Any]] = [
    {"id": "maker", "tasks": [{"command": 'sleep 1; echo \'{"command": "sleep 0.5"}\' >>"$AIR_QUEUE"'}]},
    {
        "id": "bad",
        "pool": "night",
        "labels": {"team": "ä b"},
        "tasks": [{"command": "sleep 0.5; false", "retries": 1, "retry_delay": 0}],
    },
]
BETWEEN = {"$job": ".+", "$__rate_interval": "5m", "$__range": "1h"}
"""What Grafana fills in."""


class WatchedManager:
    """A watched manager whose jobs have ended."""

    def __init__(self, project: Project, prometheus: Prometheus) -> None:
        self.project = project
        self.prometheus = prometheus

    def ask(self, title: str, number: int = 0) -> dict[frozenset[tuple[str, str]], float]:
        """Return the value of a panel's expression, since the manager started instead of over the time range."""
        (panel,) = [one for board in DASHBOARDS for one in board.panels if one.title == title]
        whole = re.sub(r"increase\((.*?)\[\$__range\]\)", r"\1", panel.queries[number].expr)
        return self.prometheus.query(whole.replace("$job", ".+"))

    def number(self, title: str) -> float:
        """Return the one number of a panel."""
        (value,) = self.ask(title).values()
        return value


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedManager]:
    """A manager of containers, watched while some jobs ran and until everything about them was scraped."""
    require_engine()
    root = tmp_path_factory.mktemp("watched")
    root.parent.chmod(0o711)
    root.chmod(0o711)
    project, port = Project(root / "project"), free_port()
    with Prometheus.run(root / "prometheus", f"127.0.0.1:{port}", rules=RULES) as prometheus:
        manager = project.start(
            AIR_HTTP_PORT=str(port),
            AIR_RUNNER_IMAGE=require_image(),
            AIR_NAME_PREFIX=f"m{secrets.token_hex(4)}",
            **SETTINGS,
        )
        try:
            for job in JOBS:
                project.submit(job)
            for job in JOBS:
                assert project.client.wait(str(job["id"]), PATIENCE).ended, project.log()
            wait_for(lambda: prometheus.value("sum(air_executor_runs_total)") == 4, PATIENCE, "the last run's scrape")
            yield WatchedManager(project, prometheus)
            assert project.stop(manager) == 0, project.log()
        finally:
            project.clear()


@pytest.fixture(scope="module")
def ledger(watched: WatchedManager) -> dict[str, Any]:
    """What `air-executor report --json` says."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert run(["--state-dir", watched.project.state_dir, "report", "--json"]) == 0
    found: dict[str, Any] = json.loads(printed.getvalue())["total"]
    return found


QUESTIONS = [
    pytest.param(query.expr, id=f"{board.name}-{panel.title}-{number}")
    for board in DASHBOARDS
    for panel in board.panels
    for number, query in enumerate(panel.queries)
]


@pytest.mark.parametrize("expression", QUESTIONS)
def test_every_panel_has_data(watched: WatchedManager, expression: str) -> None:
    """Every expression of a dashboard has a value once there were runs."""
    expression = expression.replace("offset $__range", "offset 1s")  # nothing ran in the time before
    for name, value in BETWEEN.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    wait_for(lambda: bool(watched.prometheus.query(expression)), 30, f"an answer to {expression}")


def test_money_is_the_ledgers(watched: WatchedManager, ledger: dict[str, Any]) -> None:
    """Cost in total, per successful task, and relative to the always-on pool."""
    assert watched.number("Spend today") == pytest.approx(ledger["cost"], abs=0.02)
    assert watched.number("Cost per successful task") == pytest.approx(ledger["cost"] / 2, abs=0.02)
    assert sum(watched.ask("Spend by pool").values()) == pytest.approx(ledger["cost"], abs=0.02)
    by_team = {dict(labels).get("value", ""): cost for labels, cost in watched.ask("Spend by label").items()}
    assert by_team.keys() == {"", "ä b"}
    assert sum(by_team.values()) == pytest.approx(ledger["cost"], abs=0.02)
    waste = ledger["waste_failed_seconds"] + ledger["waste_retried_seconds"]
    assert waste > 0
    assert sum(watched.ask("Waste, by kind").values()) == pytest.approx(waste, abs=0.02)
    assert watched.number("Cost of waste") == pytest.approx(waste, rel=0.02), "a runner costs one EUR per second"
    runners, pool = watched.number("Spend today"), watched.number("Always-on pool, whole range")
    assert pool > 0
    assert watched.number("Runner time relative to the always-on pool") == pytest.approx(runners / pool, rel=0.2)


def test_time_is_the_ledgers(watched: WatchedManager, ledger: dict[str, Any]) -> None:
    """The share of work in runner-seconds, and the mean duration of each stage."""
    assert watched.number("Utilization") == pytest.approx(ledger["work_seconds"] / ledger["runner_seconds"], abs=0.02)
    for number, stage in {2: "start", 3: "work", 4: "finish"}.items():
        (seconds,) = watched.ask("Mean duration of a run by stage", number).values()
        assert seconds == pytest.approx(ledger[f"{stage}_seconds"] / ledger["runs"], abs=0.02)


def test_rules_are_evaluated_and_quiet(watched: WatchedManager) -> None:
    """Prometheus evaluates each rule without an error, and no alert fires."""

    def rules() -> list[dict[str, Any]]:
        return [rule for group in watched.prometheus.ask("rules")["groups"] for rule in group["rules"]]

    wait_for(lambda: all(rule["health"] == "ok" for rule in rules()), 30, "all rules to be evaluated")
    assert len(rules()) == 10
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []


def test_nothing_is_not_a_number(watched: WatchedManager) -> None:
    """Panels that count trouble say 0, not nothing, when there was none."""
    for title in ("Runs lost", "Out of memory", "Duplicates prevented", "Unreadable files"):
        assert watched.number(title) == 0
    assert all(not math.isnan(value) for value in watched.ask("Orphans").values())

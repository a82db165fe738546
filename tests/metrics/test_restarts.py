"""Counters of managers that are killed: each goes on where the one before was, so they are the ledger's in the end."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from air_executor.cli.app import run
from air_executor.metrics.definitions import PREFIX
from tests.conftest import wait_for
from tests.forked import Program
from tests.managers.rig import PATIENCE, Project, gated
from tests.metrics.rig import get
from tests.prometheus import free_port

PRICES = {"AIR_COST_RUNNER_HOUR": "3600", "AIR_COST_CURRENCY": "EUR"}
_LINE = re.compile(rf"^{PREFIX}(\w+?)(?:{{(.*)}})? (\S+)$", re.MULTILINE)


class ScrapedProject:
    """A project whose managers are scraped, and what Prometheus would make of that."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        self.port = free_port()
        self.increases: defaultdict[str, float] = defaultdict(float)
        """By series, since its first scrape."""
        self.last: dict[str, float] = {}
        self.manager: Program | None = None

    def manage(self) -> None:
        """Start a manager and wait until it works."""
        self.manager = self.project.start(AIR_HTTP_PORT=str(self.port), **PRICES)
        self.project.await_work(self.manager)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.manager is not None
        self.project.crash(self.manager)

    def scrape(self) -> dict[str, float]:
        """Scrape the manager; a value below the last one counts as a new beginning at 0."""
        found = {f"{name}{{{labels}}}": float(value) for name, labels, value in _LINE.findall(self._metrics())}
        for series, value in found.items():
            before = self.last.get(series, value)
            self.increases[series] += value - before if value >= before else value
        self.last |= found
        return found

    def await_growth(self, metric: str, by: float) -> None:
        """Scrape until a metric has grown so much."""
        wanted = sums(self.last)[metric] + by
        wait_for(lambda: sums(self.scrape())[metric] >= wanted, PATIENCE, f"{metric} to be {wanted}")

    def _metrics(self) -> str:
        wait_for(lambda: get(self.port, "/readyz").status == 200, PATIENCE, "the manager to be ready")
        return get(self.port, "/metrics").body


def sums(values: Mapping[str, float]) -> dict[str, float]:
    """Return the sums over all labels, by metric."""
    found: defaultdict[str, float] = defaultdict(float)
    for series, value in values.items():
        found[series.partition("{")[0]] += value
    return found


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[ScrapedProject]:
    """A project with a manager that works."""
    made = ScrapedProject(tmp_path / "project")
    try:
        made.manage()
        yield made
    finally:
        made.project.clear()


def ledger(project: Project, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """Return what `report` says of all jobs, archived ones included, by the names of metrics."""
    capsys.readouterr()
    assert run(["--state-dir", project.state_dir, "report", "--json"]) == 0
    total = json.loads(capsys.readouterr().out)["total"]
    waste = sum(total[f"waste_{kind}_seconds"] for kind in ("failed", "retried", "cancelled", "lost"))
    return {
        "runs_total": total["runs"],
        "runner_seconds_total": total["work_seconds"] + total["idle_seconds"],
        "cost_total": total["cost"],
        "waste_seconds_total": waste,
    }


def prune(project: Project, *flags: str) -> None:
    """Archive all ended jobs, or delete them."""
    assert run(["--state-dir", project.state_dir, "prune", "--older-than", "0s", *flags]) == 0


def test_killed_managers_lose_nothing(
    scraped: ScrapedProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a load, with jobs that are archived and deleted, and a `run` that nobody scrapes in between."""
    project = scraped.project
    scraped.scrape()
    for number in range(3):
        tasks: list[dict[str, Any]] = [{"command": "sleep 0.1"} for _ in range(12)]
        tasks += [{"command": "sleep 0.1; false"}, {"command": "sleep 1.2"}]
        project.submit({"id": f"load-{number}", "tasks": tasks, "max_runners": 4, "on_failure": "continue"})
        scraped.await_growth("runs_total", 4)
        scraped.kill()
        scraped.manage()
        assert project.client.wait(f"load-{number}", PATIENCE).ended
        if number == 1:
            prune(project)
            before = ledger(project, capsys)
            prune(project, "--delete")
            assert ledger(project, capsys) == before
    assert scraped.manager is not None
    assert project.stop(scraped.manager) == 0
    for setting, price in PRICES.items():
        monkeypatch.setenv(setting, price)
    assert run(["--state-dir", project.state_dir, "run", "alone", "--", "sleep", "0.2"]) == 0
    scraped.manage()
    last, increases = sums(scraped.scrape()), sums(scraped.increases)
    for name, value in ledger(project, capsys).items():
        assert last[name] == pytest.approx(value, abs=1e-3), name
        assert increases[name] == pytest.approx(value, abs=1e-3), name


def test_an_open_run_is_counted_once(scraped: ScrapedProject, capsys: pytest.CaptureFixture[str]) -> None:
    """By the managers that it has one after another, and with the time that it had none."""
    project = scraped.project
    scraped.scrape()
    project.submit({"id": "j", "tasks": [gated("a")]})
    for _ in range(2):
        scraped.await_growth("runner_seconds_total", 0.7)
        scraped.kill()
        scraped.manage()
        scraped.scrape()
    project.open("a")
    assert project.client.wait("j", PATIENCE).ended
    scraped.kill()
    scraped.manage()
    last, increases = sums(scraped.scrape()), sums(scraped.increases)
    for name, value in ledger(project, capsys).items():
        assert last[name] == pytest.approx(value, abs=1e-3), name
        assert increases[name] == pytest.approx(value, abs=1e-3), name

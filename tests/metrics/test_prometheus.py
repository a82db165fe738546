"""A real Prometheus scrapes a real manager: what it then knows agrees with the ledger."""

from __future__ import annotations

import json
import math
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from air_executor.cli.app import run
from air_executor.core.ledger import WASTE
from tests.conftest import wait_for
from tests.forked import Program
from tests.managers.rig import Project
from tests.metrics.rig import get
from tests.prometheus import Prometheus, free_port, require

pytestmark = pytest.mark.monitoring

PATIENCE = 60.0
STEP = 0.02
"""Seconds by which sums over few runs may differ: the volume's time stamps."""
PRICES = {"AIR_COST_RUNNER_HOUR": "3600", "AIR_COST_CPU_HOUR": "7200", "AIR_COST_CURRENCY": "EUR"}
"""A runner costs one per second, each CPU two."""


@dataclass
class ScrapedManager:
    """A watched state directory."""

    project: Project
    port: int
    prometheus: Prometheus
    manager: Program | None = None

    def manage(self) -> None:
        """Start a manager."""
        self.manager = self.project.start(
            AIR_HTTP_PORT=str(self.port), AIR_POOLS="gpu=1,default=4", AIR_COST_ALWAYS_ON_WORKERS="3", **PRICES
        )

    def stop(self) -> None:
        """Stop the manager."""
        assert self.manager is not None
        assert self.project.stop(self.manager) == 0, self.project.log()
        self.manager = None

    def reaches(self, expression: str, value: float, within: float = STEP) -> None:
        """Wait until an expression has a value, as far as scrapes can tell."""

        def near() -> bool:
            found = self.prometheus.value(expression)
            return found is not None and math.isclose(found, value, rel_tol=0.001, abs_tol=within)

        wait_for(near, PATIENCE, f"{expression} to be {value}")


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[ScrapedManager]:
    """A watched state directory whose manager is at work."""
    project, port = Project(tmp_path / "project"), free_port()
    with Prometheus.run(tmp_path / "prometheus", f"127.0.0.1:{port}") as prometheus:
        made = ScrapedManager(project, port, prometheus)
        made.manage()
        try:
            yield made
            if made.manager is not None:
                made.stop()
        finally:
            project.clear()


@pytest.fixture
def report(scraped: ScrapedManager, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Return what `air-executor report --json` says."""

    def call(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        assert run(["--state-dir", scraped.project.state_dir, "report", "--json", *arguments]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def submit_some(scraped: ScrapedManager) -> None:
    """Let runs end in several ways, in two pools, and wait for them."""
    jobs: list[dict[str, Any]] = [
        {"id": "plain", "tasks": [{"command": "sleep 0.4", "resources": {"cpu": 0.5}}, {"command": "true"}]},
        {"id": "bad", "tasks": [{"command": "sleep 0.2; false", "retries": 1, "retry_delay": 0}, {"command": "true"}]},
        {
            "id": "gpu",
            "pool": "gpu",
            "tasks": [{"command": "sleep 0.3"}, {"command": "exec sleep 600", "timeout": "0.3s"}],
        },
        {"id": "maker", "tasks": [{"command": 'for n in 1 2 3; do echo \'{"command": "true"}\' >>"$AIR_QUEUE"; done'}]},
    ]
    for job in jobs:
        scraped.project.submit(job)
    for job in jobs:
        assert scraped.project.client.wait(job["id"], PATIENCE).ended


def test_sums_are_those_of_the_ledger(scraped: ScrapedManager, report: Callable[..., dict[str, Any]]) -> None:
    """Seconds by pool and state, stages, waits, waste and cost, once all runs are committed."""
    submit_some(scraped)
    total = report()["total"]
    for row in report("--by", "pool")["groups"]:
        seconds = f'air_executor_runner_seconds_total{{pool="{row["key"]}"'
        scraped.reaches(f'{seconds},state="busy"}}', row["work_seconds"])
        scraped.reaches(f'{seconds},state="idle"}}', row["idle_seconds"])
        scraped.reaches(f'sum(air_executor_cost_total{{pool="{row["key"]}",currency="EUR"}})', row["cost"])
    for stage in ("start", "work", "finish"):
        scraped.reaches(f'air_executor_runner_stage_seconds_sum{{stage="{stage}"}}', total[f"{stage}_seconds"], 1e-4)
    scraped.reaches("sum(air_executor_runs_total)", total["runs"], 0)
    scraped.reaches('sum(air_executor_runs_total{reason="ok"})', total["succeeded"], 0)
    for kind in WASTE:
        scraped.reaches(f'sum(air_executor_waste_seconds_total{{kind="{kind}"}})', total[f"waste_{kind}_seconds"])
    scraped.reaches("sum(air_executor_cpu_seconds_total)", total["cpu_seconds"])
    scraped.reaches("sum(air_executor_task_wait_seconds_count)", total["runs"], 0)
    scraped.reaches("air_executor_queued_tasks_total", 3, 0)


def test_ends_are_counted_by_pool_and_reason(scraped: ScrapedManager) -> None:
    """Each task and job once, however often it ran; gauges say what there is."""
    submit_some(scraped)
    expected = {
        ("default", "succeeded", "ok"): 6,
        ("default", "failed", "error"): 1,
        ("default", "skipped", "upstream"): 1,
        ("gpu", "succeeded", "ok"): 1,
        ("gpu", "failed", "timeout"): 1,
    }
    for (pool, result, reason), count in expected.items():
        labels = f'pool="{pool}",result="{result}",reason="{reason}"'
        scraped.reaches(f"air_executor_tasks_total{{{labels}}}", count, 0)
    scraped.reaches("sum(air_executor_tasks_total)", sum(expected.values()), 0)
    scraped.reaches('sum(air_executor_jobs_total{result="failed"})', 2, 0)
    for phase, count in {"succeeded": 2, "failed": 2, "running": 0}.items():
        scraped.reaches(f'air_executor_jobs{{phase="{phase}"}}', count, 0)
    scraped.reaches("sum(air_executor_tasks)", 0, 0)
    scraped.reaches('air_executor_runners_limit{pool="gpu"}', 1, 0)
    scraped.reaches("sum(air_executor_runners)", 0, 0)
    scraped.reaches("up", 1, 0)


def test_a_long_task_counts_while_it_runs(scraped: ScrapedManager, report: Callable[..., dict[str, Any]]) -> None:
    """Busy seconds and cost grow from scrape to scrape, never shrink, and end where the ledger does."""
    scraped.project.submit(
        {"id": "long", "tasks": [{"id": "t", "command": "while [ ! -e t.gate ]; do sleep 0.02; done"}]}
    )
    busy = 'air_executor_runner_seconds_total{pool="default",state="busy"}'
    wait_for(lambda: (scraped.prometheus.value(busy) or 0) > 2, PATIENCE, "two busy seconds")
    wait_for(lambda: len(values_of(scraped, busy)) > 3, PATIENCE, "four different scrapes")
    assert (scraped.prometheus.value('sum(air_executor_cost_total{pool="default"})') or 0) > 1.5
    scraped.reaches('air_executor_runners{pool="default"}', 1, 0)
    scraped.reaches('air_executor_tasks{phase="running"}', 1, 0)
    scraped.project.open("t")
    assert scraped.project.client.wait("long", PATIENCE).phase == "succeeded"
    scraped.reaches(busy, report()["total"]["work_seconds"])
    values = values_of(scraped, busy)
    assert values == sorted(values)


def values_of(scraped: ScrapedManager, series: str) -> list[float]:
    """Return the different values that a series had, in order."""
    return list(dict.fromkeys(value for _, value in samples_of(scraped, series)))


def samples_of(scraped: ScrapedManager, series: str) -> list[tuple[float, float]]:
    """Return when a series was scraped, and what it was then."""
    found = scraped.prometheus.ask("query", query=f"{series}[5m{':1s' if '(' in series else ''}]")["result"]
    return [(float(at), float(value)) for at, value in found[0]["values"]] if found else []


def sums_of(scraped: ScrapedManager, series: str) -> list[float]:
    """Return the sums over all these series at each scrape, the first one first."""
    sums: defaultdict[float, float] = defaultdict(float)
    for one in scraped.prometheus.ask("query", query=f"{series}[5m]")["result"]:
        for at, value in one["values"]:
            sums[float(at)] += float(value)
    return [sums[at] for at in sorted(sums)]


def test_counters_go_on_across_a_restart(scraped: ScrapedManager, report: Callable[..., dict[str, Any]]) -> None:
    """An open run is counted once, with the time that it had no manager: increases are the ledger's."""
    raw = 'air_executor_runner_seconds_total{pool="default",state="busy"}'
    scraped.reaches(raw, 0, 0)
    scraped.project.submit(
        {"id": "long", "tasks": [{"id": "t", "command": "while [ ! -e t.gate ]; do sleep 0.02; done"}]}
    )
    wait_for(lambda: (scraped.prometheus.value(raw) or 0) > 3, PATIENCE, "three busy seconds")
    scraped.stop()
    scraped.manage()
    scraped.reaches('air_executor_orphans_total{action="adopted"}', 1, 0)
    scraped.project.open("t")
    assert scraped.project.client.wait("long", PATIENCE).phase == "succeeded"
    scraped.reaches("sum(air_executor_runs_total)", 1, 0)
    scraped.reaches(raw, report()["total"]["work_seconds"])
    values = [value for _, value in samples_of(scraped, raw)]
    assert values == sorted(values)


def test_a_new_pool_is_in_increases_from_its_first_run_on(
    scraped: ScrapedManager, report: Callable[..., dict[str, Any]]
) -> None:
    """Its runs, its ends and its money: also where the manager that counted them was killed before any scrape."""
    scraped.reaches("sum(air_executor_runs_total)", 0, 0)
    scraped.project.submit({"id": "first", "pool": "night", "tasks": [{"command": "sleep 0.3"}]})
    assert scraped.project.client.wait("first", PATIENCE).ended
    assert scraped.manager is not None
    scraped.project.crash(scraped.manager)
    scraped.manage()
    expected = {"runs_total": 1, "tasks_total": 1, "jobs_total": 1, "task_wait_seconds_count": 1}
    for name, count in expected.items():
        scraped.reaches(f'sum(air_executor_{name}{{pool="night"}})', count, 0)
        assert sums_of(scraped, f'air_executor_{name}{{pool="night"}}')[0] == 0, name

    def rows() -> list[dict[str, Any]]:
        return [row for row in report("--by", "pool")["groups"] if row["key"] == "night"]

    (row,) = wait_for(rows, PATIENCE, "the pool's costs")
    for name, value in {"cost_total": row["cost"], "runner_seconds_total": row["runner_seconds"]}.items():
        scraped.reaches(f'sum(air_executor_{name}{{pool="night"}})', value)
        assert sums_of(scraped, f'air_executor_{name}{{pool="night"}}')[0] == 0, name


def test_the_pool_is_its_size_times_the_time(scraped: ScrapedManager) -> None:
    """And the manager's own time is either work or sleep."""
    scraped.reaches("air_executor_baseline_pool_runners", 3, 0)
    pool = "air_executor_baseline_pool_seconds_total"
    wait_for(lambda: (scraped.prometheus.value(pool) or 0) > 6, PATIENCE, "six seconds of the pool")
    wait_for(lambda: len(samples_of(scraped, pool)) > 3, PATIENCE, "four scrapes")
    (began, least), *_, (ended, most) = samples_of(scraped, pool)
    assert (most - least) / (ended - began) == pytest.approx(3, rel=0.2)
    whole = scraped.prometheus.value("sum(air_executor_manager_seconds_total)") or 0
    assert whole >= (scraped.prometheus.value(pool) or 0) / 3


def test_every_name_and_help_passes_promtool(scraped: ScrapedManager) -> None:
    """The format is Prometheus' own, and it has nothing to say against the names."""
    submit_some(scraped)
    text = get(scraped.port, "/metrics").body
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text.encode(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

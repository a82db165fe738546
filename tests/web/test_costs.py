"""The page with the costs of all jobs: its bars are the report's days, and its table the report's groups."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from air_executor.client import Client
from air_executor.core.submission import initial_state, parse_job
from air_executor.model.state import JobState
from air_executor.web.cost_page import DAY, CostPage, cost_page, first_moment
from tests.records import make_attempt, make_done
from tests.web.conftest import ServedProject
from tests.web.ended_jobs import ended_job, put

NOW = 1_769_947_200.0
"""Noon, 1 February 2026 (UTC)."""


def job_of(name: str, pool: str, *runs: tuple[float, float, bool]) -> JobState:
    """Return a job whose runs began so many days before now, took so many hours at 2 EUR each, and may have failed."""
    each = [{"id": f"t{number}", "command": "true"} for number in range(len(runs))]
    state = initial_state(parse_job({"id": name, "pool": pool, "tasks": each}), uid=f"{len(name):08x}", now=NOW)
    for number, (task, (days, hours, ok)) in enumerate(zip(state.tasks.values(), runs, strict=True), 1):
        begun, seconds = NOW - days * DAY, hours * 3600
        reason, code = ("ok", 0) if ok else ("error", 1)
        attempt = make_attempt(number, 0, begun, 0.0, seconds, 0.0, reason, code)
        task.attempts.append(replace(attempt, cost=2 * hours, currency="EUR"))
        task.status = make_done("succeeded" if ok else "failed", reason, begun + seconds, code)
        task.runs = 1
    return state


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[[int], CostPage]:
    """Return the page of so many days."""
    client = Client(f"{tmp_path}/.air-executor")
    put(client, job_of("etl", "night", (1.0, 3.0, True), (1.0, 1.0, False), (40.0, 9.0, True)))
    put(client, job_of("report", "day", (0.4, 1.0, True), (2.0, 2.0, True)))

    def make(days: int) -> CostPage:
        report, _ = client.report([], NOW, by="day,pool", since=first_moment(days, NOW), pool_size=None)
        return cost_page(report, NOW)

    return make


def test_bars_are_days_and_the_table_is_groups(page_of: Callable[[int], CostPage]) -> None:
    """In money, with what runs without success used; what came before the window is left out."""
    page = page_of(7)
    assert [one.day for one in page.days] == [f"2026-01-{day}" for day in range(26, 32)] + ["2026-02-01"]
    assert [round(one.amount.used, 6) for one in page.days] == [0, 0, 0, 0, 4.0, 8.0, 2.0]
    assert (page.most, page.days[5].height, page.days[5].wasted) == (8.0, 100.0, 25.0)
    assert [(name, one.used, one.wasted, one.runs) for name, one in page.groups] == [
        ("night", 8.0, 2.0, 2),
        ("day", 6.0, 0.0, 2),
    ]
    assert (page.total.used, page.total.wasted, page.more) == (14.0, 2.0, 0)
    assert page_of(92).total.used == 32.0


def test_people_read_it(served: ServedProject, look: Callable[..., Page]) -> None:
    """They come there from the list of jobs, and choose days and a key by links."""
    put(served.client, ended_job("large", 60))
    page = look(f"{served.url}/")
    page.get_by_role("link", name="Costs").click()
    expect(page.get_by_role("heading", name="Costs", exact=True)).to_be_visible()
    expect(page.locator(".lead")).to_contain_text("in the last 31 days, by 60 runs")
    expect(page.get_by_role("img", name="Cost by day")).to_be_visible()
    page.get_by_role("link", name="7 days").click()
    page.get_by_role("link", name="job", exact=True).click()
    expect(page.get_by_role("row", name="large")).to_contain_text("60")
    expect(page.locator("main code").last).to_contain_text("--by day --by job")


def test_other_keys_are_refused(served: ServedProject) -> None:
    """With what is accepted."""
    for key in ("day", "nonsense", "pool,dag"):
        answer = served.get(f"/costs?by={key}")
        assert (answer.status, "by: must be job, pool, dag" in answer.text) == (404, True)
    assert served.get(f"/costs?by=label%3Dteam&days={time.time():.0f}").status == 200

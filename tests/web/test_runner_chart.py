"""The chart of a job's runners over time: what it draws is what was paid."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from air_executor.core.always_on import AlwaysOnPool, Waits
from air_executor.core.submission import initial_state, parse_job
from air_executor.model.state import JobState
from air_executor.web.runner_chart import RunnerChart, runner_chart
from tests.records import make_attempt, make_done
from tests.web.conftest import ServedProject
from tests.web.ended_jobs import ended_job, put

BEGIN = 1_769_860_800.0


def job_of(*runs: tuple[float, float]) -> JobState:
    """Return a job whose tasks ran from and for so many seconds."""
    spec = parse_job({"id": "j", "tasks": [{"id": f"t{number}", "command": "true"} for number in range(len(runs))]})
    state = initial_state(spec, uid="0a1b2c3d", now=BEGIN)
    for number, (task, (start, work)) in enumerate(zip(state.tasks.values(), runs, strict=True), 1):
        task.attempts.append(make_attempt(number, 0, BEGIN + start, 0.0, work, 0.0, "ok", 0))
        task.status = make_done("succeeded", "ok", BEGIN + start + work, 0)
    return state


def pool(size: int, seconds: float) -> AlwaysOnPool:
    """Return an always-on pool from the beginning on."""
    return AlwaysOnPool(size, BEGIN, BEGIN + seconds, 0.0, Waits(0.0, 0.0))


def area_of(chart: RunnerChart) -> float:
    """Return the runner-seconds that a chart shows."""
    points = [tuple(map(float, point.split(","))) for point in chart.area.split()]
    pairs = itertools.pairwise(points)
    drawn = sum((right[0] - left[0]) * (100 - left[1]) for left, right in pairs if left[1] == right[1])
    return drawn / 10_000 * chart.most * (chart.end - chart.begin)


@pytest.mark.parametrize(
    "runs",
    [
        [(0.0, 10.0), (0.0, 10.0), (0.0, 10.0)],
        [(0.0, 0.01), (3.0, 4.0), (3.3, 0.5), (9.99, 0.01)],
        [(number * 0.037, 0.4) for number in range(200)],
    ],
)
def test_the_area_is_what_was_paid(runs: list[tuple[float, float]]) -> None:
    """Runner-seconds, however the runs lie in time."""
    chart = runner_chart(job_of(*runs), pool(2, 10.0), BEGIN + 100)
    assert chart is not None
    assert area_of(chart) == pytest.approx(sum(work for _, work in runs), rel=0.01)
    assert 0 <= chart.pool <= 100


def test_there_is_no_chart_of_little() -> None:
    """Two runs, no pool, no time."""
    assert runner_chart(job_of((0.0, 1.0), (1.0, 1.0)), pool(1, 2.0), BEGIN) is None
    assert runner_chart(job_of(*[(0.0, 1.0)] * 3), None, BEGIN) is None
    assert runner_chart(job_of(*[(0.0, 0.0)] * 3), pool(1, 0.0), BEGIN) is None


def test_on_the_page(served: ServedProject, look: Callable[..., Page]) -> None:
    """With a sentence that says what the pool would have taken."""
    put(served.client, ended_job("large", 200))
    page = look(f"{served.url}/jobs/large")
    expect(page.locator("#cost svg")).to_be_visible()
    expect(page.locator("#cost")).to_contain_text("times as much")
    page.locator("#cost").screenshot(path=f"{served.root}/cost.png")

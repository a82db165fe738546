"""The bar of many tasks in one row: when they ran, how many at a time, and how they ended."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from air_executor.core.submission import initial_state, parse_job
from air_executor.model.state import JobState, Running, TaskState
from air_executor.web import group_bar as bars
from air_executor.web.group_bar import COLUMNS, LEVELS, group_bar
from air_executor.web.timeline import TimeWindow
from tests.records import make_attempt
from tests.web.conftest import ServedProject


def _job(count: int) -> JobState:
    spec = parse_job({"id": "j", "tasks": [{"id": f"t{n}", "command": "true"} for n in range(count)]})
    return initial_state(spec, uid="00000001", now=1000.0)


def _tasks(*runs: tuple[float, float, str]) -> list[TaskState]:
    tasks = list(_job(len(runs)).tasks.values())
    for number, (task, (begin, seconds, reason)) in enumerate(zip(tasks, runs, strict=True)):
        task.attempts.append(make_attempt(number, 0, begin, 0.0, seconds, 0.0, reason))
    return tasks


def test_it_spans_the_first_start_to_the_last_end() -> None:
    """As high as many ran at a time; a gap is a gap, in which only the span is seen."""
    within = TimeWindow(1000.0, 1100.0)
    found = group_bar(_tasks((1010, 40, "ok"), (1010, 20, "ok"), (1070, 10, "ok")), within, 2000.0)
    assert found is not None
    assert (found.begin, found.end, found.is_open, found.x, found.width) == (1010, 1080, False, 10, 70)
    half = round(100 / LEVELS * round(LEVELS / 2), 2)
    assert [(one.tone, one.x, one.width, one.height) for one in found.parts] == [
        ("ok", 10, 20, 100),
        ("ok", 30, 20, half),
        ("ok", 70, 10, half),
    ]
    assert all(one.y + one.height == pytest.approx(100, abs=0.02) for one in found.parts)


def test_one_failure_of_many_is_seen() -> None:
    """Above those that succeeded; what still runs has its own color, and the bar goes up to now."""
    within = TimeWindow(1000.0, 1100.0)
    tasks = _tasks(*((1000, 50, "ok") for _ in range(99)), (1020, 10, "error"), (0, 0, "ok"))
    tasks[-1].attempts.clear()
    tasks[-1].status = Running(7, 0, 1060.0)
    found = group_bar(tasks, within, 1080.0)
    assert found is not None
    assert (found.is_open, found.end) == (True, 1080)
    (bad,) = [one for one in found.parts if one.tone == "bad"]
    assert (bad.x, bad.width, bad.y) == (20, 10, 0)
    assert [(one.x, one.width) for one in found.parts if one.tone == "open"] == [(60, 20)]


def test_tasks_that_have_not_run_have_no_bar() -> None:
    """Nothing is drawn for them."""
    assert group_bar(_job(3).tasks.values(), TimeWindow(1000.0, 1100.0), 1010.0) is None


def test_it_is_bounded_whatever_runs() -> None:
    """Thousands of runs, stepped clocks included, are at most two parts a column, inside the window."""
    random.seed(11)
    reasons = ("ok", "error", "cancelled")
    runs = [
        (random.uniform(900, 2100), random.choice((0.0, 0.001, 3, 500)), random.choice(reasons)) for _ in range(5000)
    ]
    found = group_bar(_tasks(*runs), TimeWindow(1000.0, 2000.0), 2000.0)
    assert found is not None
    assert 0 < len(found.parts) <= 2 * COLUMNS
    for one in found.parts:
        assert 0 <= one.x <= one.x + one.width <= 100.001
        assert -0.05 <= one.y <= 100
        assert 0 < one.height <= 100.001 - one.y


def test_each_load_is_as_much_time_as_the_runs_took() -> None:
    """However they lie in the columns."""
    random.seed(12)
    load, total = bars._Load(), 0.0
    for _ in range(500):
        begin, end = sorted(random.uniform(0, COLUMNS) for _ in range(2))
        load.add(begin, end)
        total += end - begin
    assert sum(load.columns()) == pytest.approx(total)


def test_a_list_of_tasks_has_a_bar_on_the_page(served: ServedProject, look: Callable[..., Page]) -> None:
    """Right of the task before it, and as wide as its tasks took; a failure in it is striped."""
    served.submit(
        "all",
        [
            {"id": "first", "command": "sleep 0.2"},
            *({"id": f"x-{n}", "group": "x", "after": ["first"], "command": "sleep 0.2"} for n in range(5)),
            {"id": "x-bad", "group": "x", "after": ["first"], "command": "sleep 0.2; exit 3"},
        ],
        max_runners=4,
        on_failure="continue",
    )
    served.ended("all")
    page = look(f"{served.url}/jobs/all")
    row = page.locator("#g-x .runs")
    expect(row.locator(".part.bad")).not_to_have_count(0)
    first, span = page.locator("#t-first rect.work").bounding_box(), row.locator(".span").bounding_box()
    assert first is not None
    assert span is not None
    assert span["x"] >= first["x"] + first["width"] - 1
    assert span["width"] > first["width"]
    assert row.locator('rect[fill="url(#bars)"]').count() == row.locator(".part.bad").count()
    assert row.locator("xpath=../following-sibling::td[1]").inner_text().endswith("s")

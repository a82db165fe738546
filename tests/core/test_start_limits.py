"""Which limit keeps a task from starting, for people: the first that is reached, with what is used of it."""

from __future__ import annotations

from typing import Any

import pytest

from air_executor.core.explanation import ExplainContext
from air_executor.core.progress import Progress
from air_executor.core.start_limits import Limit, limit_reached, never_fits
from air_executor.model.state import JobState, Running
from tests.records import make_job, make_task

CACHE = "cache:pip"


def waiting(*, running: int = 0, **fields: Any) -> JobState:  # noqa: ANN401 - JSON
    """Return a job of two runners with a task that needs pools and a cache, and others that run."""
    job = make_job("j", "00000001", {"max_runners": 2, "pool": "main", **fields})
    own = {"pools": {"llm": 3}, "caches": [{"name": "pip", "path": "/pip"}]}
    job.tasks = {"t": make_task("t", own)}
    job.tasks |= {f"r{n}": make_task(f"r{n}", status=Running(n, n, 1.0)) for n in range(running)}
    return job


@pytest.mark.parametrize(
    ("running", "context", "of_task", "of_job"),
    [
        (0, {}, None, None),
        (1, {}, None, None),
        (2, {"in_use": {"main": 9}, "pools": {"main": 1}}, Limit("its job", 2, 2), Limit("its job", 2, 2)),
        (0, {"pools": {"main": 1}}, None, None),
        (0, {"in_use": {"main": 1}, "pools": {"main": 2}}, None, None),
        (0, {"in_use": {"main": 2}, "pools": {"main": 2}}, Limit("pool main", 2, 2), Limit("pool main", 2, 2)),
        (0, {"in_use": {"llm": 2}, "pools": {"llm": 5}}, None, None),
        (0, {"in_use": {"llm": 3}, "pools": {"llm": 5}}, Limit("pool llm", 3, 5, 3, weighted=True), None),
        (0, {"in_use": {CACHE: 1}}, Limit("cache pip", 1, 1), None),
        (0, {"running": 7}, None, None),
        (0, {"running": 7, "max_runners": 8}, None, None),
        (0, {"running": 8, "max_runners": 8}, Limit("the manager", 8, 8), Limit("the manager", 8, 8)),
    ],
)
def test_the_first_limit_that_is_reached(
    running: int, context: dict[str, Any], of_task: Limit | None, of_job: Limit | None
) -> None:
    """That of its job, then those of its pools with what it needs of them, then that of the manager."""
    job, surroundings = waiting(running=running), ExplainContext(0.0, **context)
    progress = Progress(job)
    found = [limit_reached(job, progress, surroundings, task) for task in (job.tasks["t"], None)]
    assert found == [of_task, of_job]


@pytest.mark.parametrize(
    ("pools", "why"),
    [
        ({}, None),
        ({"llm": 3}, None),
        ({"llm": 2}, "it needs 3 of pool llm, whose limit is 2 (AIR_POOLS)"),
        ({"main": 0}, "it needs 1 of pool main, whose limit is 0 (AIR_POOLS)"),
    ],
)
def test_what_never_fits(pools: dict[str, int], why: str | None) -> None:
    """A task that needs more of a pool than there is will wait for ever."""
    job = waiting()
    assert never_fits(job, job.tasks["t"], ExplainContext(0.0, pools=pools)) == why

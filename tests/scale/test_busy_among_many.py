"""Work among many jobs: what a cycle does follows from what has changed, not from how many jobs wait or have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.model import state as s
from tests.manager import rig
from tests.scale.test_many_jobs import counted, fill  # noqa: F401 - a fixture

ENDED, WAITING, TASKS = 4_500, 500, 20


def busy_cost(world: rig.World, take: Callable[[], Counter[str]]) -> Counter[str]:
    """Return the file operations of twenty tasks of one job, one after another, checkpoints left out."""
    world.submit("busy", *(f"n{n}" for n in range(TASKS + 1)), priority=100)
    world.until(lambda: "busy/n0" in world.running())
    # How often a checkpoint is written follows the time that they take.
    world.manager.checkpointer.save = lambda: None  # type: ignore[method-assign]
    take()
    for n in range(TASKS):
        world.exit(f"busy/n{n}")
        world.until(lambda n=n: f"busy/n{n + 1}" in world.running())  # type: ignore[misc]
    return take()


@pytest.mark.timeout(120)
def test_a_task_costs_the_same_with_five_thousand_jobs_as_with_none(
    quick_path: Path,
    counted: Callable[[], Counter[str]],  # noqa: F811
) -> None:
    """Twenty ends and starts make exactly the same file calls beside 4,500 ended and 500 waiting jobs."""
    with rig.world(quick_path / "empty", max_runners=1) as world:
        alone = busy_cost(world, counted)
    full = rig.World(quick_path / "full", max_runners=1)
    full.jobs.prepare()
    fill(full.layout, ENDED, s.SUCCEEDED, "done")
    fill(full.layout, WAITING, s.QUEUED, "waiting")
    full.start()
    try:
        crowded = busy_cost(full, counted)
        assert len(full.manager.state.index.ended) == ENDED
        assert len(full.manager.state.index.open) >= WAITING
        assert crowded == alone
        assert alone["open"] >= TASKS
    finally:
        full.crash()

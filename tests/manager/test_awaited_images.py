"""Tasks whose image is still on its way: they wait queued, without a runner or a slot, and hold up nobody else."""

from __future__ import annotations

import pytest

from air_executor.manager.scheduler import MOST_PASSED_OVER
from air_executor.store.presence import read_record
from tests.manager.rig import World

SLOW = {"image": "slow"}


@pytest.fixture
def waiting(world: World) -> World:
    """A world in which one image is not there yet."""
    world.platform.awaited["slow"] = "image slow: 3 of 7 layers"
    return world


def test_others_go_first(waiting: World) -> None:
    """Tasks of the same job and of other jobs start meanwhile; the one that waits starts when its image is there."""
    waiting.submit("mixed", {"id": "a", **SLOW}, "b", "c", max_runners=2)
    waiting.submit("other", "x")
    waiting.until(lambda: set(waiting.running()) == {"mixed/b", "mixed/c", "other/x"})
    assert waiting.task("mixed", "a").phase == "queued"
    waiting.do("mixed/b")
    waiting.platform.awaited.clear()
    waiting.until(lambda: "mixed/a" in waiting.running())
    assert waiting.task("mixed", "a").runs == 1


def test_a_sequence_waits(waiting: World) -> None:
    """A job with one runner is a sequence of steps: what comes later does not overtake."""
    waiting.submit("steps", {"id": "a", **SLOW}, "b")
    waiting.cycle(5)
    assert waiting.running() == {}
    waiting.platform.awaited.clear()
    waiting.do("steps/a")
    waiting.do("steps/b")
    waiting.until(lambda: waiting.job("steps").phase == "succeeded")


def test_no_slot_is_taken_meanwhile(waiting: World) -> None:
    """A manager with room for one runner gives it to a job that can use it."""
    waiting.stop()
    waiting.start(max_runners=1)
    waiting.submit("first", {"id": "a", **SLOW}, priority=5)
    waiting.submit("second", "b")
    waiting.until(lambda: set(waiting.running()) == {"second/b"})


def test_people_are_told(waiting: World) -> None:
    """`manager.json` says what a job waits for, and no longer when it does not."""
    waiting.submit("told", {"id": "a", **SLOW})
    waiting.until(lambda: read_record(waiting.layout).get("waiting") != {})
    assert read_record(waiting.layout)["waiting"] == {"told": "task a: image slow: 3 of 7 layers"}
    waiting.platform.awaited.clear()
    waiting.do("told/a")
    waiting.until(lambda: read_record(waiting.layout)["waiting"] == {})


def test_many_that_wait(waiting: World) -> None:
    """Where more wait than are passed over in one cycle the job is left for the next, and nothing is lost."""
    tasks = [{"id": f"s{number}", **SLOW} for number in range(MOST_PASSED_OVER + 5)]
    waiting.submit("many", *tasks, max_runners=50)
    waiting.cycle(3)
    assert waiting.running() == {}
    waiting.platform.awaited.clear()
    waiting.until(lambda: len(waiting.running()) >= 4)

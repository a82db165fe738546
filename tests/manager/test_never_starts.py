"""Runners that a platform gives up starting, that wait there for long, and whose outcome comes late."""

from __future__ import annotations

import pytest

from air_executor.backends.base import RunnerStatus
from air_executor.manager.supervisor import OUTCOME_OF_SUCCESS
from air_executor.model.state import Done
from air_executor.store.presence import read_record
from tests.manager.rig import World, leave


def show(world: World, **status: object) -> None:
    """Let the platform show this of the runner of j/a, which has not begun."""
    runner = world.platform.runners[world.slot("j/a")]
    runner.status = RunnerStatus(runner.launch.run, alive=True, **status)  # type: ignore[arg-type]


@pytest.fixture
def pending(world: World) -> World:
    """A world in which no runner begins by itself."""
    world.platform.on_spawn = None
    return world


def test_a_start_that_is_given_up_is_the_platforms_fault(pending: World) -> None:
    """It is stopped, committed with the platform's words, and tried again from the platform's budget."""
    pending.submit("j", "a")
    pending.until(lambda: "j/a" in pending.running())
    show(pending, reason="start-failed", message="no node takes it")
    pending.until(lambda: len(pending.task("j", "a").attempts) == 1)
    [attempt] = pending.task("j", "a").attempts
    assert attempt.reason == "start-failed"
    pending.until(lambda: "j/a" in pending.running())
    assert pending.task("j", "a").runs == 2


def test_what_can_never_start_is_not_tried_again(pending: World) -> None:
    """The task fails with the platform's words."""
    pending.submit("j", {"id": "a", "retries": 5})
    pending.until(lambda: "j/a" in pending.running())
    show(pending, reason="start-failed", message="image nonsense cannot be had", permanent=True)
    pending.until(lambda: pending.job("j").ended)
    done = pending.task("j", "a").status
    assert isinstance(done, Done)
    assert (done.reason, done.message) == ("start-failed", "image nonsense cannot be had")
    assert pending.task("j", "a").runs == 1


def test_the_platforms_words_survive_the_manager(pending: World) -> None:
    """A manager that dies after it gave up a start: the next one commits what the first learned, and tries no more."""
    pending.submit("j", {"id": "a", "retries": 5})
    pending.until(lambda: "j/a" in pending.running())
    show(pending, reason="start-failed", message="image nonsense cannot be had", permanent=True)
    pending.platform.slow_removal = True
    pending.cycle(2)
    pending.restart()
    show(pending)  # it is on its way out, and the platform says no more of it
    pending.platform.settle()
    pending.until(lambda: pending.job("j").ended)
    done = pending.task("j", "a").status
    assert isinstance(done, Done)
    assert (done.reason, done.message) == ("start-failed", "image nonsense cannot be had")
    assert pending.task("j", "a").runs == 1


def test_what_it_waits_for_is_told(pending: World) -> None:
    """Whoever asks why a task does not get on reads the platform's words."""
    pending.submit("j", "a")
    pending.until(lambda: "j/a" in pending.running())
    show(pending, message="0/3 nodes are available")
    pending.until(lambda: read_record(pending.layout)["waiting"] == {"j": "task a: 0/3 nodes are available"})
    show(pending)
    pending.until(lambda: read_record(pending.layout)["waiting"] == {})


def test_a_timeout_counts_from_the_beginning(pending: World) -> None:
    """On a platform where a start can take long, waiting for it is not running."""
    pending.manager.backend.remote = True
    pending.submit("j", {"id": "a", "timeout": 10})
    pending.until(lambda: "j/a" in pending.running())
    pending.clock.pass_time(3600)
    pending.cycle(3)
    assert "j/a" in pending.running()
    assert not pending.task("j", "a").attempts


def test_a_success_whose_outcome_is_late(world: World) -> None:
    """While the platform says exit 0, the manager waits for the file that says so too; not for ever."""
    world.platform.keeps_names = True
    world.manager.backend.remote = True
    world.submit("j", "a", "b", max_runners=2)
    world.until(lambda: {"j/a", "j/b"} <= world.running().keys())
    launches = [world.launch(f"j/{name}") for name in "ab"]
    for launch in launches:
        world.platform.end(launch.slot, 0)
    world.cycle()
    world.clock.pass_time(OUTCOME_OF_SUCCESS / 2)
    world.cycle()
    assert world.phases("j") == {"a": "running", "b": "running"}
    leave(launches[0])
    world.cycle(2)
    assert world.phases("j")["a"] == "succeeded"
    world.clock.pass_time(OUTCOME_OF_SUCCESS)
    world.cycle(2)
    assert [attempt.reason for attempt in world.task("j", "b").attempts] == ["lost"]

"""Pools with weights and locks, with a manager: what waits, what is said of it, and what a crash changes (nothing)."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.core.short_reason import ShortReasons
from air_executor.errors import BadInputError
from tests.manager.rig import World


def explained(world: World, job: str, task: str | None = None) -> str:
    """Return what `explain` says, with what the manager has published."""
    world.clock.pass_time(2)
    world.cycle(2)
    client = Client(world.layout.root)
    state = client.status(job)
    context = client.explain_context(state, client.job_facts(), world.clock.wall(), None)
    return explain_job(state, context) if task is None else explain_task(state, state.tasks[task], context)


def test_weights_hold_over_a_crash(world: World) -> None:
    """A manager that starts knows what runs, and starts what has room."""
    world.stop()
    world.start(pools={"ram": 10})
    world.submit("a", {"id": "big", "pools": {"ram": 7}})
    world.submit("b", {"id": "mid", "pools": {"ram": 4}}, max_runners=2)
    world.submit("c", {"id": "low", "pools": {"ram": 3}})
    world.cycle(2)
    assert set(world.running()) == {"a/big"}
    assert "ready; limit reached: pool ram has 7 of at most 10 in use, and it needs 4" in explained(world, "b", "mid")
    assert "task mid of job b is ahead of it in pool ram" in explained(world, "c", "low")
    world.crash()
    world.start(pools={"ram": 10})
    world.cycle(2)
    assert set(world.running()) == {"a/big"}
    world.do("a/big")
    world.until(lambda: set(world.running()) == {"b/mid", "c/low"})


def test_what_is_counted_in_weights_is_no_runner(world: World) -> None:
    """Also where the task that waits needs no more than 1."""
    world.submit("j", {"id": "light", "pools": {"ram": 1}})
    job, full = world.job("j"), ExplainContext(world.clock.wall(), pools={"ram": 8}, in_use={"ram": 8})
    text = explain_task(job, job.tasks["light"], full)
    assert text == "task light is ready; limit reached: pool ram has 8 of at most 8 in use"
    assert ShortReasons(job, full).of_task(job.tasks["light"]) == "needs 1, pool ram has 8 of 8 in use"


def test_one_run_at_a_time_has_a_cache(world: World) -> None:
    """Of all jobs, over a crash too; those that share it wait for nobody, and nobody for them."""
    world.submit("a", {"id": "one", "caches": [{"name": "pip"}]})
    world.cycle(2)
    world.submit("b", {"id": "two"}, {"id": "own", "caches": []}, max_runners=2, defaults={"caches": [{"name": "pip"}]})
    world.submit("c", {"id": "some", "caches": [{"name": "pip", "shared": True}, {"name": "npm"}]})
    world.cycle(2)
    assert set(world.running()) == {"a/one", "b/own", "c/some"}
    assert "ready; limit reached: cache pip has 1 of at most 1 runner" in explained(world, "b", "two")
    summary = Client(world.layout.root).jobs.summary("c")
    assert summary.in_use == {"default": 1, "cache:npm": 1}
    world.crash()
    world.start()
    world.cycle(2)
    assert "b/two" not in world.running()
    launch = world.launch("a/one")
    assert launch.environment("/out", "/workspace")["AIR_CACHE_PIP"] == world.layout.named_cache("pip")
    assert Path(world.layout.named_cache("pip")).is_dir()
    world.do("a/one")
    world.until(lambda: "b/two" in world.running())


def test_caches_that_a_variable_cannot_tell_apart(world: World) -> None:
    """Are refused; so is a name that is a path."""
    for names in (["a-b", "a.b"], ["pip", "pip"], ["../x"]):
        with pytest.raises(BadInputError, match="caches"):
            world.submit("j", {"id": "a", "caches": [{"name": name} for name in names]})


def test_a_weight_above_the_limit(world: World) -> None:
    """It is said, the rest of the job goes on, and a manager with a higher limit starts it."""
    world.stop()
    world.start(pools={"ram": 10})
    world.submit("a", {"id": "big", "pools": {"ram": 11}}, {"id": "low"}, max_runners=2, defaults={"pools": {"ram": 2}})
    world.do("a/low")
    assert world.running() == {}
    assert "can never start: it needs 11 of pool ram, whose limit is 10 (AIR_POOLS)" in explained(world, "a", "big")
    world.stop()
    world.start(pools={"ram": 11})
    world.do("a/big")
    assert world.job("a").phase == "succeeded"


def test_a_lock_is_held_from_start_to_end(world: World) -> None:
    """Between tasks, while paused, and over a crash; then the next one by priority and age starts."""
    world.submit("a", "one", "two", lock="db")
    world.cycle(2)
    world.submit("b", "one", lock="db")
    world.submit("c", "one", lock="db", priority=1)
    world.submit("d", "one", lock="other")
    world.cycle(2)
    assert set(world.running()) == {"a/one", "d/one"}
    assert explained(world, "b") == "job b is waiting for lock db, which job a holds until it ends"
    assert world.asked("pause", "a") is None
    world.do("a/one", "d/one")
    world.cycle(3)
    assert world.running() == {}
    world.crash()
    world.start()
    world.cycle(3)
    assert world.running() == {}
    assert world.asked("resume", "a") is None
    world.do("a/two")
    world.until(lambda: "c/one" in world.running())
    assert "b/one" not in world.running()
    assert world.asked("cancel", "c") is None
    world.until(lambda: set(world.running()) == {"b/one"})


def test_a_reopened_job_takes_its_turn_again(world: World) -> None:
    """It has given its lock back."""
    world.submit("a", "one", lock="db")
    world.do("a/one", code=1)
    world.submit("b", "one", lock="db")
    world.until(lambda: "b/one" in world.running())
    assert world.asked("retry", "a") is None
    world.cycle(3)
    assert set(world.running()) == {"b/one"}
    world.do("b/one")
    world.do("a/one")
    assert world.job("a").phase == "succeeded"


def test_a_job_that_cannot_start_does_not_hold_up_its_lock(world: World) -> None:
    """A delay, or another job that it waits for, gives others the turn."""
    world.submit("late", {"id": "one", "delay": "1h"}, lock="db")
    world.submit("gate", "one")
    world.submit("next", "one", lock="db", after=["gate"])
    world.cycle(2)
    world.submit("b", "one", lock="db")
    world.until(lambda: "b/one" in world.running())


def test_jobs_that_a_scoped_manager_does_not_handle_keep_their_locks(world: World) -> None:
    """`run` of one job waits for the lock of another."""
    world.submit("a", "one", "two", lock="db")
    world.do("a/one")
    assert world.asked("pause", "a") is None
    world.submit("b", "one", lock="db")
    world.stop()
    world.start(scope={"b"})
    world.cycle(3)
    assert "b/one" not in world.running()


@pytest.mark.parametrize(
    "pools", [{"ram": 0}, {"ram": -1}, {"ram": True}, {"ram": 1.5}, {"ram": 10**9}, {"no way": 1}, ["ram"]]
)
def test_wrong_weights_are_refused(world: World, pools: object) -> None:
    """With the place and what is accepted."""
    with pytest.raises(BadInputError, match=r"tasks\[0\].pools"):
        world.submit("a", {"id": "x", "pools": pools})


def test_the_status_of_many_jobs_knows_what_runs(world: World) -> None:
    """The summary, which parses no whole job, has the weights of running tasks and the lock."""
    world.submit(
        "a", {"id": "x"}, {"id": "y", "pools": {"ram": 5}}, {"id": "z"}, max_runners=2, lock="db",
        defaults={"pools": {"ram": 2}},
    )  # fmt: skip
    world.cycle(2)
    world.stop()
    summary = world.jobs.summary("a")
    assert summary.in_use == {"default": 2, "ram": 7}
    assert summary.lock == "db"

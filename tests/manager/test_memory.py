"""Runs that ran out of memory: how they differ from other ends, and that the next one gets more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from air_executor.core.price import Prices
from air_executor.manager.commit import judge_exit
from air_executor.model.sizes import MIB
from air_executor.model.state import Done
from air_executor.store.run_outcome import ExitRecord
from tests.manager.rig import World
from tests.manager.rig import world as a_world

GROWING = {"memory": "512Mi", "memory_growth": 2, "memory_max": "1536Mi"}


def left(code: int, *, kills: int = 0, timed_out: bool = False) -> ExitRecord:
    """Return what a run left behind."""
    return ExitRecord(
        code, timed_out, stopped=False, cpu=0.1, memory=500 * MIB, oom_kills=kills, message=None, ended=1.0
    )


@pytest.mark.parametrize(
    ("outcome", "stop", "platform", "reason"),
    [
        (left(137, kills=1), None, None, "oom"),
        (left(1, kills=2), None, None, "oom"),
        (left(143, kills=1), None, "oom", "oom"),
        (left(137), None, "oom", "oom"),
        (left(137), None, None, "error"),
        (left(0, kills=1), None, "oom", "ok"),
        (left(137, kills=1), "cancelled", "oom", "cancelled"),
        (left(143, kills=1, timed_out=True), None, "oom", "timeout"),
        (left(143), None, "evicted", "evicted"),
    ],
)
def test_what_counts_as_out_of_memory(outcome: ExitRecord, stop: str | None, platform: str | None, reason: str) -> None:
    """A kill that the cgroup counted or the platform reports, if the run failed and nobody stopped it."""
    assert judge_exit(outcome, stop, platform, 512 * MIB)[0] == reason


def test_a_timeout_tells_of_the_killed_child() -> None:
    """Waiting for a child that was killed is how many programs meet the end of their memory."""
    message = judge_exit(left(143, kills=1, timed_out=True), None, None, 512 * MIB)[1]
    assert message == "1 process was killed at the limit of 512Mi (peak 500Mi)"


def run_out(world: World, name: str, *, code: int = 137) -> int:
    """End the run of a task as one whose child was killed, and return the limit that its runner had."""
    world.until(lambda: name in world.running())
    launch = world.launch(name)
    record = {"exit_code": code, "oom_kills": 1, "memory_peak": 400 * MIB}
    Path(launch.out_dir, "exit.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    world.platform.end(world.slot(name), code)
    world.cycle()
    return int(launch.options["resources"]["memory"])


def test_each_retry_gets_more(world: World) -> None:
    """The runner is asked for with the grown amount, the attempts keep it, and the message names the last one."""
    world.submit("j", {"id": "a", "retries": 2, "resources": GROWING})
    assert [run_out(world, "j/a", code=1) // MIB for _ in range(3)] == [512, 1024, 1536]
    task = world.task("j", "a")
    assert [(one.reason, one.exit_code, one.memory_limit) for one in task.attempts] == [
        ("oom", 1, 512 * MIB),
        ("oom", 1, 1024 * MIB),
        ("oom", 1, 1536 * MIB),
    ]
    assert isinstance(task.status, Done)
    assert task.status.message == "1 process was killed at the limit of 1.5Gi (peak 400Mi)"
    assert world.job("j").reason == "oom"


def test_a_platform_that_saw_the_kill(world: World) -> None:
    """Where the runner was killed with its task, the platform's reason counts, and the message names the limit."""
    world.submit("j", {"id": "a", "resources": GROWING})
    world.until(lambda: "j/a" in world.running())
    world.platform.end(world.slot("j/a"), 137, reason="oom", lingers=True)
    world.until(lambda: world.job("j").phase == "failed")
    status = world.task("j", "a").status
    assert isinstance(status, Done)
    assert (status.reason, status.message) == ("oom", "its runner was killed (limit 512Mi)")


def test_growth_survives_the_manager(world: World) -> None:
    """Neither a crash nor a clean stop forgets how far the memory has grown, or what the open run has."""
    world.submit("j", {"id": "a", "retries": 9, "resources": GROWING})
    run_out(world, "j/a")
    world.until(lambda: "j/a" in world.running())
    world.restart()
    assert run_out(world, "j/a") == 1024 * MIB
    world.until(lambda: "j/a" in world.running())
    world.stop()
    world.start()
    assert run_out(world, "j/a") == 1536 * MIB
    assert [one.memory_limit for one in world.task("j", "a").attempts] == [512 * MIB, 1024 * MIB, 1536 * MIB]


def test_each_run_is_charged_for_what_it_had(tmp_path: Path) -> None:
    """A price by memory follows the growth."""
    with a_world(tmp_path, prices={"fake": Prices(memory_hour=1.0)}) as world:
        world.submit("j", {"id": "a", "retries": 1, "resources": GROWING})
        run_out(world, "j/a")
        run_out(world, "j/a")
        assert [one.price for one in world.task("j", "a").attempts] == [{"memory": 0.5}, {"memory": 1.0}]

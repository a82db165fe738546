"""`AIR_OUTCOMES`: how other tasks ended, as input of a task; `AIR_JOB_PHASE`: how their job stands."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest

from air_executor.store import files
from tests.manager.rig import World

CLEAN: dict[str, Any] = {"id": "tidy", "when": "always"}


def outcomes(world: World, run: str) -> dict[str, Any]:
    """Return what a run reads."""
    launch = world.launch(run)
    path = launch.environment(launch.out_dir, "")["AIR_OUTCOMES"]
    found: dict[str, Any] = json.loads(Path(path).read_bytes())
    return found


def ended(phase: str, reason: str, exit_code: int | None = None, result: Any = None) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the outcome of one task."""
    return {"phase": phase, "reason": reason, "exit_code": exit_code, "result": result}


def start(world: World, run: str) -> str | None:
    """Wait for the start of a run; return the phase of its job that it is told."""
    world.until(lambda: run in world.running())
    return world.launch(run).env.get("AIR_JOB_PHASE")


def test_every_end_is_there(world: World) -> None:
    """Of tasks that succeeded, failed, were skipped or cancelled; not of those that run or wait."""
    tasks = [
        {"id": "good"},
        {"id": "bad"},
        {"id": "none", "skip_on": [78]},
        {"id": "needs", "after": ["bad"]},
        {"id": "late", "delay": 3600},
        {"id": "open"},
    ]
    world.submit("j", *tasks, {**CLEAN, "after": ["needs", "good", "none"]}, on_failure="continue", max_runners=9)
    world.do("j/good", result={"n": 1})
    world.do("j/bad", code=3)
    assert world.asked("cancel", "j", "late") is None
    world.do("j/none", code=78)
    assert start(world, "j/tidy") == "failed"
    assert outcomes(world, "j/tidy") == {
        "good": ended("succeeded", "ok", 0, {"n": 1}),
        "bad": ended("failed", "error", 3),
        "needs": ended("skipped", "upstream"),
        "late": ended("cancelled", "cancelled"),
        "none": ended("skipped", "skip_on", 78),
    }
    path = Path(world.launch("j/tidy").out_dir, "outcomes.json")
    world.do("j/tidy")
    assert not path.exists()


def test_a_job_that_was_read_again_says_the_same(world: World) -> None:
    """Also of a task that runs again: it is not there itself, nor what it queued before."""
    world.submit("j", "a", "b", {**CLEAN, "after": ["b"]}, on_failure="continue")
    world.do("j/a", queue=[{"id": "child", "command": "x"}])
    world.do("j/b", code=3)
    world.restart()
    start(world, "j/tidy")
    found = outcomes(world, "j/tidy")
    assert found == {"a": ended("succeeded", "ok", 0), "b": ended("failed", "error", 3)}
    world.do("j/tidy", "j/child")
    assert world.asked("rerun", "j", "a") is None
    start(world, "j/a")
    assert set(outcomes(world, "j/a")) == {"b", "tidy"}


@pytest.mark.parametrize(
    ("tasks", "codes", "phase"),
    [
        (["a"], {"a": 0}, "succeeded"),
        (["a"], {"a": 1}, "failed"),
        ([{"id": "a", "allow_failure": True}], {"a": 1}, "succeeded"),
        ([{"id": "a", "skip_on": [1]}], {"a": 1}, "succeeded"),
        (["a", "b"], {"a": 0}, "running"),
    ],
)
def test_the_phase_of_the_job(world: World, tasks: list[Any], codes: dict[str, int], phase: str) -> None:
    """What the job would be if nothing else failed."""
    world.submit("j", *tasks, {**CLEAN, "after": ["a"]}, max_runners=2)
    for name, code in codes.items():
        world.do(f"j/{name}", code=code)
    assert start(world, "j/tidy") == phase


def test_the_phase_of_a_cancelled_job(world: World) -> None:
    """Only clean-up tasks and what they queue have one."""
    world.submit("j", "a", CLEAN)
    assert start(world, "j/a") is None
    assert world.asked("cancel", "j") is None
    assert start(world, "j/tidy") == "cancelled"
    world.exit("j/tidy", queue=[{"id": "more", "command": "x"}])
    assert start(world, "j/more") == "cancelled"


def test_no_task_can_set_it_itself(world: World) -> None:
    """Both are Air-Executor's own names."""
    for name in ("AIR_OUTCOMES", "AIR_JOB_PHASE"):
        with pytest.raises(Exception, match="is set by Air-Executor"):
            world.submit("j", {"id": "a", "env": {name: "x"}})


def test_a_long_sequence_writes_each_outcome_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although each task reads all of them: none writes a copy of what the one before it has read."""
    sizes: list[int] = []
    whole = files.write_all

    def counted(fd: int, data: bytes) -> None:
        if "/outcomes" in os.readlink(f"/proc/self/fd/{fd}"):
            sizes.append(len(data))
        whole(fd, data)

    monkeypatch.setattr(files, "write_all", counted)
    count = 300
    world.submit("j", *[f"a{number}" for number in range(count)])
    for number in range(count):
        world.until(lambda number=number: f"j/a{number}" in world.running())  # type: ignore[misc]
        assert len(outcomes(world, f"j/a{number}")) == number
        world.do(f"j/a{number}")
    assert 0 < sum(sizes) < 200_000, "a copy each would be 3.5 million bytes"
    gc.collect()
    assert not [name for name in os.listdir(world.manager.state.staging) if name.startswith("outcomes-")]

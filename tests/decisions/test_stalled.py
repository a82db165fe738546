"""`stall_timeout`: runs that write nothing are stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from air_executor.core.explanation import ExplainContext, explain_task
from air_executor.core.outcome import outcome_text
from air_executor.model.state import Done
from tests.manager.rig import World
from tests.manager.test_features import outcome, reasons

STALLS: dict[str, Any] = {"id": "a", "stall_timeout": "60s", "grace": 1}


def write(world: World, name: str, text: str = "x") -> None:
    """Let the open run append to one of its files."""
    with Path(world.launch("j/a").out_dir, name).open("a", encoding="utf-8") as file:
        file.write(text)


def look(world: World) -> None:
    """Let the manager poll."""
    world.clock.pass_time(1)
    world.cycle()


def wait(world: World, seconds: float) -> None:
    """Let time pass, with polls on the way."""
    for _ in range(4):
        world.clock.pass_time(seconds / 4)
        world.cycle()
    world.cycle(3)


def started(world: World, **fields: Any) -> None:  # noqa: ANN401 - fields of a task
    """Start a task that may stall."""
    world.submit("j", STALLS | fields)
    world.until(lambda: "j/a" in world.running(), step=0)
    look(world)


def test_a_silent_run_is_stopped(world: World) -> None:
    """Its reason says so, and so do its message and `explain`."""
    started(world)
    wait(world, 58)
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    assert "; it is stopped after 1m without output" in explain_task(job, job.tasks["a"], context)
    wait(world, 3)
    assert outcome(world, "j") == ("failed", "stalled")
    status = world.task("j", "a").status
    assert isinstance(status, Done)
    assert outcome_text(status) == "stalled: no output for 1m"


@pytest.mark.parametrize("name", ["output.log", "queue.jsonl"])
def test_output_and_queued_lines_are_signs_of_life(world: World, name: str) -> None:
    """Each starts the time again."""
    started(world)
    for _ in range(5):
        wait(world, 50)
        write(world, name)
        look(world)
    assert "j/a" in world.running()
    wait(world, 62)
    assert reasons(world, "j") == {"a": "stalled"}


def test_it_is_retried_as_after_a_timeout(world: World) -> None:
    """And what it queued is dropped."""
    started(world, retries=1)
    write(world, "queue.jsonl", '{"command": "x"}\n')
    look(world)
    wait(world, 62)
    world.until(lambda: world.task("j", "a").runs == 2, step=0)
    assert world.task("j", "a").attempts[0].reason == "stalled"
    world.do("j/a")
    assert outcome(world, "j") == ("succeeded", "ok")
    assert len(world.job("j").tasks) == 1


def test_a_clock_that_is_set_stops_nothing(world: World) -> None:
    """Only time that passed counts."""
    started(world)
    world.clock.set_wall(+3600)
    wait(world, 40)
    world.clock.set_wall(-7200)
    world.cycle()
    assert "j/a" in world.running()
    wait(world, 21)
    assert reasons(world, "j") == {"a": "stalled"}


def test_what_has_not_begun_does_not_stall(world: World) -> None:
    """Its runner may wait for an image or a node."""
    started(world)
    Path(world.launch("j/a").out_dir, "claim").unlink()
    wait(world, 600)
    assert "j/a" in world.running()
    write(world, "claim", "")
    look(world)
    wait(world, 50)
    assert "j/a" in world.running()
    wait(world, 12)
    assert reasons(world, "j") == {"a": "stalled"}


def test_a_new_manager_counts_anew(world: World) -> None:
    """It does not know what the run wrote before."""
    started(world)
    wait(world, 50)
    world.restart()
    look(world)
    wait(world, 50)
    assert "j/a" in world.running()
    wait(world, 12)
    assert reasons(world, "j") == {"a": "stalled"}


def test_the_decision_survives_a_crash(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journaled before the runner is stopped."""
    started(world)
    world.delay_checkpoints(monkeypatch)
    monkeypatch.setattr(type(world.manager.backend), "remove", lambda *_: None)
    wait(world, 62)
    monkeypatch.undo()
    world.restart()
    world.until(lambda: world.job("j").ended)
    assert reasons(world, "j") == {"a": "stalled"}


def test_success_that_comes_too_late_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As over any stop."""
    started(world)
    with monkeypatch.context() as patch:
        patch.setattr(type(world.manager.backend), "remove", lambda *_: None)
        wait(world, 62)
    run = world.task("j", "a").run
    assert run is not None
    assert run.stop == "stalled"
    world.exit("j/a")
    world.cycle()
    assert outcome(world, "j") == ("succeeded", "ok")


def test_hostile_files(world: World, tmp_path: Path) -> None:
    """A link to a file that somebody else writes to is no sign of life."""
    started(world)
    other = tmp_path / "other"
    other.write_text("x")
    Path(world.launch("j/a").out_dir, "output.log").symlink_to(other)
    look(world)
    for _ in range(4):
        wait(world, 16)
        other.write_text(other.read_text() + "x")
    assert reasons(world, "j") == {"a": "stalled"}

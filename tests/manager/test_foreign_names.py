"""Names that a task may make in the state directory: none leaves the manager, or another job, without room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from air_executor.core import references
from air_executor.core.submission import parse_job
from air_executor.errors import BadInputError
from air_executor.model.problems import MOST_SHOWN
from air_executor.store import journal_files
from tests.manager.rig import World


@pytest.mark.parametrize("epoch", [journal_files.MAX_EPOCH, journal_files.LEAP + 10])
def test_a_journal_of_an_epoch_that_nobody_reached(world: World, epoch: int) -> None:
    """The next manager's own journal counts after a crash: nothing runs twice."""
    world.submit("j", "a", "b", "c")
    world.do("j/a")
    world.stop()
    Path(world.layout.journal, f"{epoch}-0.jsonl").touch()
    world.start()
    assert world.manager.epoch < journal_files.LEAP
    world.do("j/b")
    world.restart()
    world.do("j/c")
    assert world.job("j").phase == "succeeded"
    assert [launch.task for launch in world.begun.values()] == ["a", "b", "c"]


@pytest.mark.parametrize("folder", ["runs", "runs/.superseded/x"])
def test_a_run_directory_with_the_last_number(world: World, folder: str) -> None:
    """The next runs have numbers that can be read back."""
    world.submit("j", "a", "b", "c")
    world.do("j/a")
    os.makedirs(f"{world.layout.job('j')}/{folder}/999999999-x")
    world.restart()
    world.do("j/b")
    world.restart()
    world.do("j/c")
    assert (world.job("j").phase, world.job("j").seq) == ("succeeded", 3)
    assert world.problems() == []


def test_something_else_in_the_place_of_the_worktrees(world: World) -> None:
    """It is said, and the manager starts."""
    world.stop()
    os.symlink("worktrees", world.layout.worktrees)
    world.start()
    assert any("worktrees" in problem for problem in world.problems())
    world.submit("j", "a")
    world.do("j/a")
    assert world.job("j").phase == "succeeded"


def test_nearest_names_are_looked_for_as_long_as_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of thousands of mistakes takes no time that grows with their square."""
    asked: list[str] = []

    def nearest(name: str, _: object) -> None:
        asked.append(name)

    monkeypatch.setattr(references, "nearest", nearest)
    condition = {"result": "typo.x", "eq": 1}
    tasks: list[dict[str, object]] = [{"id": f"t{number}", "command": "x"} for number in range(100)]
    tasks += [{"id": f"c{number}", "command": "x", "when": "always", "only_if": condition} for number in range(100)]
    with pytest.raises(BadInputError, match="and 80 more"):
        parse_job({"id": "j", "tasks": tasks})
    assert len(asked) == MOST_SHOWN

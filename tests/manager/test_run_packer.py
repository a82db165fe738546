"""Ended runs are packed once a checkpoint of their own job holds the outcome, after a death of the manager, too."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from air_executor.store.run_dirs import RunDirs
from tests.manager.rig import World


@pytest.fixture
def slow(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A manager that writes no checkpoints of jobs that have not ended, and has committed a run with four files."""
    world.delay_checkpoints(monkeypatch)
    world.submit("j", "a", {"id": "b", "command": "x", "after": ["a"]}, uid="1" * 24)
    world.until(lambda: "j/a" in world.running())
    Path(world.layout.run("j", 1, "a"), "output.log").write_text("", encoding="utf-8")
    world.do("j/a", queue=[{"id": "c", "command": "x"}], result=7)
    assert world.task("j", "a").phase == "succeeded"
    return world


def left(world: World) -> list[str]:
    """Return the names in the directory of the first run."""
    return sorted(os.listdir(world.layout.run("j", 1, "a")))


def test_a_job_of_that_name_again(slow: World) -> None:
    """Of a job that is submitted again after its directory was removed, an open run stays as it is."""
    shutil.rmtree(slow.layout.job("j"))
    slow.submit("j", "a", "b", uid="2" * 24)
    slow.until(lambda: slow.job("j").uid == "2" * 24 and "j/a" in slow.running())
    run = Path(slow.layout.run("j", 1, "a"))
    for name in ("output.log", "exit.json", "queue.jsonl", "result.json"):
        (run / name).write_text("", encoding="utf-8")
    before = left(slow)
    slow.manager.checkpointer.save_all()
    assert left(slow) == before


def test_a_manager_is_killed_before_the_checkpoint(slow: World) -> None:
    """The next one packs what the journal has brought into its checkpoints, and removes the run's inputs."""
    assert "result.json" in left(slow)
    Path(slow.layout.run("j", 1, "a"), "script").write_text("x", encoding="utf-8")
    slow.restart()
    assert left(slow) == ["claim", "output.log", "queue.jsonl"]
    assert slow.task("j", "a").result == 7


def test_a_manager_is_killed_between_the_checkpoint_and_the_packing(
    slow: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint holds the outcome; the journal still names the run."""
    with monkeypatch.context() as patch:
        patch.setattr(slow.manager.run_dirs, "pack", lambda *_: None)
        slow.manager.checkpointer.save_all()
    assert "result.json" in left(slow)
    slow.restart()
    assert left(slow) == ["claim", "output.log", "queue.jsonl"]
    assert slow.task("j", "a").result == 7


def test_the_next_manager_is_killed_before_it_packs(slow: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journals that name the run go after that, so that a third manager packs it."""
    with monkeypatch.context() as patch:
        patch.setattr(slow.manager.run_dirs, "pack", lambda *_: None)
        slow.manager.checkpointer.save_all()
    slow.crash()
    with monkeypatch.context() as patch:
        patch.setattr(RunDirs, "pack", killed)
        with pytest.raises(KeyboardInterrupt):
            slow.start()
    slow.start()
    assert left(slow) == ["claim", "output.log", "queue.jsonl"]


def killed(*_: object) -> None:
    """End whatever calls this, as a kill would."""
    raise KeyboardInterrupt

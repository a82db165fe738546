"""A `state.json` that a merge or an editor has changed while no manager ran costs at most its own job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from air_executor.model.types import MAX_AMOUNT, MAX_COUNT, MAX_LAST_SEQ, MAX_MONEY
from tests.manager.rig import World


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["spec"].update(deadline="1h"),
        lambda raw: raw["spec"].update(priority="high"),
        lambda raw: raw["spec"].update(max_runners="two"),
        lambda raw: raw["usage"].update(work_seconds="some"),
        lambda raw: raw["usage"].update(work_seconds=1e15),
        lambda raw: raw.update(seq=999_999_999),
        lambda raw: raw.update(version=2**53),
        lambda raw: raw["tasks"][0].update(runs=2**53),
        lambda raw: raw["tasks"][0].update(env=["A=b"]),
        lambda raw: raw["tasks"][0].update(id="../x"),
        lambda raw: raw["tasks"][0].pop("command"),
    ],
)
def test_a_state_that_nobody_can_work_with_is_quarantined(world: World, change: Callable[[Any], None]) -> None:
    """It is kept as it is under another name and reported, and every other job goes on."""
    world.submit("edited", "a")
    world.submit("other", "a", "b")
    world.do("other/a")
    world.stop()
    path = Path(world.layout.state("edited"))
    raw = json.loads(path.read_text(encoding="utf-8"))
    change(raw)
    path.write_text(json.dumps(raw), encoding="utf-8")
    world.start()
    assert json.loads(Path(f"{path}.corrupt").read_text(encoding="utf-8")) == raw
    assert [problem for problem in world.problems() if "edited/state.json: not a readable state file" in problem]
    world.do("other/b")
    world.until(lambda: world.job("other").phase == "succeeded")


def test_a_state_that_was_edited_well_is_obeyed(world: World) -> None:
    """Another command and another limit, written by hand as the manager would: that is what runs."""
    world.submit("j", "a", "b")
    world.stop()
    path = Path(world.layout.state("j"))
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw["spec"]["max_runners"] = 2
    raw["tasks"][1]["command"] = ["echo", "edited"]
    path.write_text(json.dumps(raw), encoding="utf-8")
    world.start()
    world.until(lambda: len(world.running()) == 2)
    assert set(world.running()) == {"j/a", "j/b"}
    assert world.launch("j/b").argv == ("echo", "edited")


def test_a_state_with_very_high_numbers_has_room(world: World) -> None:
    """Its job runs on, and what is written of it can be read again, from the journal of a killed manager, too."""
    world.submit("j", "a", "b", "c")
    world.stop()
    path = Path(world.layout.state("j"))
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw.update(seq=MAX_LAST_SEQ - 10, version=MAX_COUNT // 2 - 100)
    raw["usage"].update(runs=MAX_COUNT // 2 - 10, start_seconds=MAX_AMOUNT / 3, cost=MAX_MONEY / 3)
    for task in raw["tasks"]:
        task.update(runs=MAX_COUNT // 2 - 10, again=MAX_COUNT // 2 - 10)
    path.write_text(json.dumps(raw), encoding="utf-8")
    world.start()
    world.do("j/a")
    world.restart()
    world.do("j/b")
    world.stop()
    assert json.loads(path.read_text(encoding="utf-8"))["seq"] == MAX_LAST_SEQ - 7
    world.start()
    assert world.problems() == []


def test_an_ended_state_with_a_bad_task_is_found_once_it_is_needed(world: World) -> None:
    """A start reads no more than its head. Asked for a retry, the manager reports it, and keeps it as it is."""
    world.submit("done", "a", "b")
    world.submit("other", "a")
    world.do("done/a")
    world.do("done/b", code=1)
    world.stop()
    path = Path(world.layout.state("done"))
    edited = path.read_bytes().replace(b"run b", b"run \xff")
    path.write_bytes(edited)
    world.start()
    assert world.manager.state.index.ended["done"].phase == "failed"
    assert "not a readable state file" in str(world.asked("retry", "done"))
    assert Path(f"{path}.corrupt").read_bytes() == edited
    assert [problem for problem in world.problems() if "job done: " in problem]
    assert "cannot be changed" in str(world.asked("retry", "done"))
    world.do("other/a")
    assert world.job("other").phase == "succeeded"


def test_a_parent_with_a_bad_task_keeps_its_children_pending(world: World) -> None:
    """Nobody knows whether its run was committed: its child job neither starts nor goes, and the manager starts."""
    world.submit("parent", "a")
    world.submit("child", "x")
    world.do("parent/a", code=1)
    world.stop()
    parent, child = Path(world.layout.state("parent")), Path(world.layout.state("child"))
    raw = json.loads(child.read_text(encoding="utf-8"))
    raw |= {"phase": "pending", "submitted_by": f"{world.job('parent').uid}-1"}
    child.write_text(json.dumps(raw), encoding="utf-8")
    whole = parent.read_bytes()
    parent.write_bytes(whole.replace(b"run a", b"run \xff"))
    world.start()
    world.cycle(3)
    assert world.job("child").phase == "pending"
    world.stop()
    parent.write_bytes(whole)
    world.start()
    assert not child.exists(), "its run failed"

"""A `state.json` that a merge or an editor has changed while no manager ran costs at most its own job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.manager.rig import World


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["spec"].update(deadline="1h"),
        lambda raw: raw["spec"].update(priority="high"),
        lambda raw: raw["spec"].update(max_runners="two"),
        lambda raw: raw["usage"].update(work_seconds="some"),
        lambda raw: raw["tasks"][0].update(env=["A=b"]),
        lambda raw: raw["tasks"][0].update(id="../x"),
        lambda raw: raw["tasks"][0].pop("command"),
    ],
)
def test_a_state_that_nobody_can_work_with_is_set_aside(world: World, change: Callable[[Any], None]) -> None:
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
    assert [
        problem
        for problem in world.manager.status_writer.problems
        if "edited/state.json: not a readable state file" in problem
    ]
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

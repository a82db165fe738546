"""A runner that was stopped while no manager looked: where platforms evict, that is the platform's fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.manager.rig import World, world


def drain(made: World, *, evicts: bool, code: int) -> None:
    """Let the manager die, then the task as one does that gets TERM, and start a manager of such a platform."""
    made.submit("j", "a")
    made.cycle()
    made.crash()
    launch = made.exit("j/a", code)
    left = {"exit_code": code, "signal": 15, "timed_out": False, "stopped": True}
    Path(launch.out_dir, "exit.json").write_text(json.dumps(left) + "\n", encoding="utf-8")
    made.start().backend.evicts = evicts


def test_drained_on_a_cluster(quick_path: Path) -> None:
    """It is run again on the platform's account, though the task has no retries."""
    with world(quick_path) as made:
        drain(made, evicts=True, code=143)
        made.do("j/a")
        task = made.task("j", "a")
        assert (task.phase, task.runs, task.faults, task.charged) == ("succeeded", 2, 1, 0)


def test_an_evicted_run_keeps_who_evicted_it(quick_path: Path) -> None:
    """The runner wrote that it was stopped; where, and by whom, only the platform knows."""
    with world(quick_path) as made:
        made.manager.backend.evicts = True
        made.platform.keeps_names = True
        made.submit("j", "a")
        made.until(lambda: "j/a" in made.running())
        launch, slot = made.launch("j/a"), made.slot("j/a")
        left = {"exit_code": 143, "signal": 15, "timed_out": False, "stopped": True}
        Path(launch.out_dir, "exit.json").write_text(json.dumps(left) + "\n", encoding="utf-8")
        made.platform.end(slot, 143, reason="evicted")
        runner = made.platform.runners[slot]
        runner.status = runner.status._replace(message="pod air-j-x on node n-1 was evicted (Drained)")
        made.until(lambda: made.task("j", "a").attempts != [])
        (attempt,) = made.task("j", "a").attempts
        assert (attempt.reason, attempt.message) == ("evicted", "pod air-j-x on node n-1 was evicted (Drained)")


@pytest.mark.parametrize(("evicts", "code", "phase"), [(False, 143, "failed"), (True, 0, "succeeded")])
def test_told_to_stop_otherwise(quick_path: Path, evicts: bool, code: int, phase: str) -> None:  # noqa: FBT001 - a case
    """On one's own machine somebody killed it, which is an error; and who ends well has ended well."""
    with world(quick_path) as made:
        drain(made, evicts=evicts, code=code)
        made.until(lambda: made.job("j").phase != "running")
        assert (made.job("j").phase, made.task("j", "a").runs) == (phase, 1)

"""Joined child jobs: the parent waits for their end, has their results, and passes on cancels and pauses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.core.short_reason import ShortReasons
from air_executor.model.state import Done
from air_executor.store.retention import Retention
from air_executor.web.views import outcome_of
from tests.decisions.test_pools import explained
from tests.manager.rig import World
from tests.manager.test_features import outcome


def child(*tasks: Any, name: str = "kid", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a line that joins a child job."""
    named = [{"id": t, "command": "do"} if isinstance(t, str) else t for t in tasks]
    return {"job": {"id": name, "tasks": named, **fields}, "join": True}


def begin(world: World, *lines: dict[str, Any], **fields: Any) -> None:  # noqa: ANN401 - JSON
    """Run the first task of a job `j`, which queues these lines; its second one comes after it."""
    world.submit("j", "a", {"id": "b", "after": ["a"]}, **fields)
    world.do("j/a", queue=lines)


def inputs_of(world: World, name: str) -> Any:  # noqa: ANN401 - JSON
    """Return what a running task reads from `$AIR_INPUTS`."""
    world.until(lambda: name in world.running())
    return json.loads(Path(world.launch(name).out_dir, "inputs.json").read_text(encoding="utf-8"))


def test_after_waits_for_the_child_and_has_its_results(world: World) -> None:
    """Under the child's id, by task; also while the defaults of the job say otherwise."""
    begin(world, child("x", "y"), defaults={"command": "do", "retries": 3, "timeout": 60, "pools": {"ram": 1}})
    world.do("kid/x", result={"n": 1})
    world.cycle(3)
    assert "j/b" not in world.running()
    assert explained(world, "j", "b") == "task b is waiting for a and the tasks it queued (1 unfinished: kid)"
    assert explained(world, "j", "kid") == "task kid is waiting for the end of job kid (running)"
    job, context = world.job("j"), ExplainContext(world.clock.wall(), running=2, max_runners=2)
    assert ShortReasons(job, context).of_job() == "kid waiting for job kid"
    assert outcome_of(job.tasks["kid"], ShortReasons(job, context)) == "waiting for job kid"
    world.restart()
    world.do("kid/y")
    assert inputs_of(world, "j/b") == {"kid": {"x": {"n": 1}}}
    world.do("j/b")
    assert outcome(world, "j") == ("succeeded", "ok")
    assert world.job("kid").joined_by == "j"


def test_a_failed_child_fails_its_parent(world: World) -> None:
    """With its reason; the retry of the child, then of the parent, goes on from there."""
    begin(world, child("x"))
    world.do("kid/x", code=1)
    world.cycle(2)
    assert outcome(world, "j") == ("failed", "error")
    assert world.phases("j") == {"a": "succeeded", "kid": "failed", "b": "skipped"}
    status = world.task("j", "kid").status
    assert isinstance(status, Done)
    assert status.message == "job kid failed"
    assert world.asked("retry", "kid") is None
    assert world.asked("retry", "j") is None
    world.cycle(2)
    assert world.job("j").phase == "running"
    world.do("kid/x", "j/b")
    assert outcome(world, "j") == ("succeeded", "ok")


def test_a_failure_beside_it_lets_the_child_end(world: World) -> None:
    """As it lets running tasks end; then the job has failed."""
    world.submit("j", "a", "c", max_runners=2)
    world.do("j/a", queue=[child("x")])
    world.do("j/c", code=1)
    world.cycle(2)
    assert world.job("j").phase == "running"
    world.do("kid/x")
    world.cycle(2)
    assert world.phases("j") == {"a": "succeeded", "c": "failed", "kid": "succeeded"}
    assert outcome(world, "j") == ("failed", "error")


def test_cancel_pause_and_resume_reach_the_child(world: World) -> None:
    """And its own children; a cancelled child leaves nothing behind."""
    begin(world, child("x"))
    world.do("kid/x", queue=[child("z", name="grandkid")])
    world.cycle(2)
    assert world.asked("pause", "j") is None
    assert [world.job(name).phase for name in ("j", "kid", "grandkid")] == ["paused"] * 3
    assert world.asked("resume", "j") is None
    assert [world.job(name).phase for name in ("j", "kid", "grandkid")] == ["running"] * 3
    assert world.asked("cancel", "j") is None
    world.until(lambda: world.running() == {})
    world.cycle(3)
    assert [outcome(world, name)[0] for name in ("j", "kid", "grandkid")] == ["cancelled"] * 3
    assert world.manager.state.index.parents == {}


def test_a_passed_deadline_reaches_the_child(world: World) -> None:
    """The child is cancelled, the parent ends with its own reason."""
    begin(world, child("x"), deadline="1m")
    world.until(lambda: "kid/x" in world.running())
    world.clock.pass_time(61)
    world.until(lambda: world.job("kid").ended)
    assert outcome(world, "j") == ("failed", "timeout")


def test_a_cancelled_or_missing_child(world: World) -> None:
    """Whoever cancels it: the parent fails, with the reason."""
    begin(world, child("x"), child("x", name="other"), on_failure="continue")
    world.cycle(2)
    assert world.asked("cancel", "kid") is None
    world.until(lambda: world.task("j", "kid").phase == "failed")
    assert world.task("j", "kid").message == "job kid cancelled"
    world.crash()
    world.jobs.remove("other")
    world.start()
    world.cycle(3)
    assert world.task("j", "other").message == "job other no longer exists"
    assert outcome(world, "j")[0] == "failed"


@pytest.mark.parametrize("early", [False, True])
def test_a_crash_between_the_childs_end_and_the_parents(world: World, *, early: bool) -> None:
    """The next manager finds the ended child, even in the archive."""
    begin(world, child("x"))
    world.until(lambda: "kid/x" in world.running())
    world.manager.state.children.ended = lambda child: None  # type: ignore[method-assign]
    world.do("kid/x", result=7)
    world.cycle()
    if early:
        world.stop()
        world.jobs.archive(world.jobs.load("kid"))
        world.start()
    else:
        world.restart()
    assert inputs_of(world, "j/b") == {"kid": {"x": 7}}


def test_pruning_spares_a_child_that_its_parent_needs(world: World) -> None:
    """As it spares a job in `after`."""
    begin(world, child("x"))
    world.until(lambda: "kid/x" in world.running())
    world.manager.state.children.ended = lambda child: None  # type: ignore[method-assign]
    world.do("kid/x")
    world.stop()
    pruned = list(
        Retention(world.layout, lambda *_: pytest.fail("was taken away")).prune(9e9, delete=False, dry_run=False)
    )
    assert [(one.id, one.reason) for one in pruned] == [("kid", "job j waits for it")]


def test_a_run_that_fails_joins_nothing(world: World) -> None:
    """Its child job goes, and no task stands for it."""
    world.submit("j", "a", "b")
    world.do("j/a", code=1, queue=[child("x")])
    world.cycle(3)
    assert world.phases("j") == {"a": "failed", "b": "skipped"}
    assert not world.jobs.exists("kid") if hasattr(world.jobs, "exists") else "kid" not in world.jobs.ids()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"join": True}, "join"),
        (child("x") | {"join": "yes"}, "join: must be true or false"),
        (child("x") | {"id": "y"}, "job: must be the only key"),
        (child("x", name="b"), "b"),
        ({"job": {"name": "kid", "tasks": [{"command": "do"}]}, "join": True}, "needs an id"),
        (child("x", lock="db"), "holds lock db"),
        (child({"id": "x", "approve": "To {{ params.P }}?"}, params={"P": 1}), "{{ params.… }} is replaced in job fi"),
        (child({"id": "x", "command": ["say", "{{ results.a.b }}"]}), "{{ results.… }} is replaced in job files only"),
        ({"id": "t", "command": "do", "joins": "0" * 24}, "joins"),
    ],
)
def test_wrong_lines_are_rejected(world: World, line: dict[str, Any], said: str) -> None:
    """The run fails, and says why."""
    begin(world, line, lock="db")
    world.cycle(2)
    task = world.task("j", "a")
    assert task.reason == "rejected"
    assert said in (task.message or "")
    assert set(world.jobs.ids()) == {"j"}


def test_too_large_results(world: World) -> None:
    """They fail the task that stands for the child, and say what to do."""
    begin(world, child(*(f"t{number}" for number in range(20)), max_runners=4))
    for number in range(20):
        world.do(f"kid/t{number}", result="x" * 16000)
    world.cycle(2)
    assert world.task("j", "kid").reason == "rejected"
    assert "hand over names of files" in (world.task("j", "kid").message or "")
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    assert "hand over names of files" in explain_task(job, job.tasks["kid"], context)
    assert explain_job(job, context).startswith("job j failed")


@pytest.mark.parametrize("join", [True, False])
def test_a_job_of_a_task_has_an_id(world: World, *, join: bool) -> None:
    """A run of a name would have another one each time its submission is repeated, and is refused in plain words."""
    world.submit("j", "a")
    job = {"job": {"name": "nightly", "tasks": [{"command": "x"}]}}
    world.do("j/a", queue=[{**job, "join": True} if join else job])
    assert "job.id: is missing; a job that a task submits needs an id, not a name" in (
        world.task("j", "a").message or ""
    )
    assert world.jobs.ids() == ["j"]

"""`rerun`: tasks that succeeded run again in their job. `run --retry`: the newest run goes on where it failed."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.client import Client
from air_executor.core.rerun import tasks_to_rerun
from air_executor.core.transitions import LiveJob
from air_executor.model.records import Request
from tests.cli.conftest import Outcome
from tests.manager.deaths import Death, Killed, effects
from tests.manager.rig import World
from tests.records import make_job, make_task

Air = Callable[..., Outcome]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A started manager over a platform in memory."""
    made = World(tmp_path / "project")
    made.start()
    return made


def rerun(world: World, task: str | None = None, **more: Any) -> str | None:  # noqa: ANN401 - fields of a request
    """Ask for a rerun in job j; return why it was refused."""
    name = world.inbox.post(Request("rerun", "j", task, **more), world.clock.wall())
    world.cycle()
    assert not world.inbox.waiting(name)
    why = world.inbox.refusal(name)
    return None if why is None else str(why)


def finish(world: World, is_over: Callable[[], bool]) -> None:
    """End whatever runs, until something is true."""
    for _ in range(60):
        world.cycle()
        for name in list(world.running()):
            world.exit(name)
        if is_over():
            return
        world.clock.pass_time(0.5)
    raise AssertionError("it did not come about")


def order(world: World) -> list[str]:
    """Return the tasks in the order in which their runs began."""
    return [launch.task for launch in world.begun.values()]


def test_one_task_runs_again_alone(world: World) -> None:
    """Its attempts are kept; nothing that depends on it runs again."""
    world.submit("j", "a", {"id": "b", "after": ["a"]})
    world.do("j/a", result=1)
    world.do("j/b")
    assert rerun(world, "a") is None
    world.do("j/a", result=2)
    assert (world.job("j").phase, order(world)) == ("succeeded", ["a", "b", "a"])
    task = world.task("j", "a")
    assert (task.runs, len(task.attempts), task.result) == (2, 2, 2)
    assert list(world.begun.values())[-1].env["AIR_ATTEMPT"] == "2"


def test_what_depends_on_it_runs_again_with_downstream(world: World) -> None:
    """Over any number of steps, in order, with the new results; what does not depend on it stays as it is."""
    world.submit(
        "j", "a", "x", {"id": "b", "after": ["a"], "command": ["b", "{{ results.a.n }}"]}, {"id": "c", "after": ["b"]}
    )
    world.do("j/a", result={"n": 1})
    world.do("j/x", "j/b", "j/c")
    assert rerun(world, "a", downstream=True) is None
    world.do("j/a", result={"n": 2})
    world.do("j/b", "j/c")
    assert order(world) == ["a", "x", "b", "c", "a", "b", "c"]
    assert [launch.argv[1] for launch in world.begun.values() if launch.task == "b"] == ["1", "2"]
    assert world.job("j").phase == "succeeded"


def test_what_it_queued_is_superseded(world: World) -> None:
    """Named tasks that it queues again keep their attempts, the others count no more; what waits for its tree waits."""
    world.submit("j", "find", {"id": "merge", "after": ["find"]})
    world.do("j/find", queue=[{"id": "one", "command": "x"}, {"id": "two", "command": "x"}])
    world.do("j/one", "j/two", "j/merge")
    assert rerun(world, "find", downstream=True) is None
    assert world.phases("j") == {"find": "running", "merge": "queued", "one": "skipped", "two": "skipped"}
    world.do("j/find", queue=[{"id": "two", "command": "y"}, {"id": "three", "command": "y"}])
    assert world.phases("j")["merge"] == "queued"
    world.do("j/two", "j/three", "j/merge")
    job = world.job("j")
    assert job.phase == "succeeded"
    assert (job.tasks["two"].runs, job.tasks["two"].command, job.tasks["two"].superseded) == (2, "y", False)
    assert (job.tasks["one"].runs, job.tasks["one"].superseded) == (1, True)
    assert rerun(world, "one") == "task one of job j was queued by a task that ran again since"


def test_a_list_is_made_again(world: World) -> None:
    """From the new result, with the same ids."""
    group = {"id": "load", "after": ["find"], "for_each": "{{ results.find }}", "command": ["x"]}
    world.submit("j", "find", group, {"id": "merge", "after": ["load"]}, max_tasks=5)
    world.do("j/find", result=["a", "b"])
    world.do("j/load-a", "j/load-b", "j/merge")
    assert rerun(world, "find", downstream=True) is None
    world.do("j/find", result=["b", "c"])
    world.do("j/load-b", "j/load-c", "j/merge")
    job = world.job("j")
    assert job.phase == "succeeded"
    assert {name: (task.runs, task.superseded) for name, task in job.tasks.items() if name.startswith("load-")} == {
        "load-a": (1, True),
        "load-b": (2, False),
        "load-c": (1, False),
    }


def test_a_group_runs_again(world: World) -> None:
    """By the name of its list, also where the list was known at submit."""
    each = {"id": "load", "for_each": ["a", "b"], "command": ["x"]}
    world.submit("j", each, {"id": "merge", "after": ["load"]}, "other")
    world.do("j/load-a", "j/load-b", "j/merge", "j/other")
    assert rerun(world, "load", downstream=True) is None
    world.do("j/load-a", "j/load-b", "j/merge")
    assert order(world) == ["load-a", "load-b", "merge", "other", "load-a", "load-b", "merge"]
    assert world.job("j").phase == "succeeded"


@given(st.integers(0, 2**32))
def test_what_is_downstream_is_what_waits(seed: int) -> None:
    """Compared with a simple enumeration, in jobs of any shape."""
    chance = random.Random(seed)
    job = make_job("j", "0" * 8)
    for number in range(chance.randint(1, 12)):
        before = [f"t{other}" for other in range(number)]
        parent = chance.choice(before) if before and chance.random() < 0.4 else None
        after = chance.sample(before, min(len(before), chance.choice([0, 0, 1, 2])))
        when = chance.choice(["success", "success", "success", "always"])
        task = make_task(f"t{number}", {"after": after, "when": when}, queued_by=parent)
        job.tasks[task.id] = task
    first = chance.choice(list(job.tasks))
    again, below = tasks_to_rerun(job, first, downstream=True)
    expected, under = {first} | {t.id for t in job.tasks.values() if t.when != "success" and not t.after}, set[str]()
    above = {task.id: set(job.ancestors(task)) for task in job.tasks.values()}
    for _ in range(20):
        under = {name for name in job.tasks if above[name] & expected}
        changed = expected | under
        trees = changed | {name for one in changed for name in above[one]}
        expected |= {t.id for t in job.tasks.values() if (set(t.after) - above[t.id]) & trees}
    assert {task.id for task in below} == under
    assert {task.id for task in again} == expected - under


def test_a_long_chain_takes_no_time() -> None:
    """What is downstream of a chain of 20,000 tasks is found in a moment."""
    job = make_job("j", "0" * 8)
    first = make_task("t0", {})
    job.tasks["t0"] = first
    for number in range(1, 20_000):
        job.tasks[f"t{number}"] = make_task(f"t{number}", {"after": [f"t{number - 1}"]})
    began = time.process_time()
    again, below = tasks_to_rerun(job, "t0", downstream=True)
    assert (len(again), below) == (20_000, [])
    assert time.process_time() - began < 2


def test_everything_runs_again(world: World) -> None:
    """Without a task; a failure of before counts no more."""
    world.submit("j", "a", "b", on_failure="continue")
    world.do("j/a", code=1)
    world.do("j/b")
    assert rerun(world) is None
    world.do("j/a", "j/b")
    assert (world.job("j").phase, order(world)) == ("succeeded", ["a", "b", "a", "b"])


def test_other_fields(world: World) -> None:
    """A value of a field, or one value within a field; the rest stays."""
    world.submit("j", {"id": "a", "env": {"A": "1"}, "resources": {"memory": "64Mi", "cpu": 2}, "timeout": 5})
    world.do("j/a")
    assert rerun(world, "a", fields={"timeout": "1m", "env.B": 2, "resources.memory": "128Mi"}) is None
    world.until(lambda: bool(world.running()))
    world.restart()
    launch = world.launch("j/a")
    assert (launch.timeout, launch.env["A"], launch.env["B"]) == (60, "1", "2")
    assert launch.options["resources"] == {"memory": 128 * 1024 * 1024, "cpu": 2}


@pytest.mark.parametrize(
    ("task", "more", "message"),
    [
        ("nosuch", {}, "job j has no task nosuch"),
        ("b", {}, "task b of job j is running; wait for its end, or cancel it"),
        ("c", {}, "task c of job j is queued already"),
        (None, {"downstream": True}, "name the task of job j that"),
        (None, {"fields": {"timeout": 1}}, "name the task of job j that"),
        ("a", {"fields": {"timeot": 1}}, "timeot: is no field that a rerun can set; did you mean timeout?"),
        ("a", {"fields": {"after": ["b"]}}, "after: is no field that a rerun can set"),
        ("a", {"fields": {"timeout": "soon"}}, "timeout: must be"),
        ("a", {"fields": {"timeout.x": 1}}, "timeout: "),
        ("a", {"fields": {"command": ""}}, "command: must not be empty"),
        ("a", {"fields": {"env.\0": ""}}, "env"),
    ],
)
def test_what_cannot_run_again_is_refused(world: World, task: str | None, more: dict[str, Any], message: str) -> None:
    """With the reason, and nothing has changed."""
    world.submit("j", "a", "b", {"id": "c", "after": ["b"]})
    world.do("j/a")
    world.until(lambda: bool(world.running()))
    version = world.job("j").version
    assert (rerun(world, task, **more) or "").startswith(message)
    assert world.job("j").version == version


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", effects())
def test_a_rerun_killed_anywhere_happens_once(world: World, point: str, *, after: bool) -> None:
    """At each effect between the request and the end of the job: the next manager goes on, and each task ran twice."""
    world.submit("j", "a", {"id": "b", "after": ["a"]})
    world.do("j/a", "j/b")
    world.inbox.post(Request("rerun", "j", "a", downstream=True), world.clock.wall())
    with contextlib.suppress(Killed), Death(point, after=after).threatens():
        finish(world, lambda: world.job("j").version > 8)
    world.restart()
    finish(world, lambda: world.job("j").ended and world.task("j", "a").runs > 1)
    assert world.phases("j") == {"a": "succeeded", "b": "succeeded"}
    assert [sum(one.reason == "ok" for one in world.task("j", name).attempts) for name in "ab"] == [2, 2]
    assert not world.overlaps


def test_a_rerun_is_the_same_when_it_is_replayed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the journal: the same job as in memory."""
    world.submit("j", "find", {"id": "merge", "after": ["find"]})
    world.delay_checkpoints(monkeypatch)
    world.do("j/find", queue=[{"id": "one", "command": "x"}])
    world.do("j/one", "j/merge")
    assert rerun(world, "find", downstream=True, fields={"env.A": "1"}) is None
    before = LiveJob(world.job("j")).state
    kept = {name: (task.phase, task.superseded, task.runs, dict(task.env)) for name, task in before.tasks.items()}
    world.restart()
    after = world.job("j")
    assert {n: (t.phase, t.superseded, t.runs, dict(t.env)) for n, t in after.tasks.items()} == kept


# The commands


def test_the_command_without_a_manager(air: Air, client: Client, project: Path) -> None:
    """The request waits; `run` carries it out."""
    assert air("run", "--quiet", "j", "--", "sh", "-c", "echo $AIR_ATTEMPT $X").code == 0
    asked = air("rerun", "j", "_1", "--set", "env.X=yes", "--json")
    assert (asked.code, json.loads(asked.out)["applied"]) == (0, False)
    assert "rerun" in air("status", "j").out
    assert air("run", "--quiet", "j").code == 0
    assert air("logs", "j", "_1").out == "2 yes\n"
    assert len(client.status("j").tasks["_1"].attempts) == 2
    assert "after 2 runs" in air("explain", "j", "_1").out
    assert air("rerun", "j", "--set", "x").code == 2
    assert air("rerun", "nosuch").code == 3


def test_run_retry_continues_the_newest_run(air: Air, client: Client, project: Path) -> None:
    """By name and by file, without values for parameters; what succeeded is not repeated."""
    (project / "n.yaml").write_text(
        "name: n\nparams: {DAY: {type: date}}\ntasks:\n"
        "  - {id: a, command: echo a >> log}\n  - {id: b, command: echo b >> log; test -e ok}\n"
    )
    assert air("run", "n.yaml", "-q", "-p", "DAY=2026-01-01").code == 1
    assert air("run", "n.yaml", "-q", "--retry").code == 1
    (project / "ok").touch()
    assert air("run", "n", "-q", "--retry").code == 0
    assert (project / "log").read_text().split() == ["a", "b", "b", "b"]
    assert [job.id for job in client.summaries() if not isinstance(job, tuple)] == ["n-1"]
    again = air("run", "n", "-q", "--retry")
    assert (again.code, again.err) == (
        0,
        "job n-1 has already ended (succeeded); to run it again, give its file or command\n",
    )
    assert (project / "log").read_text().split() == ["a", "b", "b", "b"]
    refused = air("run", "n.yaml", "--retry", "-p", "DAY=2026-01-02")
    assert (refused.code, "--retry: give a name or a file" in refused.err) == (2, True)
    assert air("run", "other", "--retry").code == 3

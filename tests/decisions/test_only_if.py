"""Conditions on results: tasks that run only if a value of an earlier task says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from air_executor.core.conditions import condition_text
from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.core.short_reason import ShortReasons
from air_executor.core.submission import parse_job
from air_executor.errors import BadInputError
from air_executor.model.job import Job, Task
from air_executor.model.problems import InvalidError, lines
from tests.manager.rig import World
from tests.manager.test_features import outcome, reasons

FOUND = {"count": 3, "region": "eu", "ready": True, "none": None, "names": ["a"], "deep": {"er": 0.5}}


def only(**condition: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a task with a condition on the result of `find`; `is_in` stands for `in`."""
    operators = {name.removeprefix("is_"): value for name, value in condition.items()}
    path = operators.pop("of", "count")
    return {"id": "load", "after": ["find"], "only_if": {"result": f"find.{path}" if path else "find", **operators}}


def message(world: World, task: str = "load") -> str | None:
    """Return the message of a task."""
    return world.task("j", task).message


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"gt": 2}, None),
        ({"gt": 3}, "find.count is 3, not > 3"),
        ({"gt": 2, "lt": 4}, None),
        ({"gt": 2, "lt": 3}, "find.count is 3, not < 3"),
        ({"eq": 3.0}, None),
        ({"eq": 4}, "find.count is 3, not = 4"),
        ({"ne": 3}, "find.count is 3, not != 3"),
        ({"is_in": [1, 3]}, None),
        ({"is_in": [1, 2]}, "find.count is 3, not in [1, 2]"),
        ({"of": "region", "is_in": ["eu", 7]}, None),
        ({"of": "region", "eq": "us"}, 'find.region is "eu", not = "us"'),
        ({"of": "ready", "eq": True}, None),
        ({"of": "ready", "is_in": [False]}, "find.ready is true, not in [false]"),
        ({"of": "deep.er", "gt": 0}, None),
        ({"of": "names", "exists": True}, None),
        ({"of": "", "exists": True}, None),
        ({"of": "nothing", "exists": False}, None),
        ({"of": "none", "exists": False}, None),
        ({"of": "none", "exists": True}, "find.none is null"),
        ({"exists": False}, "find.count exists: 3"),
        ({"exists": True, "gt": 3}, "find.count is 3, not > 3"),
        ({"of": "nothing", "exists": False, "gt": 2}, None),
        ({"of": "nothing", "exists": True, "gt": 2}, "find.nothing does not exist; did you mean find.none?"),
    ],
)
def test_a_condition_decides(world: World, condition: dict[str, Any], said: str | None) -> None:
    """Met, the task runs; not met, it is skipped with the value that was found, and the job succeeds without a run."""
    world.submit("j", "find", only(**condition))
    world.do("j/find", result=FOUND)
    if said is None:
        world.do("j/load")
    world.cycle()
    assert outcome(world, "j") == ("succeeded", "ok")
    assert reasons(world, "j")["load"] == ("ok" if said is None else "only_if")
    assert message(world) == said


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"eq": "3"}, "find.count must be text to be compared by eq, got 3"),
        ({"eq": True}, "find.count must be true or false to be compared by eq, got 3"),
        ({"of": "ready", "eq": 1}, "find.ready must be a number to be compared by eq, got true"),
        ({"of": "region", "gt": 0}, 'find.region must be a number to be compared by gt, got "eu"'),
        ({"of": "names", "is_in": ["a"]}, "find.names must be text to be compared by in"),
        ({"of": "region", "is_in": [1, 2]}, "find.region must be a number to be compared by in"),
        ({"of": "ready", "is_in": ["a", 1]}, "find.ready must be a number or text to be compared by in, got true"),
        ({"of": "cuont", "gt": 0}, "find.cuont does not exist; did you mean find.count?; add `exists: true`"),
        ({"of": "none", "gt": 0}, "find.none is null; add `exists: true`"),
        ({"of": "count.er", "gt": 0}, "find.count.er does not exist; add `exists: true`"),
        ({"of": "", "gt": 0}, "find must be a number to be compared by gt"),
    ],
)
def test_what_cannot_be_told_is_refused(world: World, condition: dict[str, Any], said: str) -> None:
    """Neither runs nor skips a task: a value of another kind, and one that does not exist, are its failure."""
    world.submit("j", "find", only(**condition))
    world.do("j/find", result=FOUND)
    assert outcome(world, "j") == ("failed", "rejected")
    assert f"only_if: {said}" in (message(world) or "")


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"exists": True}, "find.count exists"),
        ({"exists": False, "eq": 0}, "find.count does not exist and = 0"),
        ({"gt": 2, "lt": 4.5}, "find.count > 2 and < 4.5"),
        ({"ne": "a", "in": ["b", True]}, 'find.count != "a" and in ["b", true]'),
        ({"in": [1, 2, 3, 4, 5, 6]}, "find.count in [1, 2, 3, 4, 5, 6]"),
        ({"in": [1, 2, 3, 4, 5, 6, 7]}, "find.count in [1, 2, 3, 4, 5, 6, ...]"),
    ],
)
def test_conditions_in_words(condition: dict[str, Any], words: str) -> None:
    """As short as people would write them."""
    assert condition_text({"result": "find.count", **condition}) == words


def test_no_result_at_all(world: World) -> None:
    """A task that left none says so."""
    world.submit("j", "find", only(gt=0))
    world.do("j/find")
    assert "task find left no result" in (message(world) or "")


def test_what_needs_it(world: World) -> None:
    """It is skipped, too, and told why; clean-up runs, and a retry of the job leaves it."""
    tasks = [
        "find",
        only(gt=9),
        {"id": "use", "after": ["load"]},
        {"id": "tidy", "after": ["load"], "when": "always"},
        {"id": "mend", "after": ["load"], "when": "failure"},
    ]
    world.submit("j", *tasks)
    context = ExplainContext(world.clock.wall())
    world.cycle()
    job = world.job("j")
    waits = "task load is waiting for find (running); it runs only if find.count > 9"
    assert explain_task(job, job.tasks["load"], context) == waits
    world.do("j/find", result=FOUND)
    world.do("j/tidy")
    job = world.job("j")
    assert outcome(world, "j") == ("succeeded", "ok")
    assert reasons(world, "j") == {"find": "ok", "load": "only_if", "use": "upstream", "tidy": "ok", "mend": "ok"}
    why = "only_if: find.count is 3, not > 9"
    assert explain_task(job, job.tasks["load"], context) == f"task load was skipped: {why}"
    assert ShortReasons(job, context).of_task(job.tasks["load"]) == why
    assert explain_task(job, job.tasks["use"], context).startswith("task use was skipped: task load was skipped (its")
    assert explain_job(job, context).startswith("job j succeeded")
    assert world.asked("retry", "j") is not None or outcome(world, "j") == ("succeeded", "ok")


def test_a_clean_up_task_with_a_condition_on_what_failed(world: World) -> None:
    """A task that did not succeed has no result: `exists` decides what that means."""
    clean: dict[str, Any] = {"after": ["find"], "when": "always"}
    conditions: dict[str, Any] = {"a": {"exists": True, "gt": 0}, "b": {"exists": False}}
    tasks = [{"id": name, **clean, "only_if": {"result": "find.count", **one}} for name, one in conditions.items()]
    world.submit("j", "find", *tasks, on_failure="continue")
    world.do("j/find", code=1)
    world.do("j/b")
    assert reasons(world, "j") == {"find": "error", "a": "only_if", "b": "ok"}
    assert message(world, "a") == "find.count does not exist: its task did not succeed"


def test_a_refused_condition_stops_the_job_as_any_failure(world: World) -> None:
    """What is queued is skipped."""
    world.submit("j", "find", only(of="region", gt=0), {"id": "last", "delay": 60})
    world.do("j/find", result=FOUND)
    assert reasons(world, "j") == {"find": "ok", "load": "rejected", "last": "upstream"}


def test_a_question_with_a_condition(world: World) -> None:
    """Nobody is asked if it is not met."""
    world.submit("j", "find", {"id": "ask", "approve": "Go?", **{k: v for k, v in only(gt=9).items() if k != "id"}})
    world.do("j/find", result=FOUND)
    assert reasons(world, "j")["ask"] == "only_if"


def test_a_list_with_a_condition(world: World) -> None:
    """The list as a whole is skipped; where the condition is met, its tasks have none."""
    items = {"for_each": "{{ results.find.names }}", "command": ["x", "{{ item }}"]}
    world.submit("j", "find", {**only(gt=0), **items}, {**only(gt=9), **items, "id": "not"})
    world.do("j/find", result=FOUND)
    world.do("j/load-a")
    assert reasons(world, "j") == {"find": "ok", "load": "ok", "not": "only_if", "load-a": "ok"}


@pytest.mark.parametrize("crash", [True, False])
def test_a_restart_judges_the_same(world: World, monkeypatch: pytest.MonkeyPatch, *, crash: bool) -> None:
    """From the journal, or from the checkpoint alone."""
    world.submit("j", "find", only(gt=9), {"id": "other", "after": ["find"]})
    if crash:
        world.delay_checkpoints(monkeypatch)
    world.do("j/find", result=FOUND)
    if crash:
        world.crash()
    else:
        world.stop()
    world.start()
    assert reasons(world, "j") == {"find": "ok", "load": "only_if"}
    world.do("j/other")
    assert outcome(world, "j") == ("succeeded", "ok")


def test_a_rerun_judges_the_new_result(world: World) -> None:
    """With everything downstream."""
    world.submit("j", "find", only(gt=9))
    world.do("j/find", result=FOUND)
    assert world.asked("rerun", "j", "find", downstream=True) is None
    world.do("j/find", result={"count": 10})
    world.do("j/load")
    assert reasons(world, "j") == {"find": "ok", "load": "ok"}


def test_a_delay_does_not_keep_what_will_be_skipped(world: World) -> None:
    """It is judged when what it waits for has ended, not when it could start."""
    world.submit("j", "find", {**only(gt=9), "delay_after": "1h"})
    world.do("j/find", result=FOUND)
    assert world.job("j").ended


# Where it may be written


def test_a_queued_line(world: World) -> None:
    """A task that a run queued has conditions, too; one about a task that it does not wait for fails the run."""
    queued = [{"id": "find", "command": "x"}, {**only(gt=2), "command": "x"}]
    world.submit("j", "a", "b", on_failure="continue")
    world.do("j/a", queue=queued)
    world.do("j/b", queue=[{"command": "x", "only_if": {"result": "find.count", "gt": 2}}])
    world.do("j/find", result=FOUND)
    world.do("j/load")
    assert reasons(world, "j") == {"a": "ok", "b": "rejected", "find": "ok", "load": "ok"}
    assert message(world, "b") == (
        "queue.jsonl line 1: task _2-1: only_if.result: find.count is unknown; "
        "find must be in `after`, or a task there must wait for it"
    )


def test_parameters(world: World) -> None:
    """An operand may be a parameter; a result may not."""
    world.submit("j", "find", only(gt="{{ params.MIN }}"), params={"MIN": {"type": "integer", "default": 2}})
    assert world.job("j").tasks["load"].only_if == {"result": "find.count", "gt": 2}
    with pytest.raises(InvalidError) as error:
        world.submit("k", "find", only(gt="{{ results.find.count }}"))
    assert "is not known yet" in lines(error.value.problems)[0]


def test_python() -> None:
    """As any field."""
    tasks = [Task(id="a", command="x"), Task(command="y", after=["a"], only_if={"result": "a", "gt": 0})]
    assert parse_job(Job(id="j", tasks=tasks)).tasks[1].only_if == {"result": "a", "gt": 0}


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (3, "only_if: must be a mapping like {result: discover.count, gt: 0}, got 3"),
        ({"gt": 0}, "only_if.result: is missing"),
        ({"result": "find.n"}, "only_if: must have at least one of exists, eq, ne, gt, lt, in beside result"),
        ({"result": "find.n", "ge": 0}, "only_if.ge: is no part of a condition"),
        ({"result": "find.n", "gt": "0"}, 'only_if.gt: must be a number, got "0"'),
        ({"result": "find.n", "gt": True}, "only_if.gt: must be a number, got true"),
        ({"result": "find.n", "gt": float("nan")}, "only_if.gt: must be a number"),
        ({"result": "find.n", "lt": 10**30}, "only_if.lt: must be a number"),
        ({"result": "find.n", "eq": None}, "only_if.eq: must be text, a number, true or false, got nothing"),
        ({"result": "find.n", "eq": ["a"]}, "only_if.eq: must be text, a number"),
        ({"result": "find.n", "eq": "a\0"}, "only_if.eq: must be text"),
        ({"result": "find.n", "in": []}, "only_if.in: must be a list of 1 to 1000 values"),
        ({"result": "find.n", "in": [1, {}]}, "only_if.in[1]: must be text"),
        ({"result": "find.n", "exists": "yes"}, 'only_if.exists: must be true or false, got "yes"'),
        ({"result": "find n", "gt": 0}, "only_if.result: must be a task and keys of its result"),
        ({"result": "fnid.n", "gt": 0}, "only_if.result: fnid.n is unknown; did you mean find.n?"),
        ({"result": "other.n", "gt": 0}, "other.n is unknown; other must be in `after`"),
        ({"result": "load.n", "gt": 0}, "load.n is unknown; load must be in `after`"),
    ],
)
def test_wrong_conditions(world: World, condition: Any, said: str) -> None:  # noqa: ANN401 - JSON
    """The message says what is accepted."""
    with pytest.raises(BadInputError) as error:
        world.submit("j", "find", "other", {"id": "load", "after": ["find"], "only_if": condition})
    assert said in str(error.value)


def test_it_may_be_further_up(world: World) -> None:
    """A task that one in `after` waits for has ended by then, too; a list is no task."""
    between = {"id": "between", "after": ["find"]}
    world.submit("j", "find", between, {**only(gt=9), "after": ["between"]})
    world.do("j/find", result=FOUND)
    world.do("j/between")
    assert reasons(world, "j")["load"] == "only_if"
    with pytest.raises(BadInputError, match="find stands for several tasks"):
        world.submit("k", {"id": "find", "for_each": ["a", "b"]}, only(gt=9))


def test_long_chains_are_checked_in_bounded_time(world: World) -> None:
    """Each names the task before it, so nothing has to be looked for."""
    chain: list[dict[str, Any]] = [{"id": "t0", "command": "x"}]
    chain += [
        {"id": f"t{n}", "command": "x", "after": [f"t{n - 1}"], "only_if": {"result": f"t{n - 1}", "exists": True}}
        for n in range(1, 3000)
    ]
    assert len(json.dumps(chain)) < 1_000_000
    world.submit("j", *chain)
    assert len(world.job("j").tasks) == 3000

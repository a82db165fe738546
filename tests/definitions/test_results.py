"""Results of tasks in the fields of others, and lists of tasks that results make: resolved once, and exactly once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from air_executor.core.instantiation import instantiate
from air_executor.core.late_fields import resolve
from air_executor.core.submission import initial_state, read_job
from air_executor.core.templates import TooLargeError
from air_executor.core.transitions import LiveJob
from air_executor.model.problems import InvalidError, lines
from air_executor.model.state import Done, JobState
from air_executor.store.run_files import MAX_RESULT
from tests.manager.deaths import Death, Killed, effects
from tests.manager.rig import World
from tests.manager.rig import world as started

NOW = 1_769_860_800.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A started manager over a platform in memory."""
    made = World(tmp_path / "project")
    made.start()
    return made


def refused(*tasks: dict[str, Any], **fields: Any) -> list[str]:  # noqa: ANN401 - JSON
    """Return the problems of a job that is refused at submit."""
    with pytest.raises(InvalidError) as caught:
        read_job(instantiate({"id": "j", "tasks": list(tasks), **fields}, {}, NOW).raw)
    return lines(caught.value.problems)


def ended(world: World, job: str, task: str) -> tuple[str, str, str | None]:
    """Return phase, reason and message of a task that has ended."""
    status = world.task(job, task).status
    assert isinstance(status, Done)
    return status.phase, status.reason, status.message


# Fields


def test_a_result_in_each_kind_of_field(world: World) -> None:
    """As text within text; alone, as the value of its kind. Other names are replaced with it."""
    task = {
        "id": "load",
        "after": ["find"],
        "command": ["load", "--from={{ results.find.url }}", "{{ results.find.n }}", "{{ params.DAY }}", "{{ .Go }}"],
        "env": {"ALL": "{{ results.find }}"},
        "image": "loader:{{ results.find.tag }}",
        "timeout": "{{ results.find.n }}",
        "resources": {"memory": "{{ results.find.memory }}"},
    }
    world.submit("j", "find", task, params={"DAY": "monday"})
    world.do("j/find", result={"url": "http://x/{{ params.DAY }}", "n": 7, "tag": "v1", "memory": "64Mi"})
    world.until(lambda: "j/load" in world.running())
    launch = world.launch("j/load")
    assert launch.argv == ("load", "--from=http://x/{{ params.DAY }}", "7", "monday", "{{ .Go }}")
    assert launch.env["ALL"].startswith('{"url":"http://x/')
    assert (launch.options["image"], launch.timeout) == ("loader:v1", 7)
    assert launch.options["resources"]["memory"] == 64 * 1024 * 1024
    world.do("j/load")
    assert world.job("j").phase == "succeeded"


def test_a_value_is_no_name() -> None:
    """Neither a parameter nor a result is looked at for names."""
    task = {"id": "b", "after": ["a"], "command": ["{{ params.P }}", "{{ results.a.x }}"]}
    raw = {"name": "j", "tasks": [{"id": "a", "command": "x"}, task], "params": {"P": "x"}}
    job = state_of(raw, P="{{ results.a.x }}")
    job.tasks["a"].status = Done("succeeded", "ok", "", result={"x": "{{ params.P }}"})
    (made,) = resolve(job, job.tasks["b"], 1000)
    assert made.command == ["{{ results.a.x }}", "{{ params.P }}"]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"ur": 1}, "command[1]: {{ results.find.url }} is unknown; did you mean results.find.ur?"),
        ({"zz": 1}, "command[1]: {{ results.find.url }} is unknown; did you mean results.find.zz?"),
        ([1], "command[1]: {{ results.find.url }} is unknown"),
        (None, "command[1]: {{ results.find.url }} is unknown: task find left no result"),
        ({"url": None}, None),
        ({"url": [1]}, "command[1]: must be text, got [1]"),
        ({"url": "a\0b"}, "command[1]: must not contain NUL bytes"),
    ],
)
def test_a_result_that_is_missing_or_wrong_fails_the_task(world: World, result: object, message: str | None) -> None:
    """No runner is started for it."""
    world.submit("j", "find", {"id": "load", "after": ["find"], "command": ["load", "{{ results.find.url }}"]})
    world.do("j/find", result=result)
    world.until(lambda: world.job("j").ended)
    phase, reason, said = ended(world, "j", "load")
    assert (phase, reason) == ("failed", "rejected")
    assert message is None or (said or "").startswith(message)
    assert [launch.task for launch in world.begun.values()] == ["find"]
    assert (world.job("j").phase, world.job("j").reason) == ("failed", "rejected")


def test_what_it_becomes_survives_a_crash(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the journal alone; a retry of the platform has the same fields."""
    world.submit("j", "find", {"id": "load", "after": ["find"], "command": ["{{ results.find.x }}"]})
    world.delay_checkpoints(monkeypatch)
    world.do("j/find", result={"x": "one"})
    world.until(lambda: "j/load" in world.running())
    world.restart()
    assert world.task("j", "load").command == ["one"]
    world.platform.lose(world.slot("j/load"))
    world.cycle()
    world.until(lambda: "j/load" in world.running())
    assert world.launch("j/load").argv == ("one",)


def test_a_task_id_may_have_dots(world: World) -> None:
    """The longest id that fits is meant."""
    world.submit("j", "a", "a.b", {"id": "c", "after": ["a", "a.b"], "command": ["{{ results.a.b.x }}"]})
    world.do("j/a", result={"b": {"x": "wrong"}})
    world.do("j/a.b", result={"x": "right"})
    world.until(lambda: "j/c" in world.running())
    assert world.launch("j/c").argv == ("right",)


FIND = {"id": "discover", "command": "x"}
USE = ["x", "{{ results.discover.n }}"]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([FIND, {"command": USE}], "tasks[1].command[1]: {{ results.discover.n }} is unknown; discover must be in"),
        (
            [FIND, {"after": ["discover"], "command": ["{{ results.discovr.n }}"]}],
            "tasks[1].command[0]: {{ results.discovr.n }} is unknown; did you mean results.discover.n?",
        ),
        (
            [FIND, {"after": ["discover"], "command": "x {{ results.discover.n }}"}],
            "tasks[1].command: {{ results.discover.n }} in shell text could become a command; pass it by `env`",
        ),
        (
            [FIND, {"after": ["discover"], "command": "x", "priority": "{{ results.discover.n }}"}],
            "tasks[1].priority: {{ results.discover.n }} is not known yet",
        ),
        ([FIND, {"after": ["discover"], "command": ["{{ results }}"]}], "tasks[1].command[0]: {{ results }} is"),
        (
            [{"id": "l", "for_each": ["a"], "command": "x"}, {"after": ["l"], "command": ["{{ results.l.n }}"]}],
            "tasks[1].command[0]: {{ results.l.n }} is unknown; l stands for several tasks; read their results from",
        ),
        (
            [FIND, {"id": "g", "after": ["discover"], "for_each": "{{ results.discover }} x", "command": "x"}],
            "tasks[1].for_each: must",
        ),
        ([FIND, {"after": ["discover"], "for_each": "{{ results.discover }}", "command": "x"}], "tasks[1].id: is"),
        (
            [FIND, {"id": "g", "after": ["discover"], "for_each": "{{ results.discover }}", "command": "{{ item }}"}],
            'tasks[1].command: {{ item }} in shell text could become a command; use "$ITEM"',
        ),
        (
            [FIND, {"id": "g", "after": ["discover"], "for_each": "{{ results.discover }}", "comand": ["{{ item }}"]}],
            "tasks[1].comand[0]: {{ item }} is unknown",
        ),
        ([FIND, {"command": "x", "unresolved": {"fields": {}}}], "tasks[1].unresolved: is not for job files"),
    ],
)
def test_what_can_never_be_known_is_refused_at_submit(tasks: list[dict[str, Any]], message: str) -> None:
    """With the field and the nearest name."""
    assert refused(*tasks)[0].startswith(message)


def test_after_counts_over_other_tasks_and_clean_up_knows_all() -> None:
    """A task that waits for one that waits; one that waits for all."""
    raw = {
        "id": "j",
        "tasks": [
            FIND,
            {"id": "b", "after": ["discover"], "command": "x"},
            {"id": "c", "after": ["b"], "command": USE},
            {"id": "d", "when": "always", "command": USE},
        ],
    }
    assert len(read_job(instantiate(raw, {}, NOW).raw).tasks) == 4


# Lists


GROUP = {"id": "load", "after": ["find"], "for_each": "{{ results.find.list }}", "command": ["load", "{{ item }}"]}


def found(world: World, items: object, *more: dict[str, Any], **fields: Any) -> None:  # noqa: ANN401 - JSON
    """Run a job whose first task finds these items, up to where what follows from them is decided."""
    world.submit("j", "find", {**GROUP, **fields.pop("group", {})}, *more, **fields)
    world.do("j/find", result={"list": items})
    world.cycle()


def test_one_task_for_each_item_of_a_result(world: World) -> None:
    """`max_runners` bounds them; what is after the list waits for all of it, and follows what it waits for itself."""
    merge = {"id": "merge", "after": ["load"], "command": "merge"}
    found(world, ["EU", "us", 3], merge, max_runners=2)
    assert list(world.job("j").tasks) == ["find", "load", "merge", "load-eu", "load-us", "load-3"]
    assert world.phases("j")["load"] == "succeeded"
    world.cycle()
    assert set(world.running()) == {"j/load-eu", "j/load-us"}
    launch = world.launch("j/load-eu")
    assert (launch.argv, launch.env["ITEM"]) == (("load", "EU"), "EU")
    world.exit("j/load-us")
    world.do("j/load-3")
    assert world.phases("j")["merge"] == "queued"
    world.do("j/load-eu", "j/merge")
    assert world.job("j").phase == "succeeded"
    assert {task.group for task in world.job("j").tasks.values()} == {None, "load"}


def test_one_task_for_each_combination_with_results(world: World) -> None:
    """A matrix of a list and a result; other results in the same fields."""
    task = {
        "id": "t",
        "after": ["find"],
        "matrix": {"OS": ["linux", "mac"], "PY": "{{ results.find.py }}"},
        "command": ["test", "{{ matrix.OS }}", "{{ matrix.PY }}", "{{ results.find.flag }}"],
        "env": {"OS": "own"},
        "retries": 2,
    }
    world.submit("j", "find", task, max_runners=4)
    world.do("j/find", result={"py": [3.11, "3.12"], "flag": "-v"})
    world.until(lambda: len(world.running()) == 4)
    assert set(world.running()) == {"j/t-linux-3-11", "j/t-linux-3-12", "j/t-mac-3-11", "j/t-mac-3-12"}
    launch = world.launch("j/t-mac-3-12")
    assert launch.argv == ("test", "mac", "3.12", "-v")
    assert (launch.env["OS"], launch.env["PY"], world.task("j", "t-mac-3-12").retries) == ("own", "3.12", 2)


def test_an_empty_list_is_done(world: World) -> None:
    """What is after it runs."""
    found(world, [], {"id": "merge", "after": ["load"], "command": "merge"})
    world.do("j/merge")
    assert world.phases("j") == {"find": "succeeded", "load": "succeeded", "merge": "succeeded"}


@pytest.mark.parametrize(
    ("items", "group", "reason", "message"),
    [
        ("eu", {}, "rejected", 'for_each: must be a list of at most 10000 items, got "eu"'),
        ({"a": 1}, {}, "rejected", "for_each: must be a list"),
        (["a", ["b"]], {}, "rejected", "load-b.command[1]: must be text"),
        (["a"], {"command": ["{{ item.size }}"]}, "rejected", "load-a.command[0]: {{ item.size }} is unknown"),
        (["a", "b", "c"], {"max_tasks": 4}, "budget", "task load: its list would give the job more than max_tasks = 4"),
    ],
)
def test_a_list_that_cannot_be(world: World, items: object, group: dict[str, Any], reason: str, message: str) -> None:
    """The task fails, and none of its list exists."""
    fields = {"max_tasks": group.pop("max_tasks")} if "max_tasks" in group else {}
    found(world, items, group=group, **fields)
    world.until(lambda: world.job("j").ended)
    phase, why, said = ended(world, "j", "load")
    assert (phase, why) == ("failed", reason)
    assert (said or "").startswith(message)
    assert list(world.job("j").tasks) == ["find", "load"]


def test_one_failure_skips_what_is_after_the_list(world: World) -> None:
    """As with everything that a task queues."""
    found(world, ["a", "b"], {"id": "merge", "after": ["load"], "command": "x"}, on_failure="continue")
    world.do("j/load-a", code=1)
    world.do("j/load-b")
    assert world.phases("j")["merge"] == "skipped"
    assert world.asked("retry", "j") is None
    world.do("j/load-a", "j/merge")
    assert world.job("j").phase == "succeeded"


def test_ids_that_are_taken(world: World) -> None:
    """A task of the list gets another one, and two items never the same."""
    found(world, ["x", "x", "X"], {"id": "load-x", "command": "other", "priority": -1})
    assert list(world.job("j").tasks) == ["find", "load", "load-x", "load-1", "load-2", "load-3"]


def test_a_list_larger_than_a_job_can_hold(world: World) -> None:
    """A long command for each of many items is refused before it is made."""
    command = ["x", "{{ item }}"]
    found(world, list(range(2000)), group={"command": command, "env": {"BIG": "x" * 100_000}})
    world.until(lambda: world.job("j").ended)
    assert ended(world, "j", "load")[1:] == ("budget", "task load: its list is too large for the state of job j")


def test_what_is_put_in_is_bounded() -> None:
    """A result that is named very often is not multiplied without bound."""
    text = "{{ results.a }}" * 8000
    raw = {
        "id": "j",
        "tasks": [FIND | {"id": "a"}, {"id": "b", "after": ["a"], "command": ["x", text], "env": {"A": text}}],
    }
    job = state_of(raw)
    job.tasks["a"].status = Done("succeeded", "ok", "", result="x" * (MAX_RESULT - 10))
    with pytest.raises(TooLargeError):
        resolve(job, job.tasks["b"], 10_000_000)


def state_of(raw: dict[str, Any], **params: object) -> JobState:
    """Return the state of a job as submitted."""
    return initial_state(read_job(instantiate(raw, params, NOW).raw), uid="0" * 8, now=NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "name", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=12))
def test_any_items_have_ids_of_their_own_or_are_refused(items: list[Any]) -> None:
    """Whatever a task writes: one task for each item, in order, with ids that are safe; or a message."""
    group = {**GROUP, "command": ["load"], "env": {"A": "{{ item }}"}}
    job = state_of({"id": "j", "tasks": [FIND | {"id": "find"}, group]})
    job.tasks["find"].status = Done("succeeded", "ok", "", result={"list": items})
    try:
        made = resolve(job, job.tasks["load"], 10_000_000)
    except InvalidError:
        return
    assert len(made) == len(items)
    names = [task.id or "" for task in made]
    assert len(set(names)) == len(items)
    assert all(name.startswith("load-") and len(name) <= 64 and name.isascii() for name in names)


# Killed


def finish(world: World, results: dict[str, object]) -> None:
    """End whatever runs, with these results, until the job has ended."""
    for _ in range(100):
        world.cycle()
        for name in list(world.running()):
            world.exit(name, result=results.get(name.partition("/")[2]))
        if world.job("j").ended:
            return
        world.clock.pass_time(0.5)
    raise AssertionError("it did not come about")


def check_each_once(world: World, items: list[str]) -> None:
    """Check that each item had one task with one success, that none ran beside itself, and that `merge` was last."""
    job = world.job("j")
    assert job.phase == "succeeded"
    tasks = [task for task in job.tasks.values() if task.group == "load"]
    assert [task.env["ITEM"] for task in tasks] == items
    assert [sum(one.reason == "ok" for one in task.attempts) for task in tasks] == [1] * len(items)
    assert [name for name, _ in LiveJob(job).progress.results] == ["find"]
    assert not world.overlaps
    assert list(world.begun.values())[-1].task == "merge"


MERGE = {"id": "merge", "after": ["load"], "command": "merge"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", effects())
def test_a_list_killed_anywhere_is_made_once(world: World, point: str, *, after: bool) -> None:
    """At each effect from the end of the task that finds it to the end of the job."""
    items = ["a", "b", "a"]
    world.submit("j", "find", GROUP, MERGE, max_runners=2)
    with contextlib.suppress(Killed), Death(point, after=after).threatens():
        finish(world, {"find": {"list": items}})
    world.restart()
    finish(world, {"find": {"list": items}})
    check_each_once(world, items)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from("abc"), max_size=6), st.integers(1, 3), st.lists(st.integers(0, 6), max_size=12))
def test_a_list_is_made_once_whenever_managers_are_killed(
    tmp_path_factory: pytest.TempPathFactory, items: list[str], runners: int, kills: list[int]
) -> None:
    """Kills after any number of cycles, some in the middle of an append."""
    with started(tmp_path_factory.mktemp("world")) as world:
        world.submit("j", "find", GROUP, MERGE, max_runners=runners)
        for cycles in kills:
            for _ in range(cycles):
                world.cycle()
                for name in list(world.running())[: cycles % 2 + 1]:
                    world.exit(name, result={"list": items} if name == "j/find" else None)
                world.clock.pass_time(0.5)
            world.crash(torn=b'{"job":"j","uid' if cycles % 3 == 0 else b"")
            world.start()
        finish(world, {"find": {"list": items}})
        check_each_once(world, items)


# Results as lines of the queue file


def test_a_line_sets_the_result(world: World) -> None:
    """The last one counts, unless there is a file with a result; reports and tasks may stand between."""
    world.submit("j", "a", "b", max_runners=2)
    lines = [{"result": 1}, {"usage": {"usd": 1}}, {"result_text": '{"rows": [2]}'}, {"id": "c", "command": "x"}]
    world.do("j/a", queue=lines)
    world.do("j/b", queue=lines[:3], result="of the file")
    assert world.task("j", "a").result == {"rows": [2]}
    assert world.task("j", "b").result == "of the file"
    world.do("j/c")
    assert world.job("j").phase == "succeeded"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"result": "x" * MAX_RESULT}, f"result: has {MAX_RESULT + 2} bytes, more than {MAX_RESULT}"),
        ('{"result": ' + "[" * 102 + "]" * 102 + "}", "result: nested deeper than 100 levels"),
        ('{"result": [' + "[]," * 100_000 + "[]]}", f"result: has 300017 bytes, more than {MAX_RESULT}"),
        ({"result": 1, "id": "b"}, "result: must be the only key of the line"),
        ('{"result": NaN}', "NaN is not a number that JSON knows"),
        ({"result_text": "{"}, "result.json: not JSON (Expecting property name enclosed in double quotes: "),
        ({"result_text": "\ud800"}, "result.json: not UTF-8 (surrogates not allowed)"),
        ({"result_text": 7}, "result_text: must be text, got 7"),
        ({"result_text": "x", "result": 7}, "result: must be the only key of the line"),
        ({"result_text": "1" * (MAX_RESULT + 1)}, f"result.json: {MAX_RESULT + 1} bytes, more than the {MAX_RESULT}"),
    ],
)
def test_a_line_with_no_result(world: World, line: object, words: str) -> None:
    """It is refused, with its number, as a task would be."""
    world.submit("j", {"id": "a", "retries": 0})
    world.do("j/a", queue=[{"usage": {"usd": 1}}, line])
    *outcome, message = ended(world, "j", "a")
    assert outcome == ["failed", "rejected"]
    assert str(message).startswith(f"queue.jsonl line 2: {words}")


@pytest.mark.parametrize("result", [{"rows": 7}, "x" * MAX_RESULT])
def test_a_rewound_state_reads_a_packed_run_again(world: World, result: object) -> None:
    """Of an older state whose run was open, the run is committed again: the same result, tasks and reports."""
    world.submit("j", {"id": "a", "retries": 0})
    world.until(lambda: "j/a" in world.running())
    world.stop()
    path = Path(world.layout.state("j"))
    older = path.read_bytes()
    world.start()
    world.do("j/a", queue=[{"id": "b", "command": "x"}, {"usage": {"usd": 1}}], result=result)
    run = Path(world.layout.run("j", 1, "a"))
    world.until(lambda: not (run / "result.json").exists())
    world.stop()
    before = what_came_of(world)
    path.write_bytes(older)
    world.start()
    world.until(lambda: world.task("j", "a").phase in {"succeeded", "failed"})
    assert what_came_of(world) == before
    assert before[1] == {"usd": 1}


def what_came_of(world: World) -> tuple[object, ...]:
    """Return the result of the task, what was used, and all tasks."""
    task = world.task("j", "a")
    return task.result, world.job("j").usage.reported, task.phase, task.reason, list(world.job("j").tasks)

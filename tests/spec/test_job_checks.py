"""What tasks must keep between them: in a job, and when they join one that exists."""

from __future__ import annotations

from typing import Any

import pytest

from air_executor.core import job_checks
from air_executor.core.job_checks import check_job, check_queued, check_retries, complete_added, in_order
from air_executor.core.submission import parse_job
from air_executor.errors import BadInputError
from air_executor.model.job import Task
from air_executor.model.parsing import read_task
from air_executor.model.state import TaskState
from air_executor.model.times import MAX_DURATION
from tests.records import make_task

FOR_EVER = "these tasks would wait for each other for ever: "
SEVERAL = "parts stands for several tasks; read their results from the file $AIR_INPUTS"
UNKNOWN = "only_if.result: c is unknown; c must be in `after`, or a task there must wait for it"


def tasks_of(*fields: dict[str, Any]) -> list[Task]:
    """Return new tasks."""
    return [read_task({"command": "x"} | one) for one in fields]


def existing() -> dict[str, TaskState]:
    """Return the tasks of a job: one of them has been superseded, one waits for another, one is called by its place."""
    found = {name: make_task(name) for name in ("old", "gone", "_4")} | {"last": make_task("last", {"after": ["old"]})}
    found["gone"].superseded = True
    return found


@pytest.mark.parametrize(
    ("queued", "message"),
    [
        ([{"id": "old"}], "line 3: task id old is taken in job j; give the task another id, or none"),
        ([{"id": "b"}, {"id": "b"}], "line 7: task id b is taken in job j; give the task another id, or none"),
        ([{"id": "b", "after": ["olf"]}], "line 3: task b: after: olf is not a task of job j; did you mean old?"),
        (
            [{"id": "bee"}, {"id": "c", "after": ["old", "bea"]}],
            "line 7: task c: after: bea is not a task of job j; did you mean bee?",
        ),
        ([{"id": "a"}, {"id": "b", "only_if": {"result": "c", "eq": 1}}, {"id": "c"}], f"line 7: task b: {UNKNOWN}"),
        (
            [{"id": "b", "only_if": {"result": "olf.x", "eq": 1}}],
            "line 3: task b: only_if.result: olf.x is unknown; did you mean old.x?",
        ),
        (
            [{"id": "b", "when": "always", "only_if": {"result": "c", "eq": 1}}, {"id": "c", "when": "failure"}],
            f"line 3: task b: {UNKNOWN}",
        ),
    ],
)
def test_a_queued_task_that_does_not_fit_is_refused(queued: list[dict[str, Any]], message: str) -> None:
    """With the line where it stands, if a run has queued it."""
    for lines, expected in (([3, 7, 9], f"queue.jsonl {message}"), (None, message.partition(": ")[2])):
        with pytest.raises(BadInputError) as caught:
            check_queued(tasks_of(*queued), existing(), "j", "old", lines)
        assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("queued", "parent", "cycle"),
    [
        ([{"id": "b", "after": ["c"]}, {"id": "c", "after": ["b"]}], None, "b -> c -> b"),
        ([{"id": "b", "after": ["last"]}], "old", "b -> last -> old -> b"),
        ([{"id": "b", "when": "always"}, {"id": "c", "after": ["b"]}], None, "b -> c -> b"),
    ],
)
def test_queued_tasks_that_would_wait_for_ever(queued: list[dict[str, Any]], parent: str | None, cycle: str) -> None:
    """Be it through tasks that exist, and through the tree of the task that queued them."""
    with pytest.raises(BadInputError) as caught:
        check_queued(tasks_of(*queued), existing(), "j", parent)
    assert str(caught.value) == f"after: {FOR_EVER}{cycle}"


@pytest.mark.parametrize(
    "queued",
    [
        [{"id": "gone"}],
        [{"id": "b", "after": ["last"]}, {"id": "c", "after": ["b", "gone"]}],
        [{"id": "b", "after": ["last"], "only_if": {"result": "old.x", "eq": 1}}],
        [{"id": "b", "when": "always", "only_if": {"result": "c", "eq": 1}}, {"id": "c"}],
        [{"id": "b", "after": ["c"], "only_if": {"result": "c", "eq": 1}}, {"id": "c"}],
    ],
)
def test_queued_tasks_that_fit(queued: list[dict[str, Any]]) -> None:
    """The id of a task that was replaced is free; conditions are about tasks that have ended by then."""
    check_queued(tasks_of(*queued), existing(), "j", None)


def test_added_tasks_are_called_by_their_place() -> None:
    """A name that is taken is left out; they are checked with the names that they got."""
    added = tasks_of({}, {"id": "own"}, {})
    complete_added(added, existing() | {"_6": make_task("_6")}, "j")
    assert [task.id for task in added] == ["_7", "own", "_8"]
    for wrong, message in (({"id": "old"}, "task id old is taken in job j"), ({"after": ["x"]}, "task _5: after: x")):
        with pytest.raises(BadInputError, match=f"^{message}"):
            complete_added(tasks_of(wrong), existing(), "j")


def test_names_in_after_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """All together: looking for cycles costs time for each."""
    monkeypatch.setattr(job_checks, "MOST_NEEDS", 2)
    raw: list[dict[str, Any]] = [{"id": "a"}, {"id": "b", "after": ["a"]}, {"id": "c", "after": ["a"]}]
    check_queued(tasks_of(*raw), {}, "j", None)
    parse_job({"id": "j", "tasks": [{"command": "x"} | one for one in raw]})
    raw[2]["after"] = ["a", "b"]
    with pytest.raises(BadInputError, match=r"^after: 3 names in all, more than 2$"):
        check_queued(tasks_of(*raw), {}, "j", None)
    with pytest.raises(BadInputError, match="tasks: name 3 tasks in after, more than 2"):
        parse_job({"id": "j", "tasks": [{"command": "x"} | one for one in raw]})


def test_jobs_that_are_submitted_together() -> None:
    """Each comes behind those that it waits for; a cycle is named in the order of waiting."""
    assert in_order({"a": ["b", "elsewhere"], "b": ["c"], "c": []}) == ["c", "b", "a"]
    with pytest.raises(BadInputError) as caught:
        in_order({"a": ["b"], "b": ["c"], "c": ["a"]})
    assert str(caught.value) == "after: these jobs would wait for each other for ever: a -> b -> c -> a"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"retries": 1, "retry_backoff": 10, "retry_delay": MAX_DURATION / 10}, None),
        ({"retries": 1, "retry_backoff": 10, "retry_delay": MAX_DURATION / 9.9}, "retry_max_delay"),
        ({"retries": 305, "retry_backoff": 10, "retry_max_delay": 60}, None),
        ({"retries": 306, "retry_backoff": 10, "retry_max_delay": 60}, "retry_backoff"),
    ],
)
def test_delays_that_no_time_can_hold(fields: dict[str, Any], field: str | None) -> None:
    """Neither the delay itself, nor the factor by which it would have grown."""
    assert [problem[0] for problem in check_retries(*tasks_of(fields))] == ([] if field is None else [[field]])


@pytest.mark.parametrize(
    ("tasks", "problems"),
    [
        (
            [{"id": "a"}, {"id": "b", "after": ["a", "x", "y"]}],
            [
                "tasks[1].after[1]: no task of this job has the id x",
                "tasks[1].after[2]: no task of this job has the id y",
            ],
        ),
        ([{"id": "a"}, {"id": "c"}, {"id": "b", "only_if": {"result": "c", "eq": 1}}], [f"tasks[2].{UNKNOWN}"]),
        (
            [{"id": "a", "group": "parts"}, {"id": "b", "after": ["a"], "only_if": {"result": "parts.n", "eq": 1}}],
            [f"tasks[1].only_if.result: parts.n is unknown; {SEVERAL}"],
        ),
        ([{"id": "a"}, {"id": "b", "after": ["a"], "only_if": {"result": "a", "eq": 1}}], []),
        ([{"id": "a"}, {"id": "b", "when": "always", "only_if": {"result": "a", "eq": 1}}], []),
    ],
)
def test_what_the_tasks_of_a_job_say_of_each_other(tasks: list[dict[str, Any]], problems: list[str]) -> None:
    """Each that names a wrong one is told, by its place."""
    job = {"id": "j", "tasks": [{"command": "x"} | one for one in tasks]}
    if not problems:
        parse_job(job)
        return
    with pytest.raises(BadInputError) as caught:
        parse_job(job)
    assert [line.strip() for line in str(caught.value).split("\n") if "tasks[" in line] == problems


def test_a_large_job_is_checked_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager does other things between them."""
    monkeypatch.setattr(job_checks, "STEP", 2)
    job = parse_job({"id": "j", "tasks": [{"command": "x"}] * 5})
    assert len(list(check_job(job))) == 2

"""Names in braces, one by one: where each is replaced, and what is said of one that cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from air_executor.core.templates import LateRenderer, Renderer, Room, TooLargeError, names_to_replace
from air_executor.model.problems import Problem

PARAMS = {"region": "eu", "LIST": ["x"], "MAP": {"k": 1}, "COUNT": 7, "OPTION": "-x"}
UNKNOWN = "{{ params.regio }} is unknown; did you mean params.region?"


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        ({"env": {"A": "{{ params.LIST }}", "B": "{{ params.COUNT }}"}}, {"env": {"A": '["x"]', "B": 7}}),
        ({"env": {"A": ["{{ params.region }}"]}}, {"env": {"A": ["eu"]}}),
        ({"labels": {"a": "{{ params.LIST }}"}}, {"labels": {"a": ["x"]}}),
        ({"services": ["{{ params.region }}"]}, {"services": ["eu"]}),
        ({"mounts": [{"command": "{{ params.region }}"}]}, {"mounts": [{"command": "eu"}]}),
        (
            {"worktree": {"branch": "{{ job.id }}-{{ params.region }}", "path": "{{ task.id }}"}},
            {"worktree": {"branch": "{{ job.id }}-eu", "path": "{{ task.id }}"}},
        ),
    ],
)
def test_what_becomes_of_a_field(fields: dict[str, Any], made: dict[str, Any]) -> None:
    """Variables are text; the ids in the branch of a worktree stay until it is made."""
    problems: list[Problem] = []
    assert Renderer({"params": PARAMS}, problems).task(fields, ["tasks", 0]) == made
    assert problems == []


@pytest.mark.parametrize(
    ("fields", "at", "what"),
    [
        ({"env": {"A": "{{ params.regio }}"}}, ["env", "A"], UNKNOWN),
        ({"labels": {"a": ["{{ params.regio }}"]}}, ["labels", "a", 0], UNKNOWN),
        ({"services": ["{{ params.regio }}"]}, ["services", 0], UNKNOWN),
        ({"image": "x:{{ params.regio }}"}, ["image"], UNKNOWN),
        ({"image": "{{ params.region.x }}"}, ["image"], "{{ params.region.x }} is unknown"),
        ({"cwd": "{{ job.id }}"}, ["cwd"], "{{ job.id }} is unknown (there are: params)"),
        ({"image": "x{{ params.MAP }}"}, ["image"], "{{ params.MAP }} is a mapping, so it must be the whole value"),
        (
            {"command": ["sh", "{{ params.OPTION }}", "x"]},
            ["command", 1],
            'must not begin with -, or the program takes it for an option, got "-x"',
        ),
    ],
)
def test_what_is_said_of_a_field(fields: dict[str, Any], at: list[str | int], what: str) -> None:
    """With its place, to the last name and number."""
    problems: list[Problem] = []
    Renderer({"params": PARAMS}, problems).task(fields, ["tasks", 0])
    assert problems == [Problem(["tasks", 0, *at], what)]


def test_ten_names_are_shown() -> None:
    """However many there are."""
    problems: list[Problem] = []
    Renderer({f"n{number:03}": 1 for number in range(11)}, problems).render("{{ other }}", ["x"])
    shown = ", ".join(f"n{number:03}" for number in range(10))
    assert problems == [Problem(["x"], f"{{{{ other }}}} is unknown (there are: {shown})")]


@pytest.mark.parametrize(("more", "names"), [({}, {"results"}), ({"params": {}}, {"params", "item", "results"})])
def test_names_that_would_be_replaced(more: dict[str, Any], names: set[str]) -> None:
    """In tasks and their defaults: results in any job, others in one with params."""
    task = {"command": ["{{ params.A }}", "{{ results.a.n }}", "{{ title }}"]}
    raw = {"tasks": [task], "defaults": {"env": {"X": "{{ item }}"}}, "labels": {"m": "{{ matrix.x }}"}} | more
    assert names_to_replace(raw) == names
    only_results = {"defaults": {"image": "{{ results.a.n }}"}} | more
    assert names_to_replace(only_results) == {"results"}


@pytest.mark.parametrize("value", ["four", {"n": 1.5}])
def test_values_take_their_room(value: object) -> None:
    """To the byte: text as it is, data as JSON."""
    size = len(value) if isinstance(value, str) else len(json.dumps(value, separators=(",", ":")))
    assert LateRenderer({}, {"a": value}, [], Room(size)).render("{{ results.a }}", []) == value
    with pytest.raises(TooLargeError):
        LateRenderer({}, {"a": value}, [], Room(size - 1)).render("{{ results.a }}", [])


def test_results_of_a_task_that_is_none() -> None:
    """The nearest one is named."""
    problems: list[Problem] = []
    late = LateRenderer({}, {"find": {"n": 1}, "none": None}, problems, Room(100))
    assert [late.render(f"{{{{ results.{name}.n }}}}", ["x"]) for name in ("find", "fin", "none")] == [1, None, None]
    assert problems == [
        Problem(["x"], "{{ results.fin.n }} is unknown; did you mean results.find?"),
        Problem(["x"], "{{ results.none.n }} is unknown: task none left no result"),
    ]

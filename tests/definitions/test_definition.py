"""From a definition and values to the data of a job: parameters, names in braces, lists of tasks."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.core.instantiation import instantiate
from air_executor.core.submission import read_job
from air_executor.errors import BadInputError
from air_executor.model.problems import InvalidError, lines
from air_executor.store.job_file import load_job

NOW = 1_769_860_800.0
"""2026-01-31T12:00:00Z"""


def made(raw: dict[str, Any], **values: object) -> dict[str, Any]:
    """Return the data of the job."""
    return instantiate({"name": "n", **raw}, values, NOW).raw


def refused(raw: dict[str, Any], **values: object) -> list[str]:
    """Return the problems of a definition that is refused."""
    with pytest.raises(InvalidError) as caught:
        made(raw, **values)
    return lines(caught.value.problems)


def one(task: dict[str, Any], params: dict[str, Any] | None = None, **values: object) -> dict[str, Any]:
    """Return the only task that a definition makes."""
    tasks: list[dict[str, Any]] = made({"params": params or {}, "tasks": [task]}, **values)["tasks"]
    assert len(tasks) == 1
    return tasks[0]


# Values


@pytest.mark.parametrize(
    ("param", "value", "kept"),
    [
        ({}, "a b", "a b"),
        ({}, 7, "7"),
        ({"type": "integer"}, "7", 7),
        ({"type": "integer"}, -7, -7),
        ({"type": "number"}, "1e3", 1000.0),
        ({"type": "number"}, "3", 3),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, False, False),
        ({"type": "date"}, "2026-02-28", "2026-02-28"),
        ({"type": "date"}, dt.date(2026, 2, 28), "2026-02-28"),
        ({"type": "list"}, "a, b", ["a", "b"]),
        ({"type": "list"}, "", []),
        ({"type": "list"}, '["a,b", 2]', ["a,b", 2]),
        ({"type": "list", "choices": ["a", "b"]}, ["b"], ["b"]),
        ({"choices": ["a", "b"]}, "b", "b"),
        ({"type": "date", "choices": [dt.date(2026, 1, 1)]}, "2026-01-01", "2026-01-01"),
    ],
)
def test_a_value_gets_the_one_form_of_its_type(param: dict[str, Any], value: object, kept: object) -> None:
    """Text from a command line and data from a file come to the same."""
    found = made({"params": {"P": param}, "tasks": []}, P=value)["params"]["P"]
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("param", "value", "message"),
    [
        ({"type": "integer"}, "7.5", 'must be a whole number, got "7.5"'),
        ({"type": "integer"}, True, "must be a whole number, got true"),
        ({"type": "integer", "min": 1}, "0", 'must be at least 1, got "0"'),
        ({"type": "number", "max": 1}, "1.5", 'must be at most 1, got "1.5"'),
        ({"type": "number"}, "nan", 'must be a number, got "nan"'),
        ({"type": "number"}, float("inf"), "must be a number, got inf"),
        ({"type": "boolean"}, "yes", 'must be true or false, got "yes"'),
        ({"type": "date"}, "2026-02-30", 'must be a date like 2026-01-31, got "2026-02-30"'),
        ({"type": "list", "choices": ["a"]}, "a,b", 'must be one of a, got "b"'),
        ({"type": "list"}, "[1", 'must be a list: JSON, or items separated by commas, got "[1"'),
        ({"choices": ["a", "b"]}, "c", 'must be one of a, b, got "c"'),
        ({}, 1.5, "must be text, got 1.5; put it in quotes"),
    ],
)
def test_a_wrong_value_is_refused(param: dict[str, Any], value: object, message: str) -> None:
    """The message has the parameter, what is accepted, and what was given."""
    assert refused({"params": {"P": param}, "tasks": []}, P=value) == [f"params.P: {message}"]


def test_all_problems_are_said_at_once() -> None:
    """A missing value, an unknown name, and a value out of bounds."""
    params = {"DAY": {"description": "The day"}, "REGION": "eu", "LIMIT": {"type": "integer", "min": 1}}
    assert refused({"params": params, "tasks": []}, REGIO="us", LIMIT=0) == [
        "params.REGIO: is not a parameter; did you mean REGION?",
        "params.DAY: is missing: give a value with `-p DAY=…`: The day",
        "params.LIMIT: must be at least 1, got 0",
    ]


def test_a_value_alone_is_the_default() -> None:
    """Its kind is the type."""
    params = {"A": "x", "B": 3, "C": 1.5, "D": True, "E": ["a"], "F": dt.date(2026, 1, 1)}
    expected = {**params, "F": "2026-01-01"}
    assert made({"params": params, "tasks": []})["params"] == expected
    assert refused({"params": params, "tasks": []}, B="x")[0].startswith("params.B: must be a whole number")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([], "params: must be a mapping of names and parameters, got []"),
        ({"a-b": 1}, "params.a-b: is no name of a parameter"),
        ({"AIR_JOB_ID": 1}, "params.AIR_JOB_ID: is no name of a parameter: every task has a variable"),
        ({"A": {"secret": True}}, "params.A.secret: is not for parameters"),
        ({"A": {"typ": "integer"}}, "params.A.typ: is not a field; did you mean type?"),
        ({"A": {"type": "text"}}, 'params.A.type: must be "string", "integer"'),
        ({"A": {"min": 1}}, "params.A.min: is only for numbers"),
        ({"A": {"type": "integer", "min": 2, "max": 1}}, "params.A.max: must not be less than min"),
        ({"A": {"type": "integer", "default": "x"}}, "params.A.default: must be a whole number"),
        ({"A": "{{ nosuch }}"}, "params.A.default: {{ nosuch }} is unknown"),
    ],
)
def test_a_wrong_declaration_is_refused(params: object, message: str) -> None:
    """With its field."""
    assert refused({"params": params, "tasks": []})[0].startswith(message)


def test_the_day_of_the_submission() -> None:
    """A default may be the day or the time of the submission, in UTC."""
    params = {"DATE": {"type": "date", "default": "{{ scheduled_date }}"}, "AT": "{{ scheduled_at }}"}
    found = made({"params": params, "tasks": []})["params"]
    assert found == {"DATE": "2026-01-31", "AT": "2026-01-31T12:00:00.000Z"}


# Names in braces


def test_names_are_replaced_wherever_a_field_is_data() -> None:
    """Within text as text; a field that is nothing but a name gets the value of its type."""
    params = {"REGION": "eu", "LIMIT": 90, "PARTS": ["a", "b"]}
    task = {
        "command": ["load", "--region={{ params.REGION }}", "{{params.LIMIT}}", "{{ .Names }}", "{{ a b }}"],
        "image": "loader:{{ params.REGION }}",
        "timeout": "{{ params.LIMIT }}",
        "labels": {"region": "{{ params.REGION }}-{{ params.LIMIT }}"},
        "env": {"URL": "https://{{ params.REGION }}.example"},
    }
    assert one(task, params) == {
        "command": ["load", "--region=eu", 90, "{{ .Names }}", "{{ a b }}"],
        "image": "loader:eu",
        "timeout": 90,
        "labels": {"region": "eu-90"},
        "env": {"URL": "https://eu.example"},
    }
    raw = made(
        {"params": params, "tasks": [], "labels": {"r": "{{ params.REGION }}"}, "max_runners": "{{ params.LIMIT }}"}
    )
    assert (raw["labels"], raw["max_runners"]) == ({"r": "eu"}, 90)


@pytest.mark.parametrize("where", ["task", "defaults"])
@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("params.REGION", 'use "$REGION"'),
        ("params.NOSUCH", 'use "$NOSUCH"'),
        ("item.x", 'use "$ITEM"'),
        ("matrix.os", 'use "$os"'),
        ("scheduled_date", "pass it by `env`"),
    ],
)
def test_no_value_gets_into_shell_text(where: str, name: str, instead: str) -> None:
    """The message says which variable has the value."""
    command = {"command": f"echo {{{{ {name} }}}}"}
    raw = {"tasks": [command]} if where == "task" else {"tasks": [{}], "defaults": command}
    at = "tasks[0]" if where == "task" else "defaults"
    assert refused({"params": {"REGION": "eu"}, **raw})[0].startswith(
        f"{at}.command: {{{{ {name} }}}} in shell text could become a command; {instead}"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["sh", "-c", "{}"],
        ["/bin/bash", "-euc", "{}"],
        ["bash", "-ce", "{}"],
        ["bash", "-c", "-o", "errexit", "--", "{}"],
        ["env", "A=1", "nice", "-n", "5", "dash", "-c", "{}"],
        ["find", ".", "-exec", "sh", "-c", "{}", ";"],
        ["python3.12", "-c", "{}"],
        ["python3", "-c{}"],
        ["python3", "-{}"],
        ["perl", "-lane", "{}"],
        ["node", "--eval={}"],
        ["env", "-S", "{}"],
        ["{{ params.REGION }}", "-c", "{}"],
        ["su", "somebody", "-c", "{}"],
        ["sudo", "-u", "somebody", "sh", "-c", "{}"],
        ["python3", "-W", "ignore", "-c", "{}"],
        ["docker", "exec", "-i", "box", "sh", "-c", "{}"],
        ["docker", "run", "--entrypoint", "sh", "image", "-c", "{}"],
        ["kubectl", "exec", "pod", "--", "/bin/sh", "-c", "{}"],
        ["xargs", "-I", "x", "sh", "-c", "{}"],
        ["runuser", "-u", "somebody", "-c", "{}"],
        ["flock", "-w", "5", "file", "-c", "{}"],
        ["nix-shell", "-p", "jq", "--run", "{}"],
        ["sbatch", "--wrap={}"],
        ["pwsh", "-NoProfile", "-Command", "Write-Host", "{}"],
        ["ssh", "host", "{}"],
        ["ssh", "-p", "22", "-i", "key", "host", "-v", "load", "--region", "{}"],
        ["sudo", "-u", "somebody", "ssh", "host", "{}"],
        ["watch", "-n", "5", "{}"],
        ["parallel", "-j", "2", "load", "{}", ":::", "a"],
        ["awk", "-v", "a=1", "{}", "file"],
        ["find", ".", "-exec", "gawk", "{}", "+"],
        ["sed", "-n", "{}", "file"],
        ["sed", "-ne", "{}", "file"],
        ["sed", "-e", "p", "--expression={}", "file"],
    ],
)
@pytest.mark.parametrize("name", ["params.REGION", "results.find.x", "params.REGION | quote"])
def test_no_value_gets_into_a_script_that_is_a_word(words: list[str], name: str) -> None:
    """Of shells, interpreters and programs that hand it to one, also behind others; results are refused as well."""
    command = [word.format(f"echo {{{{ {name} }}}}") if word.count("{") == 1 else word for word in words]
    number = next(number for number, word in enumerate(command) if "echo" in word)
    tasks = [{"id": "find", "command": "true"}, {"command": command, "after": ["find"]}]
    found = refused({"params": {"REGION": "eu"}, "tasks": tasks})
    assert [one for one in found if "could become a command" in one]
    assert all(one.startswith(f"tasks[1].command[{number}]: {{{{ {name} }}}} in a script") for one in found)


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (["sh", "-c"], 'use "$REGION", which holds the value'),
        (["python", "-c"], 'use os.environ["REGION"], which'),
        (["perl", "-e"], "use the environment variable REGION, which"),
        (["awk"], 'use ENVIRON["REGION"], which'),
        (["pwsh", "-c"], "use $env:REGION, which"),
        (["ssh", "host"], "send it by stdin"),
        (["sed"], "use `awk`"),
    ],
)
def test_what_to_write_instead_is_of_the_language_of_the_script(words: list[str], instead: str) -> None:
    """Each reads a variable in its own way."""
    raw = {"params": {"REGION": "eu"}, "tasks": [{"command": [*words, "load {{ params.REGION }}"]}]}
    (found,) = refused(raw)
    assert f"could become a command; {instead}" in found


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["python3", "{}", "x"], "-cimport os"),
        (["perl", "-ne", "print", "{}"], "-esystem(1)"),
        (["node", "{}"], "--eval=1"),
        (["sh", "{}", "exit 1"], "-c"),
        (["dash", "{}", "exit 1"], "+c"),
        (["env", "A=1", "{}"], "-Ssh x"),
        (["ssh", "{}", "uptime"], "-oProxyCommand=x"),
        (["sed", "p", "{}"], "-e1e x"),
    ],
)
def test_no_value_becomes_the_option_that_brings_a_script(words: list[str], value: str) -> None:
    """Where a shell or interpreter still takes options."""
    number = words.index("{}")
    command = [word.format("{{ params.FILE }}") if word == "{}" else word for word in words]
    raw = {"params": {"FILE": "load"}, "tasks": [{"command": command}]}
    assert made(raw)["tasks"][0]["command"][number] == "load"
    (found,) = refused({**raw, "params": {"FILE": value}})
    assert found.startswith(f"tasks[0].command[{number}]: must not begin with {value[0]}, or the program takes it")


def test_what_a_script_is_called_with_are_values() -> None:
    """As are the words of other programs."""
    given = "{{ params.REGION }}"
    for words in (
        ["sh", "-c", 'load "$0"', given],
        ["tar", "-c", given],
        ["./load.sh", "-c", given],
        ["python", "-u", "load.py", "-c", given],
        ["sh", given],
        ["rsync", "-e", "ssh", "file", f"host:{given}"],
        ["ssh", "-p", given, "host", "uptime"],
        ["parallel", "load", ":::", given],
        ["awk", "-v", f"a={given}", "{ print a }"],
        ["awk", "-f", "load.awk", f"./{given}"],
        ["sed", "-e", "s/a/b/", f"./{given}"],
        ["docker", "exec", "box", "load", given],
        ["git", "grep", "watch", given],
    ):
        for value in ("eu", "-5") if words != ["sh", given] else ("eu",):
            filled = [word.replace(given, value) for word in words]
            assert one({"command": words}, {"REGION": value})["command"] == filled


def test_other_braces_in_shell_text_are_its_own() -> None:
    """Formats of other programs stay as they are."""
    text = "docker ps --format '{{.Names}}' && jinja '{{ title }}'"
    assert one({"command": text})["command"] == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ params.REGON }}", "{{ params.REGON }} is unknown; did you mean params.REGION?"),
        ("{{ nosuch }}", "{{ nosuch }} is unknown (there are: scheduled_at, scheduled_date, params)"),
        ("{{ params.REGION.x }}", "{{ params.REGION.x }} is unknown"),
        ("{{ item }}", "{{ item }} is unknown (there are: scheduled_at, scheduled_date, params)"),
        ("a{{ params.LIST }}", "{{ params.LIST }} is a list, so it must be the whole value"),
        ("{{ params.REGION | upper }}", "{{ params.REGION | upper }} is no name: braces take names alone, no filters"),
        ("a{{params.REGION+1}}", "{{params.REGION+1}} is no name: braces take names alone, no filters"),
        ("{{ item[0] }}", "{{ item[0] }} is no name: braces take names alone, no filters"),
    ],
)
def test_an_unknown_name_is_refused(text: str, message: str) -> None:
    """With the nearest one."""
    found = refused({"params": {"REGION": "eu", "LIST": ["a"]}, "tasks": [{"command": ["x", text]}]})
    assert len(found) == 1
    assert found[0].startswith(f"tasks[0].command[1]: {message}")


def test_a_job_without_parameters_stays_as_it_is() -> None:
    """Braces in a job with an id, and without params, are text."""
    raw = {"id": "j", "tasks": [{"command": ["echo", "{{ title }}"]}]}
    assert instantiate(raw, {}, NOW).raw == raw


@given(st.text(max_size=40), st.lists(st.text(max_size=10), max_size=5))
def test_no_value_is_ever_interpreted(text: str, items: list[str]) -> None:
    """Whatever a value holds, it arrives as it is: names in braces inside a value are not replaced again."""
    task = {"command": ["x", "{{ params.A }}", "-{{ params.A }}-"], "env": {"E": "{{ params.A }}"}}
    raw = made({"params": {"A": {}, "L": {"type": "list"}}, "tasks": [task]}, A=text, L=items)
    assert raw["tasks"][0] == {"command": ["x", text, f"-{text}-"], "env": {"E": text}}
    assert raw["params"] == {"A": text, "L": items}


# Lists of tasks


def test_one_task_for_each_item() -> None:
    """Each is named after its item, has it as a variable and in braces; `after` means all of them."""
    tasks = [
        {"id": "load", "for_each": "{{ params.REGIONS }}", "command": ["load", "{{ item }}"], "env": {"A": "1"}},
        {"id": "merge", "after": ["load"], "command": "merge"},
    ]
    raw = made({"params": {"REGIONS": ["eu", "US East"]}, "tasks": tasks})
    envs = [{"ITEM": item, "item": item, "A": "1"} for item in ("eu", "US East")]
    assert raw["tasks"] == [
        {"id": "load-eu", "group": "load", "command": ["load", "eu"], "env": envs[0]},
        {
            "id": "load-us-east",
            "group": "load",
            "command": ["load", "US East"],
            "env": envs[1],
        },
        {"id": "merge", "after": ["load-eu", "load-us-east"], "command": "merge"},
    ]


def test_one_task_for_each_combination() -> None:
    """Each has a variable for each name."""
    task = {"id": "test", "matrix": {"OS": ["linux", "mac"], "PY": ["3.11"]}, "command": ["t", "{{ matrix.OS }}"]}
    assert made({"tasks": [task]})["tasks"] == [
        {"id": "test-linux-3-11", "group": "test", "command": ["t", "linux"], "env": {"OS": "linux", "PY": "3.11"}},
        {"id": "test-mac-3-11", "group": "test", "command": ["t", "mac"], "env": {"OS": "mac", "PY": "3.11"}},
    ]


def test_items_that_are_mappings() -> None:
    """One value of it in braces; all of it, as JSON, in the variable."""
    items = [{"name": "a", "size": 3}, {"size": 4}]
    task = {"id": "t", "for_each": items, "command": ["x", "{{ item.size }}"]}
    found = made({"tasks": [task]})["tasks"]
    assert [(one["id"], one["command"]) for one in found] == [("t-a", ["x", 3]), ("t-2", ["x", 4])]
    assert [json.loads(one["env"]["ITEM"]) for one in found] == items


@pytest.mark.parametrize(
    ("items", "ids"),
    [
        (["a", "A", "a"], ["t-a", "t-2", "t-3"]),
        (["", "ß", "x" * 50], ["t-1", "t-2", "t-3"]),
        ([1, 2.5, True], ["t-1", "t-2-5", "t-true"]),
        (["2", ""], ["t-2", "t-3"]),
    ],
)
def test_each_task_of_a_list_has_an_id_of_its_own(items: list[Any], ids: list[str]) -> None:
    """By its item where that makes a name, or else by its number."""
    found = made({"tasks": [{"id": "t", "for_each": items, "command": "x"}]})
    assert [task["id"] for task in found["tasks"]] == ids
    assert len(read_job(found).tasks) == len(ids)


def test_an_empty_list_makes_no_task() -> None:
    """And nothing waits for it."""
    tasks = [{"id": "t", "for_each": [], "command": "x"}, {"id": "end", "after": ["t"], "command": "y"}]
    assert made({"tasks": tasks})["tasks"] == [{"id": "end", "after": [], "command": "y"}]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"for_each": ["a"]}, "tasks[0].id: is missing"),
        ({"id": "t", "for_each": "a"}, 'tasks[0].for_each: must be a list of at most 10000 items, got "a"'),
        ({"id": "t", "for_each": {"a": 1}}, "tasks[0].for_each: must be a list"),
        ({"id": "t", "matrix": ["a"]}, "tasks[0].matrix: must be a mapping of names and lists, got ['a']"),
        ({"id": "t", "matrix": {"A": "a"}}, 'tasks[0].matrix.A: must be a list of at most 10000 items, got "a"'),
        ({"id": "t", "matrix": {"A": [1]}, "for_each": [1]}, "tasks[0].matrix: cannot be used together with for_each"),
        ({"id": "t", "for_each": list(range(10_001))}, "tasks[0].for_each: must be a list of at most 10000 items"),
        ({"id": "t", "matrix": {n: list(range(100)) for n in "ABC"}}, "tasks[0].matrix: makes more than 100000 tasks"),
    ],
)
def test_a_wrong_list_is_refused(task: dict[str, Any], message: str) -> None:
    """With its field."""
    assert refused({"tasks": [{"command": "x", **task}]})[0].startswith(message)


def test_an_unknown_name_of_a_list_is_one_problem() -> None:
    """Not also that nothing is no list."""
    tasks = [{"id": "t", "for_each": "{{ params.Q }}", "command": "x"}]
    assert refused({"params": {"R": ["a"]}, "tasks": tasks}) == [
        "tasks[0].for_each: {{ params.Q }} is unknown; did you mean params.R?"
    ]


def test_a_problem_stands_where_the_file_has_it() -> None:
    """Once, and not at the position that the task has among all that were made."""
    text = "name: n\ntasks:\n  - {id: a, for_each: [1, 2, 3], command: x}\n  - {id: b, command: y, retries: many}\n"
    with pytest.raises(BadInputError) as caught:
        load_job(text.encode(), "n.yaml")
    assert str(caught.value).startswith(
        'n.yaml: tasks[1].retries: must be a whole number between 0 and 1000, got "many"'
    )
    assert "(line 4, column 34)" in str(caught.value)
    text = "name: n\ntasks:\n  - {id: a, for_each: [1, 2, 3], command: x, retries: many}\n"
    with pytest.raises(BadInputError) as caught:
        load_job(text.encode(), "n.yaml")
    assert str(caught.value).count("tasks[0].retries") == 1


def test_services_take_values_as_their_task_does() -> None:
    """Into what is data, and not into what a shell reads, in the service or for its `ready`."""
    service = {
        "image": "postgres:{{ params.REGION }}",
        "env": {"X": "{{ params.REGION }}"},
        "command": ["serve", "{{ params.REGION }}"],
    }
    found = one({"command": "x", "services": [service]}, {"REGION": "eu"})["services"]
    assert found == [{"image": "postgres:eu", "env": {"X": "eu"}, "command": ["serve", "eu"]}]
    for field in ("command", "ready"):
        for words in ("echo {{ params.REGION }}", ["sh", "-c", "echo {{ params.REGION }}"]):
            task = {"command": "x", "services": [{"image": "a", field: words}]}
            [problem, *_] = refused({"params": {"REGION": "eu"}, "tasks": [task]})
            assert problem.startswith(f"tasks[0].services[0].{field}")
            assert "could become a command" in problem

"""Job files and command lines: how a file can be wrong before it is a job, and with which words."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.parsing import dump, job_schema
from air_executor.store.job_file import MAX_BYTES, from_command, load_job, load_jobs, load_tasks, read_job

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "job.schema.json"

YAML = """\
id: census
max_runners: 4
tasks:
  - {id: discover, command: [python, discover.py, 10], timeout: 10m}
  - id: merge
    command: |
      echo one
      echo two
    after: [discover]
    not_before: 2026-01-31T13:00:00+01:00
"""


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    """One job, two notations, with and without an ending that tells which; a BOM and a `$schema` do no harm."""
    job = load_job(YAML.encode(), "job.yaml")
    assert dump(job.tasks[1])["not_before"] == "2026-01-31T12:00:00.000Z"
    text = json.dumps({"$schema": "x", **dump(job)}, ensure_ascii=False)
    for name in ("job.json", "job", "-"):
        again = load_job(b"\xef\xbb\xbf" + text.encode(), name)
        assert again == job
    path = tmp_path / "job.yml"
    path.write_text(YAML)
    assert read_job(path) == load_job(YAML.encode(), "job")


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "j.yaml", "j.yaml: is empty; a job file is a mapping"),
        (b"- a\n", "j.yaml", "j.yaml: holds ['a']; a job file is a mapping"),
        (b"[1]", "j.json", "j.json: holds [1]; a job file is a mapping"),
        (b"id: x\ntasks: [a", "j.yaml", "j.yaml: is not YAML: line 2, column 10:"),
        (b"id: x\n\tx: y\n", "j.yaml", "j.yaml: is not YAML: line 2, column 1:"),
        (b"id: x\nid: y\n", "j.yaml", 'j.yaml: is not YAML: line 2, column 1: found duplicate key "id"'),
        (b"id: x\n---\n[y]\n", "j.yaml", "j.yaml: holds ['y']; a job file is a mapping with id and tasks"),
        (b"!!python/object/apply:os.system [id]\n", "j.yaml", "j.yaml: is not YAML: line 1, column 1: could not"),
        (b"id: 2026-02-31\n", "j.yaml", "j.yaml: has a value that cannot be read"),
        (b"[" * 20_000, "j.yaml", "j.yaml: is nested too deeply"),
        (b"id: \x00", "j.yaml", "j.yaml: is not YAML: unacceptable character"),
        (b'{"id": "x",\n "tasks": }', "j", "j: is not JSON: line 2, column 11:"),
        (b'{"id": "x", "id": "y"}', "j.json", 'j.json: the key "id" appears twice'),
        (b"id: \xff", "j.yaml", "j.yaml: is not UTF-8 text (byte 4 is 0xff); save it as UTF-8"),
        (b"x: &a [*a]\nid: *a\ntasks: *a\n", "j.yaml", "j.yaml: "),
        (b" " * (MAX_BYTES + 1), "j.yaml", "j.yaml: is larger than 64 MiB"),
    ],
)
def test_a_file_that_is_no_job_says_where_and_why(data: bytes, name: str, message: str) -> None:
    """Name of the file, line and column, and what is wrong."""
    with pytest.raises(BadInputError) as caught:
        load_job(data, name)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id: x\ntasks:\n  - command: echo: hi\n",
            "j.yaml: is not YAML: line 3, column 18: mapping values are not allowed here; a value that holds",
        ),
        (
            "id: x\ntasks:\n - command: x\n  id: y\n",
            "j.yaml: is not YAML: line 4, column 3: expected <block end>, but found '<block mapping start>'; lines of",
        ),
        (
            "id: x\ntasks:\n  - id: a\n    command: 'true'\n    retries: three\n",
            'j.yaml: tasks[0].retries: must be a whole number between 0 and 1000, got "three" (line 5, column 14)\n',
        ),
        (
            "id: x\ntasks:\n  - {command: 'true', retry: 3}\n",
            "j.yaml: tasks[0].retry: is not a field; did you mean retries?",
        ),
        ('{"id": "x",\n "tasks": [{"command": 5}]}', "j.yaml: tasks[0].command: must be text for the shell, or a list"),
    ],
)
def test_a_problem_is_shown_where_it_stands(text: str, message: str) -> None:
    """Line, column and the line itself, also for what is no YAML at all."""
    with pytest.raises(BadInputError) as caught:
        load_job(text.encode(), "j.yaml")
    assert str(caught.value).startswith(message)
    number, shown = str(caught.value).splitlines()[1].split(" | ")
    assert text.splitlines()[int(number) - 1] == shown


def test_a_fault_in_json_is_shown_where_it_stands() -> None:
    """As one in YAML."""
    with pytest.raises(BadInputError) as caught:
        load_job(b'{"id": "x",\n "tasks": }', "j.json")
    assert str(caught.value).splitlines()[1:] == ['    2 |  "tasks": }', "      |           ^"]


def test_numbers_in_text_stay_as_they_are_written() -> None:
    """A mode, a ZIP code and an id with zeros in front are text where text is expected."""
    text = "id: x\ntasks: [{command: [install, -m, 0644, 007, 1_000, 0x1f], env: {ZIP: 01067}, labels: {n: 0o17}}]\n"
    [task] = load_job(text.encode(), "j.yaml").tasks
    assert task.command == ["install", "-m", "0644", "007", "1_000", "0x1f"]
    assert (task.env, task.labels) == ({"ZIP": "01067"}, {"n": "0o17"})


def test_numbers_and_days_of_parameters_stay_as_they_are_written() -> None:
    """A ZIP code keeps its zero, a version its last one: as a default, a choice, an item, in a text and in a field."""
    text = """
name: x
params:
  ZIP: {choices: [02142, 010], default: 02142}
  PLAIN: 007
  VERSION: 1.10
  COUNT: 5
  ITEMS: [007, 1_000, 1.10, 3]
  DAY: 2026-01-31
tasks:
  - command: [echo, "{{ params.ZIP }}-{{ params.VERSION }}", 2026-01-31]
    workdir: 0123
    env: {DAY: 2026-01-31}
  - {id: each, for_each: [007, 1.10], command: [echo, "{{ item }}"]}
  - {id: both, matrix: {V: [3.10]}, command: [echo, "{{ matrix.V }}"]}
"""
    job = load_job(text.encode(), "j.yaml")
    assert job.params == {
        "ZIP": "02142",
        "PLAIN": "007",
        "VERSION": "1.10",
        "COUNT": 5,
        "ITEMS": ["007", "1_000", "1.10", 3],
        "DAY": "2026-01-31",
    }
    first, *others = job.tasks
    assert (first.command, first.workdir, first.env["DAY"]) == (
        ["echo", "02142-1.10", "2026-01-31"],
        "0123",
        "2026-01-31",
    )
    assert [task.command for task in others] == [["echo", "007"], ["echo", "1.10"], ["echo", "3.10"]]
    assert [task.env for task in others] == [
        {"ITEM": "007", "item": "007"},
        {"ITEM": "1.10", "item": "1.10"},
        {"V": "3.10"},
    ]


@pytest.mark.parametrize(
    ("field", "got"),
    [
        ("id: 007", "got 007; put it in quotes"),
        ("pool: 2026-01-31", "got 2026-01-31; put it in quotes"),
        ("description: 2026-01-31 12:00:00", "put it in quotes"),
    ],
)
def test_what_is_text_elsewhere_is_said_as_it_is_written(field: str, got: str) -> None:
    """An id is text."""
    ending = "" if field.startswith("id") else "id: x\n"
    with pytest.raises(BadInputError, match=got):
        load_job(f"{field}\n{ending}tasks: [{{command: x}}]\n".encode(), "j.yaml")


def test_the_old_name_of_the_pool_is_read() -> None:
    """Job files of version 0.1 run as they are, and are told of the new name; both names at once are refused."""
    with pytest.warns(FutureWarning, match="queue is called pool"):
        assert load_job(b"id: x\nqueue: gpu\ntasks: [{command: x}]\n", "j.yaml").pool == "gpu"
    with pytest.raises(BadInputError, match="queue: is the old name of pool"):
        load_job(b"id: x\nqueue: gpu\npool: gpu\ntasks: [{command: x}]\n", "j.yaml")


@pytest.mark.parametrize("key", ["id: *p", "name: x\nlabels: *p"])
def test_a_small_file_that_expands_is_refused_at_once(key: str) -> None:
    """A billion laughs: aliases of aliases of aliases, whose text nobody could print."""
    names = "abcdefghijklmnop"
    lines = [f"a: &a [{','.join(['x'] * 9)}]"]
    lines += [f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]" for old, new in pairwise(names)]
    with pytest.raises(BadInputError) as caught:
        load_job("\n".join([*lines, key, "tasks: [{command: *p, env: *p}]"]).encode(), "j.yaml")
    assert len(str(caught.value)) < 10_000


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Not there is something else than not readable."""
    with pytest.raises(NotFoundError, match=r"none\.yaml: there is no such file"):
        read_job(tmp_path / "none.yaml")
    with pytest.raises(BadInputError, match="Is a directory"):
        read_job(tmp_path)


def test_a_command_line_is_a_job_of_one_task() -> None:
    """Options go to the job where it has such a field, else to the task; arguments stay as they are."""
    job = from_command("x", ["echo", "a b"], timeout="10m", priority=3, max_runners=2, env={"A": "1"})
    assert dump(job) == {
        "id": "x",
        "tasks": [{"command": ["echo", "a b"], "env": {"A": "1"}, "timeout": 600}],
        "max_runners": 2,
        "priority": 3,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [({"timeout": "-1"}, "timeout: must be"), ({"foo": 1}, "foo: is not a field"), ({"pool": ""}, "pool: must be")],
)
def test_a_wrong_option_is_named_as_on_the_command_line(options: dict[str, Any], message: str) -> None:
    """Without `tasks[0].`, which nobody wrote."""
    with pytest.raises(BadInputError) as caught:
        from_command("x", ["true"], **options)
    assert str(caught.value).startswith(message)


def test_the_published_schema_is_the_models() -> None:
    """Editors read the file; `air-executor schema > docs/schema/job.schema.json` renews it."""
    assert json.loads(SCHEMA.read_text()) == job_schema()


def test_every_field_is_described_in_the_schema() -> None:
    """What an editor shows while one types."""
    schema = job_schema()
    for model in (schema, *schema["$defs"].values()):
        assert model["additionalProperties"] is False
        for name, field in model["properties"].items():
            assert len(field.get("description", "")) > 3, name


def test_documents_are_jobs() -> None:
    """Jobs stand between lines of ---; empty documents are none, and each problem has its line in the file."""
    one = "id: {}\ntasks: [{{command: x}}]\n"
    text = "---\n" + one.format("a") + "---\n---\n" + one.format("b") + "---\n"
    assert [job.id for job in load_jobs(text.encode(), "j.yaml")] == ["a", "b"]
    with pytest.raises(BadInputError, match="has 2 jobs"):
        load_job(text.encode(), "j.yaml")
    wrong = one.format("a") + "---\n" + one.format("a") + "---\nid: c\ntasks: [{command: x, retries: many}]\n"
    with pytest.raises(BadInputError) as caught:
        load_jobs(wrong.encode(), "j.yaml")
    assert "j.yaml: 2 problems" in str(caught.value)
    assert "id: a is the id of another job of this file, too (line 4, column 5)" in str(caught.value)
    assert 'retries: must be a whole number between 0 and 1000, got "many" (line 8, column 31)' in str(caught.value)


def test_keys_of_the_author() -> None:
    """Keys that begin with x- hold anchors or notes; elsewhere they are as unknown as any other."""
    text = "x-retry: &retry {retries: 2}\nid: a\nx-note: [1]\ntasks:\n  - {<<: *retry, command: x}\n"
    assert load_job(text.encode(), "j.yaml").tasks[0].retries == 2
    with pytest.raises(BadInputError, match=r"tasks\[0\].x-note: is not a field"):
        load_job(b"id: a\ntasks: [{command: x, x-note: 1}]", "j.yaml")


def test_descriptions() -> None:
    """Any number of lines, as they are; a number is text."""
    text = "id: a\ndescription: |\n  One.\n  Two.\ntasks: [{command: x, description: 5}]\n"
    job = load_job(text.encode(), "j.yaml")
    assert (job.description, job.tasks[0].description) == ("One.\nTwo.\n", "5")
    with pytest.raises(BadInputError, match="description: must be text, got"):
        load_job(b"id: a\ndescription: [a, b]\ntasks: [{command: x}]", "j.yaml")


@pytest.mark.parametrize("name", ["j.yaml", "j.json"])
def test_values_keep_their_digits(name: str) -> None:
    """Numbers in `env` and commands are text as the file wrote them; `true` is text in `env`."""
    text = '{"id": "a", "tasks": [{"command": ["sleep", 0.50], "env": {"A": 1.10, "B": 1e3, "C": true, "D": false}}]}'
    task = load_job(text.encode(), name).tasks[0]
    assert task.command == ["sleep", "0.50"]
    assert task.env == {"A": "1.10", "B": "1e3", "C": "true", "D": "false"}


@pytest.mark.parametrize(
    ("word", "field"),
    [
        *((word, "after") for word in ("depends", "needs", "dependsOn", "depends_on")),
        *((word, "command") for word in ("script", "run")),
        ("environment", "env"),
        ("cwd", "workdir"),
        ("volumes", "mounts"),
        ("memory", "resources"),
        ("container", "image"),
        ("if", "when"),
        ("max-retries", "retries"),
        ("name", "id"),
    ],
)
def test_words_of_other_tools_are_translated(word: str, field: str) -> None:
    """The error names our field; that it is missing needs no line of its own."""
    with pytest.raises(BadInputError) as caught:
        load_job(f"id: a\ntasks: [{{{word}: x{', command: x' if field != 'command' else ''}}}]".encode(), "j.yaml")
    first, *others = str(caught.value).splitlines()
    assert first.startswith(f"j.yaml: tasks[0].{word}: is not a field; did you mean {field}? (line 2, column ")
    assert all(line.startswith("    ") for line in others)
    with pytest.raises(BadInputError, match="steps: is not a field; did you mean tasks"):
        load_job(b"id: a\nsteps: [x]", "j.yaml")


def test_a_script_names_its_interpreter() -> None:
    """A first line of #! without a program is refused; any other text is kept as it is."""
    text = "id: a\ntasks:\n  - command: |\n      #!/usr/bin/env python3\n      print(1)\n"
    assert load_job(text.encode(), "j.yaml").tasks[0].command == "#!/usr/bin/env python3\nprint(1)\n"
    with pytest.raises(BadInputError, match="names no interpreter"):
        load_job(b'id: a\ntasks: [{command: "#! \\necho"}]', "j.yaml")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("- {id: a, command: x}\n- {id: b, command: x}\n", "t.yaml"),
        ("x-note: 1\ntasks:\n- {id: a, command: x}\n---\n{id: b, command: x}\n", "t.yaml"),
        ('{"id": "a", "command": "x"}\n\n{"id": "b", "command": "x"}\n', "stdin"),
        ('[{"id": "a", "command": "x"},\n {"id": "b", "command": "x"}]\n', "t.json"),
    ],
)
def test_files_of_tasks(text: str, name: str) -> None:
    """YAML with a list of tasks, or a line of JSON for each."""
    assert [task.id for task in load_tasks(text.encode(), name)] == ["a", "b"]


def test_a_wrong_file_of_tasks() -> None:
    """Each problem with its line."""
    with pytest.raises(BadInputError, match=r"t.yaml: tasks\[1\].cmd: is not a field.*line 3, column 9"):
        load_tasks(b"tasks:\n- {command: x}\n- {cmd: y}\n", "t.yaml")
    with pytest.raises(BadInputError, match="has no tasks"):
        load_tasks(b"# nothing\n", "t.yaml")
    with pytest.raises(BadInputError, match="stdin:2: is not JSON: column 12"):
        load_tasks(b'{"command": "x"}\n{"command":\n', "stdin")

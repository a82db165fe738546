"""`submit`: jobs from files, from stdin and from the command line."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.client import Client
from tests.cli.conftest import Outcome

Air = Callable[..., Outcome]


def test_a_command_becomes_a_job_of_one_task(air: Air, client: Client) -> None:
    """`submit ID -- COMMAND` prints the id, and how to start a manager."""
    done = air("submit", "hello", "--timeout", "1m", "--retries", "2", "-e", "A=b=c", "--", "echo", "-n", "hi")
    assert (done.code, done.out) == (0, "hello\n")
    assert "no manager is running" in done.err
    task = client.status("hello").tasks["_1"]
    assert (task.command, task.timeout, task.retries) == (["echo", "-n", "hi"], 60, 2)
    assert task.env == {"A": "b=c"}


def test_a_taken_id_is_refused_with_4(air: Air) -> None:
    """A second job of the same id fails at once, without a manager."""
    air("submit", "a", "--", "true")
    done = air("submit", "a", "--", "true")
    assert done.code == 4
    assert done.err.startswith("error: job a already exists")
    assert done.err.count("\n") == 1


def test_flags_win_over_the_file(air: Air, client: Client, project: Path) -> None:
    """Flags override the job fields of a file."""
    (project / "job.yaml").write_text("id: j\nmax_runners: 1\ntasks: [{command: 'true', timeout: 5s}]\n")
    assert air("submit", "job.yaml", "--max-runners", "3", "--pool", "gpu").code == 0
    state = client.status("j")
    assert (state.max_runners, state.pool) == (3, "gpu")
    assert state.tasks["_1"].timeout == 5


def test_queue_is_a_deprecated_alias_of_pool(air: Air, client: Client) -> None:
    """The old option still works, with a warning; both together are refused."""
    done = air("submit", "j", "--queue", "gpu", "--", "true")
    assert done.code == 0
    assert "--queue is deprecated; use --pool" in done.err
    assert client.status("j").pool == "gpu"
    assert "--queue" not in air("submit", "--help").out
    both = air("submit", "k", "--queue", "gpu", "--pool", "gpu", "--", "true")
    assert (both.code, "--pool and --queue" in both.err) == (2, True)


def test_flags_of_a_command_are_refused_with_a_file(air: Air, project: Path) -> None:
    """Task fields are set in the file."""
    (project / "job.yaml").write_text("id: j\ntasks: [{command: 'true'}]\n")
    done = air("submit", "job.yaml", "--timeout", "5s")
    assert done.code == 2
    assert "--timeout" in done.err


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"id": "piped", "tasks": [{"command": "true"}]}),
        "id: piped\ntasks: [{command: 'true'}]\n",
        "{id: piped, tasks: [{command: 'true'}]}",
    ],
)
def test_stdin_is_a_job_file(air: Air, client: Client, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """`-` reads the job from stdin, YAML or JSON."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert air("submit", "-").code == 0
    assert client.status("piped").phase == "queued"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["submit", "nothing.yaml"], 3, "nothing.yaml"),
        (["submit", "../x", "--", "true"], 2, "id"),
        (["submit", "a", "--delay", "-1s", "--", "true"], 2, "delay"),
        (["submit", "a", "--env", "NOVALUE", "--", "true"], 2, "NAME=VALUE"),
        (["submit", "a", "--after", "nobody", "--", "true"], 2, "nobody"),
        (["submit", "a"], 3, "a -- COMMAND"),
        (["submit"], 2, "Missing argument"),
        (["submit", "a", "--no-such-flag", "--", "true"], 2, "No such option"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong(
    air: Air, client: Client, arguments: list[str], code: int, said: str
) -> None:
    """The message names the field, path or id, and nothing is submitted."""
    done = air(*arguments)
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
    assert list(client.all()) == []


def test_each_problem_of_a_job_file_has_its_line(air: Air, project: Path) -> None:
    """Several problems are printed as a list; control characters in a name are escaped."""
    (project / "job.yaml").write_text('id: .hidden\ntasks: [{command: "true", retries: many, "\\e[2J": 1}]\n')
    done = air("submit", "job.yaml")
    head, *problems = done.err.splitlines()
    assert (done.code, head) == (2, "error: job.yaml: 3 problems")
    named = [line.split(":")[0] for line in problems if line.startswith("  ") and not line.startswith("    ")]
    assert named == ["  id", "  tasks[0].retries", "  tasks[0].\\x1b[2J"]
    assert sum(line.startswith(("    1 | ", "    2 | ")) for line in problems) == 3
    assert "\x1b" not in done.err


def test_names_that_look_secret_are_warned_of(air: Air) -> None:
    """`env` is stored in plain text, so `submit` warns about a variable that looks like a secret, without its value."""
    done = air("submit", "a", "-e", "API_TOKEN=hunter2", "--", "true")
    assert done.code == 0
    assert "API_TOKEN" in done.err
    assert "hunter2" not in done.err


def test_memory_that_cannot_grow_is_warned_of(air: Air, project: Path) -> None:
    """`memory_growth` without retries has no effect: `submit` warns and names the tasks."""
    text = """id: grow
defaults: {command: "true", resources: {memory: 64Mi, memory_growth: 2}}
tasks: [{id: a}, {id: b, retries: 1}, {id: c}]
"""
    (project / "job.yaml").write_text(text)
    done = air("submit", "job.yaml")
    assert done.code == 0
    assert "a and 1 more: `memory_growth` has no effect because `retries` is 0" in done.err
    (project / "job.yaml").write_text(text.replace("id: grow", "id: fine").replace("command:", "retries: 1, command:"))
    assert "warning" not in air("submit", "job.yaml").err


def test_json_has_the_names_of_the_state_file(air: Air) -> None:
    """`--json` may precede or follow the command."""
    assert json.loads(air("--json", "submit", "a", "--", "true").out).keys() == {"id", "uid", "phase"}
    assert json.loads(air("submit", "b", "--json", "--", "true").out)["id"] == "b"

"""What is said of tasks that have failed: what they ran, whether that matters, and what to type next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from air_executor.cli.app import run
from air_executor.client import Client
from air_executor.model.state import Done, TaskState
from tests.cli.conftest import Outcome
from tests.cli.made_jobs import create
from tests.cli.screen import Screen
from tests.records import make_task

Call = Callable[..., Outcome]


def failed(name: str, command: str | list[str], **fields: Any) -> TaskState:  # noqa: ANN401 - any field
    """Return a task that has failed with exit code 3."""
    status = Done("failed", "error", "2026-01-31T12:00:00.000Z", 3)
    return make_task(name, {"command": command, **fields}, queued_by=None, status=status)


def make(project: Path, job: str, **fields: Any) -> None:  # noqa: ANN401 - any field
    """Write a job file."""
    (project / f"{job}.yaml").write_text(json.dumps({"id": job, "on_failure": "continue", **fields}))


def test_the_commands_to_type_next_mean_the_same_place_and_backend(call: Call, project: Path) -> None:
    """They repeat what was given on the command line, and work as they are printed."""
    make(project, "svc", tasks=[{"id": "a", "command": "test -e mended"}, {"id": "b", "command": "true"}])
    given = ("--state-dir", "other dir/state", "--backend", "local")
    done = call("run", "svc.yaml", *given)
    look, again = (text.removeprefix("next: ").strip() for text in done.err.splitlines()[-2:])
    program = "air-executor --state-dir 'other dir/state'"
    assert look == f"{program} logs svc a"
    assert again == f"{program} retry svc && {program} run svc --backend local"
    (project / "other dir" / "mended").touch()
    for command in again.split(" && "):
        last = call(*shlex.split(command)[1:])
    assert (done.code, last.code) == (1, 0)


def test_the_way_to_go_on_names_place_and_backend(project: Path) -> None:
    """After Ctrl-C, too."""
    with Screen("run", "long", "--state-dir", "there", "--backend", "local", "--", "sleep", "60") as screen:
        screen.until(lambda text: "▸" in text)
        screen.press("\x03")
        assert screen.end() == 130
        command = "air-executor --state-dir there run long --backend local"
        assert f"to continue: `{command}`" in screen.all_text.replace("\n", "")


def test_a_failed_task_says_what_it_ran(call: Call, project: Path) -> None:
    """On one line, cut, and harmless for a terminal; in the summary of `run`."""
    hostile = "set -e\n  exit 3 # \x1b[31m"
    make(project, "etl", tasks=[{"id": "a", "command": hostile}, {"id": "b", "command": f"exit 4 # {'x' * 900}"}])
    err = call("run", "etl.yaml").err.splitlines()
    assert err[err.index("✗ etl/a failed: exit code 3") + 1] == r"    $ set -e exit 3 # \x1b[31m"
    long = err[err.index("✗ etl/b failed: exit code 4") + 1]
    assert (len(long), long[:14], long[-1]) == (206, "    $ exit 4 #", "…")


def test_status_and_explain_say_what_a_failed_task_ran(project: Path, client: Client, air: Call) -> None:
    """Below its line, within the terminal; nothing of tasks that have not failed, and of many only the first."""
    good = failed("good", "true")
    good.status = Done("succeeded", "ok", "2026-01-31T12:00:00.000Z", 0)
    many = [failed(f"f{number}", ["python", "one file.py", f"{number}"]) for number in range(30)]
    create(client, "etl", good, *many, failed("long", f"exit 3 # {'x' * 300}"), phase="failed")
    out = air("status", "etl").out
    assert "$ true" not in out
    assert out.count("  $ python 'one file.py'") == 20
    assert air("status", "etl", "--phase", "failed", "--all").out.count("  $ python 'one file.py'") == 30
    assert "\ncommand: python 'one file.py' 7\n" in air("explain", "etl", "f7").out
    with Screen("status", "etl", "--phase", "failed", "--all") as screen:
        assert screen.end() == 0
        cut = [text.rstrip() for text in screen.all_text.splitlines() if "$ exit 3" in text]
        assert [(len(text), text[-1]) for text in cut] == [(80, "…")]
        assert "\nxxx" not in screen.all_text


def test_more_failed_tasks_than_shown_name_the_command_that_lists_them(call: Call, project: Path) -> None:
    """And nothing else."""
    make(project, "etl", tasks=[{"id": f"t{number}", "command": "exit 3"} for number in range(7)], max_runners=4)
    done = call("run", "etl.yaml", "--state-dir", "there")
    hint = "air-executor --state-dir there status etl --phase failed"
    assert f"… and 2 more failed tasks: {hint}" in done.err.splitlines()
    assert run(shlex.split(hint)[1:]) == 0


def test_an_allowed_failure_does_not_look_like_one(call: Call, air: Call, project: Path) -> None:
    """It is called allowed wherever it is shown, and comes after those that count."""
    lint = {"id": "lint", "command": "exit 3", "allow_failure": True}
    make(project, "u", tasks=[lint, {"id": "b", "command": "true"}])
    done = call("run", "u.yaml")
    assert done.code == 0
    assert "✗ u/lint failed (allowed): exit code 3" in done.err
    assert "lint failed (allowed) in " in done.err
    assert "u succeeded: 1 failed (allowed), 1 succeeded" in done.err
    (row,) = [text for text in air("status", "u").out.splitlines() if text.startswith("lint ")]
    assert row.split("  ")[1] == "failed (allowed)"
    make(project, "v", tasks=[lint, {"id": "bad", "command": "exit 4"}])
    err = call("run", "v.yaml").err
    assert err.index("✗ v/bad failed: ") < err.index("✗ v/lint failed (allowed)")
    assert "next: air-executor logs v bad\n" in err


def test_what_waits_for_a_manager_names_the_place(air: Call, project: Path) -> None:
    """What `submit` and `cancel` print to type next means the same state directory."""
    place = ("--state-dir", "there")
    said = air("submit", "j", *place, "--", "true").err
    assert "(`air-executor manager --state-dir there`)" in said
    command = "air-executor --state-dir there run j"
    assert f"to run this job: `{command}`" in said
    assert f"(`air-executor manager --state-dir there`, or `{command}`)" in air("pause", "j", *place).err

"""The in-task API: what it writes, what it refuses, and where it can be imported."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from air_executor import task

SOURCE = Path(task.__file__)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files and variables that a task finds."""
    for name in ("queue.jsonl", "result.json"):
        (tmp_path / name).touch()
    monkeypatch.setenv("AIR_QUEUE", str(tmp_path / "queue.jsonl"))
    monkeypatch.setenv("AIR_RESULT", str(tmp_path / "result.json"))
    monkeypatch.setenv("AIR_INPUTS", str(tmp_path / "inputs.json"))
    monkeypatch.setenv("AIR_OUTCOMES", str(tmp_path / "outcomes.json"))
    return tmp_path


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """The folder in which the manager leaves the API as one file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy(SOURCE, folder / "air_executor.py")
    return folder


def queued(out: Path) -> list[Any]:
    """Return what the queue file holds."""
    return [json.loads(line) for line in (out / "queue.jsonl").read_text().splitlines()]


def test_tasks_are_appended_in_order(out: Path) -> None:
    """Each task becomes one line, after the lines that are there."""
    task.queue_tasks([{"command": "a\nb"}, {"command": ["é", "\udcff"]}])
    task.queue_tasks({"command": str(number)} for number in range(2))
    task.queue_tasks([])
    assert queued(out) == [{"command": "a\nb"}, {"command": ["é", "\udcff"]}, {"command": "0"}, {"command": "1"}]


def test_a_job_is_one_line(out: Path) -> None:
    """A whole job is queued as a mapping with the key `job`."""
    task.queue_job({"id": "next", "tasks": [{"command": "x"}]})
    assert queued(out) == [{"job": {"id": "next", "tasks": [{"command": "x"}]}}]


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ("echo", TypeError, "task 1 must be a mapping"),
        (None, TypeError, "task 1 must be a mapping"),
        ({"command": {1, 2}}, TypeError, "task 1 cannot be written as JSON"),
        ({"command": b"x"}, TypeError, "task 1 cannot be written as JSON"),
        ({"delay": float("nan")}, ValueError, "task 1 cannot be written as JSON"),
    ],
)
def test_one_bad_task_queues_nothing(out: Path, bad: object, error: type[Exception], words: str) -> None:
    """The message names the place in the list, and the good tasks before it are not written either."""
    with pytest.raises(error, match=words):
        task.queue_tasks([{"command": "good"}, cast("Any", bad)])
    assert queued(out) == []


def test_a_circle_is_refused(out: Path) -> None:
    """A task that holds itself is a ValueError, not a crash."""
    circle: dict[str, Any] = {}
    circle["env"] = circle
    with pytest.raises(ValueError, match="task 0"):
        task.queue_tasks([circle])
    assert queued(out) == []


def test_a_single_mapping_is_refused(out: Path) -> None:
    """A task without the list around it must not be taken for a list of its keys."""
    with pytest.raises(TypeError, match="put it in a list"):
        task.queue_tasks(cast("Any", {"command": "x"}))
    with pytest.raises(TypeError, match="job must be a mapping"):
        task.queue_job(cast("Any", [{"id": "x"}]))


def test_concurrent_writers_do_not_mix(out: Path) -> None:
    """Lines that several writers append at once stay whole, and each writer's stay together."""

    def write(writer: int) -> None:
        for batch in range(20):
            task.queue_tasks([{"command": "x" * 3000, "env": {"w": str(writer), "b": str(batch)}}] * 3)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    lines = queued(out)
    assert len(lines) == 4 * 20 * 3
    assert all(lines[i]["env"] == lines[i + 1]["env"] == lines[i + 2]["env"] for i in range(0, len(lines), 3))


def test_the_last_result_wins_and_nothing_else_stays(out: Path) -> None:
    """A result replaces the one before, and no file is left beside it."""
    task.set_result({"n": 1})
    task.set_result([1, "zwei", None])
    assert json.loads((out / "result.json").read_bytes()) == [1, "zwei", None]
    assert sorted(os.listdir(out)) == ["queue.jsonl", "result.json"]


def test_the_result_limit_is_exact(out: Path) -> None:
    """16 KiB of JSON are kept, one byte more is refused and leaves the former result."""
    task.set_result("x" * (task.RESULT_LIMIT - 2))
    with pytest.raises(ValueError, match="the maximum is 16384"):
        task.set_result("y" * (task.RESULT_LIMIT - 1))
    with pytest.raises(TypeError, match="the result cannot be written as JSON"):
        task.set_result(object())
    assert (out / "result.json").stat().st_size == task.RESULT_LIMIT
    assert "x" in (out / "result.json").read_text()


def test_a_result_that_cannot_be_written_is_an_error(out: Path) -> None:
    """The error reaches the task, and what was staged is removed."""
    (out / "result.json").unlink()
    (out / "result.json").mkdir()
    with pytest.raises(OSError, match=r"result\.json"):
        task.set_result(1)
    assert sorted(os.listdir(out)) == ["queue.jsonl", "result.json"]


def test_inputs_are_a_mapping_whatever_is_there(out: Path) -> None:
    """No file and an empty file mean that nothing has succeeded yet."""
    assert task.inputs() == {}
    (out / "inputs.json").write_text("\n")
    assert task.inputs() == {}
    (out / "inputs.json").write_text('{"discover": {"packages": 2}}')
    assert task.inputs() == {"discover": {"packages": 2}}


def test_outcomes_are_a_mapping_whatever_is_there(out: Path) -> None:
    """No file and an empty one are no outcomes; otherwise it is what the manager wrote."""
    assert task.outcomes() == {}
    (out / "outcomes.json").write_text('{"a": {"phase": "failed"}}')
    assert task.outcomes() == {"a": {"phase": "failed"}}


def test_context_tells_who_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """The context is what the runner's environment says, the attempt as a number."""
    for name, value in [("JOB_ID", "j"), ("TASK_ID", "t"), ("RUN_ID", "0-1"), ("ATTEMPT", "2"), ("WORKSPACE", "/w")]:
        monkeypatch.setenv(f"AIR_{name}", value)
    assert task.context() == {"job_id": "j", "task_id": "t", "run_id": "0-1", "attempt": 2, "workspace": "/w"}


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: task.queue_tasks([]), "AIR_QUEUE"),
        (lambda: task.queue_job({}), "AIR_QUEUE"),
        (lambda: task.set_result(1), "AIR_RESULT"),
        (task.inputs, "AIR_INPUTS"),
        (task.outcomes, "AIR_OUTCOMES"),
        (task.context, "AIR_JOB_ID"),
    ],
)
def test_outside_of_a_task_it_says_so(call: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    """Without the variables nothing is guessed."""
    for variable in [key for key in os.environ if key.startswith("AIR_")]:
        monkeypatch.delenv(variable)
    with pytest.raises(RuntimeError, match=f"{name} is not set; call this inside a task"):
        call()


def test_the_file_is_python_3_8() -> None:
    """Images bring old interpreters, so the syntax stays within 3.8."""
    ast.parse(SOURCE.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("minor", range(8, 15))
def test_the_file_runs_on_older_and_newer_interpreters(minor: int, bin_dir: Path, tmp_path: Path) -> None:
    """Each interpreter that this machine has can queue a task with the one file."""
    python = shutil.which(f"python3.{minor}")
    # A version manager's stand-in for what is not selected is found too, and fails.
    if python is None or subprocess.run([python, "-c", ""], capture_output=True, check=False, timeout=60).returncode:
        pytest.skip(f"there is no python3.{minor} here")
    run_with_only_the_file(python, bin_dir, tmp_path)


def run_with_only_the_file(python: str, bin_dir: Path, out: Path) -> None:
    """Queue a task in an interpreter that sees the standard library and the one file."""
    code = "from air_executor import queue_tasks, inputs; queue_tasks([{'command': str(inputs())}])"
    env = {"PYTHONPATH": str(bin_dir), "AIR_QUEUE": str(out / "queue.jsonl"), "AIR_INPUTS": str(out / "none.json")}
    subprocess.run([python, "-S", "-B", "-W", "error", "-c", code], env=env, check=True, timeout=60, cwd=out)
    assert queued(out) == [{"command": "{}"}]


def test_the_one_file_is_enough(bin_dir: Path, tmp_path: Path) -> None:
    """Without the package on the path, the file in the folder is what `import air_executor` finds."""
    run_with_only_the_file(sys.executable, bin_dir, tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder in which a package of the same name is installed."""
    package = tmp_path / "site" / "air_executor"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .task import queue_tasks\nREAL = __name__\n")
    (package / "cli.py").write_text("from . import REAL\n")
    shutil.copy(SOURCE, package / "task.py")
    return package.parent


def test_the_file_steps_aside_for_the_package(bin_dir: Path, site: Path, tmp_path: Path) -> None:
    """Where the package is installed, the file must not hide its modules, however it is imported."""
    code = (
        "from air_executor import queue_tasks, REAL\n"
        "import air_executor.cli, air_executor, sys\n"
        "assert air_executor.cli.REAL == REAL == 'air_executor'\n"
        "assert sys.modules['air_executor'] is air_executor\n"
        "assert air_executor.__file__.endswith('__init__.py')\n"
        "print(queue_tasks.__module__)\n"
    )
    env = {"PYTHONPATH": f"{bin_dir}:{site}"}
    command = [sys.executable, "-S", "-B", "-W", "error", "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("air_executor.task\n", "")


def test_the_package_s_program_runs(bin_dir: Path, site: Path, tmp_path: Path) -> None:
    """`python -m air_executor` in a task is the installed program; where none is installed, it says so."""
    (site / "air_executor" / "__main__.py").write_text("import sys; print('program', *sys.argv[1:])\n")

    def run(path: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", "-B", "-W", "error", "-m", "air_executor", "submit"]
        env = {"PYTHONPATH": path}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)

    assert run(f"{bin_dir}:{site}").stdout == "program submit\n"
    alone = run(str(bin_dir))
    assert alone.returncode == 1
    assert "No module named air_executor" in alone.stderr


def test_the_installed_package_wins_over_the_file(bin_dir: Path, tmp_path: Path) -> None:
    """The same with Air-Executor as it is installed here, be it from a wheel or editable."""
    code = "import air_executor.model.names, air_executor; print(air_executor.__file__)"
    env = {**os.environ, "PYTHONPATH": str(bin_dir)}
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert done.stdout.strip() == str(SOURCE.parent / "__init__.py"), done.stderr


def test_a_package_that_cannot_be_imported_says_why(bin_dir: Path, site: Path, tmp_path: Path) -> None:
    """The package's own error comes out; the file does not quietly take its place."""
    (site / "air_executor" / "__init__.py").write_text("raise ImportError('broken installation')\n")
    env = {"PYTHONPATH": f"{bin_dir}:{site}"}
    command = [sys.executable, "-S", "-B", "-c", "import air_executor"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert done.returncode == 1
    assert "broken installation" in done.stderr


def test_import_brings_nothing_along(bin_dir: Path, tmp_path: Path) -> None:
    """A task pays for what it uses: importing the API loads nothing that the interpreter had not loaded.

    The look for the package, which only the file copied under that name does, is not free; it is left out here.
    """
    code = "import os, sys; before = set(sys.modules); import task; print(sorted(set(sys.modules) - before))"
    env = {"PYTHONPATH": str(SOURCE.parent)}
    command = [sys.executable, "-S", "-B", "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path)
    assert done.stdout.strip() == "['__future__', 'task']"

"""The examples, run from the command line, do what their comments say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from air_executor.store.job_file import read_job
from tests.engine import require_python_image
from tests.examples.small_census import STDLIB, shrink
from tests.forked import Program


def run(project: Path, example: str, **settings: str) -> dict[str, Any]:
    """Run an example's job file to its end and return the job's state; it must have succeeded."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")} | settings
    air(project, environment, "run", f"examples/{example}.yaml")
    state = json.loads((project / ".air-executor/jobs" / example / "state.json").read_text())
    assert state["phase"] == "succeeded"
    return dict(state)


def air(project: Path, environment: dict[str, str], *words: str) -> str:
    """Run `air-executor`, which must succeed, and return its output."""
    program = Program(words, cwd=project, env=environment)
    out, err = program.communicate()
    assert program.returncode == 0, out + err
    return str(out)


def by_id(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a job's tasks by their ids."""
    return {task["id"]: task for task in state["tasks"]}


def workspace(project: Path, job: str) -> Path:
    """Return the folder that the job's tasks share."""
    return project / ".air-executor/jobs" / job / "workspace"


@pytest.fixture
def docker_settings(project: Path) -> dict[str, str]:
    """Settings for an engine that has the image; containers have names of this test's own."""
    image = require_python_image()
    job = project / "examples/containers.yaml"
    job.write_text(job.read_text().replace("python:3.12-slim", image))
    return {
        "AIR_BACKEND": "docker",
        "AIR_RUNNER_IMAGE": image,
        "AIR_NAME_PREFIX": f"ex{os.getpid() % 10**8}",
        "AIR_DOCKER_NETWORK": "air-test",
    }


@pytest.mark.docker
def test_containers_see_what_they_need(project: Path, docker_settings: dict[str, str]) -> None:
    """Never root, only the workspace and /tmp writable, and the project folder readable."""
    state = run(project, "containers", **docker_settings)
    expected = [file.read_bytes().count(b"\n") for file in (project / "examples").glob("*.py")]
    assert by_id(state)["add-up"]["result"] == {"files": len(expected), "lines": sum(expected)}
    (log,) = (project / ".air-executor/jobs/containers/runs").glob("*-look-around/output.log")
    user, *folders = log.read_text().splitlines()
    assert user.endswith(" in /air/workspace")
    assert not user.startswith("user 0 ")
    writable = {folder: text == "can be written to" for folder, _, text in (line.partition(" ") for line in folders)}
    assert writable == {"/air/workspace": True, "/tmp": True, "/usr": False}  # noqa: S108 - the container's


def test_containers_run_without_containers(project: Path) -> None:
    """The same file is a job for the local backend."""
    state = run(project, "containers")
    assert by_id(state)["add-up"]["result"]["files"] == len(list((project / "examples").glob("*.py")))


@pytest.fixture
def a_part(project: Path) -> Path:
    """A small part of the standard library, which the census takes for all of it; its limit is as small."""
    return shrink(project)


@pytest.fixture
def all_of_it(project: Path) -> Path:
    """Return the standard library."""
    return STDLIB


@pytest.mark.timeout(300)
@pytest.mark.parametrize("library", ["a_part", pytest.param("all_of_it", marks=pytest.mark.nightly)])
def test_census_counts_every_module_once(project: Path, request: pytest.FixtureRequest, library: str) -> None:
    """However the work was divided, the total is what one pass over the standard library finds."""
    stdlib: Path = request.getfixturevalue(library)
    state = run(project, "census")
    tasks = by_id(state)
    assert {task["phase"] for task in state["tasks"]} == {"succeeded"}
    assert {task["queued_by"] for task in state["tasks"]} > {None, "discover"}, "no task was split"

    packages = [folder for folder in stdlib.iterdir() if folder.is_dir() and folder.name.isidentifier()]
    files = [*stdlib.glob("*.py"), *(file for package in packages for file in package.rglob("*.py"))]
    total = json.loads((workspace(project, "census") / "census.json").read_text())["total"]
    assert total["modules"] == len(files)
    assert total["lines"] == sum(file.read_bytes().count(b"\n") for file in files)
    assert tasks["merge"]["result"] == {"packages": tasks["discover"]["result"]["packages"], **total}
    assert "| total " in (workspace(project, "census") / "census.md").read_text()


@pytest.mark.docker
@pytest.mark.timeout(300)
@pytest.mark.parametrize("library", ["a_part", pytest.param("all_of_it", marks=pytest.mark.nightly)])
def test_census_runs_in_containers(
    project: Path, docker_settings: dict[str, str], request: pytest.FixtureRequest, library: str
) -> None:
    """The same job, in containers, counts the standard library of the image."""
    request.getfixturevalue(library)
    state = run(project, "census", **docker_settings)
    tasks = by_id(state)
    assert {task["phase"] for task in state["tasks"]} == {"succeeded"}
    assert tasks["merge"]["result"]["packages"] == tasks["discover"]["result"]["packages"] > 1
    assert tasks["merge"]["result"]["modules"] > (100 if library == "all_of_it" else 30)
    assert "| total " in (workspace(project, "census") / "census.md").read_text()


def test_agent_splits_its_work_and_finds_the_answer(project: Path) -> None:
    """An answer deep in a long text is found by a worker that another worker queued."""
    answer = "When the manager crashes, its task and the runner go on, and no queue is lost."
    (project / "README.md").write_text("# Readme\n\nNothing here.\n")
    (project / "CHANGELOG.md").write_text("# Changelog\n\nNothing either.\n")
    (project / "docs").mkdir()
    (project / "docs/long.md").write_text("# Long\n\n" + "Some words about birds.\n\n" * 300 + answer + "\n")
    state = run(project, "agent")
    tasks = by_id(state)
    report = (workspace(project, "agent") / "report.md").read_text()
    assert report.splitlines()[2].startswith(f"- {answer} (docs/long.md:")
    (found,) = (task for task in state["tasks"] if (task.get("result") or {}).get("sentence") == answer)
    assert tasks[found["queued_by"]]["queued_by"] != "plan", "the answer was not deep in the tree"


def test_pipeline_retries_and_cleans_up(project: Path) -> None:
    """The first step succeeds at its second attempt, `alert` is skipped, and `clean-up` removes its file."""
    tasks = by_id(run(project, "pipeline"))
    assert tasks["fetch"]["runs"] == 2
    assert tasks["alert"]["phase"] == "skipped"
    assert tasks["clean-up"]["phase"] == "succeeded"
    assert tasks["summarize"]["result"]["files"] > 1
    assert [file.name for file in sorted(workspace(project, "pipeline").iterdir())] == ["biggest.txt", "published.txt"]
    assert len((workspace(project, "pipeline") / "published.txt").read_text().splitlines()) == 5


def test_files_are_listed_and_worked_through(project: Path) -> None:
    """The job of the page on costs: a hundred tasks, ten at a time, and its report says what a pool would have cost."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
    environment |= {"AIR_MAX_RUNNERS": "10", "AIR_COST_RUNNER_HOUR": "0.05"}
    air(project, environment, "run", "examples/files.yaml")
    report = json.loads(air(project, environment, "report", "--json"))
    total, pool = report["total"], report["pool"]
    assert (total["runs"], total["succeeded"]) == (101, 101)
    assert 100 <= total["work_seconds"] <= total["runner_seconds"]
    assert total["cost"] == pytest.approx(total["runner_seconds"] * 0.05 / 3600)
    assert pool["size"] <= 10, "whatever holds us up makes ours wait longer, so a smaller pool keeps up"
    assert pool["window_seconds"] * pool["size"] == pytest.approx(pool["busy_seconds"] + pool["idle_seconds"])


def test_the_bursts_are_a_tenth_of_the_real_ones(project: Path) -> None:
    """Work and waits as the page on costs has them; it takes three minutes, so only the file is looked at."""
    job = read_job(str(project / "examples/bursts.yaml"))
    assert [(task.command, task.delay or 0) for task in job.tasks] == [
        ("sleep 0.5", 0),
        ("sleep 0.3", 0.5 + 60),
        ("sleep 0.5", 0.5 + 60 + 0.3 + 120),
    ]

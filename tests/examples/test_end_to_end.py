"""The examples do, from the command line, what their comments say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest


def run(project: Path, example: str) -> dict[str, Any]:
    """Run an example's job file to its end and return the job's state; it must have succeeded."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
    command = [sys.executable, "-m", "air_executor", "run", f"examples/{example}.yaml"]
    ended = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    state = json.loads((project / ".air-executor/jobs" / example / "state.json").read_text())
    assert state["phase"] == "succeeded"
    return dict(state)


def by_id(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a job's tasks by their ids."""
    return {task["id"]: task for task in state["tasks"]}


def workspace(project: Path, job: str) -> Path:
    """Return the folder that the job's tasks share."""
    return project / ".air-executor/jobs" / job / "workspace"


@pytest.mark.timeout(300)
def test_census_counts_every_module_once(project: Path) -> None:
    """However the work was divided, the total is what one pass over the standard library finds."""
    state = run(project, "census")
    tasks = by_id(state)
    assert {task["phase"] for task in state["tasks"]} == {"succeeded"}
    assert {task["queued_by"] for task in state["tasks"]} > {None, "discover"}, "no task was split"

    stdlib = Path(sysconfig.get_paths()["stdlib"])
    packages = [folder for folder in stdlib.iterdir() if folder.is_dir() and folder.name.isidentifier()]
    files = [*stdlib.glob("*.py"), *(file for package in packages for file in package.rglob("*.py"))]
    total = json.loads((workspace(project, "census") / "census.json").read_text())["total"]
    assert total["modules"] == len(files)
    assert total["lines"] == sum(file.read_bytes().count(b"\n") for file in files)
    assert tasks["merge"]["result"] == {"packages": tasks["discover"]["result"]["packages"], **total}
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
    """The first step succeeds at its second attempt, nobody is alerted, and what lay around is gone."""
    tasks = by_id(run(project, "pipeline"))
    assert tasks["fetch"]["runs"] == 2
    assert tasks["alert"]["phase"] == "skipped"
    assert tasks["clean-up"]["phase"] == "succeeded"
    assert tasks["summarise"]["result"]["files"] > 1
    assert [file.name for file in sorted(workspace(project, "pipeline").iterdir())] == ["biggest.txt", "published.txt"]
    assert len((workspace(project, "pipeline") / "published.txt").read_text().splitlines()) == 5

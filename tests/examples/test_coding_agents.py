"""The loop of a coding agent does what it says, with a scripted agent in place of one that thinks."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from air_executor.client import Client
from tests.cli.conftest import Outcome, air, client, eventually, project
from tests.decisions.test_worktree import git
from tests.examples.conftest import EXAMPLES
from tests.forked import DEVNULL, Program

__all__ = ["air", "client", "project"]
Air = Callable[..., Outcome]
STAND_IN = Path(__file__).with_name("stand_in_agent.py")


@pytest.fixture
def calls(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the example in it; return the file in which the agent notes its calls."""
    shutil.copytree(EXAMPLES / "agents", project / "examples/agents")
    for path in (project / "examples/agents").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(
            text.replace("retry_delay: 1m", "retry_delay: 0").replace("secrets: [ANTHROPIC_API_KEY]\n", "\n")
        )
    (project / ".gitignore").write_text("/.air-executor/\n__pycache__/\n")
    git(project, "init", "-q", "-b", "main")
    git(project, "add", ".")
    git(project, "commit", "-qm", "start")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATIENCE", "1")
    return tmp_path / "calls"


def agent_calls(calls: Path) -> list[str]:
    """Return what the agent was asked, sorted."""
    return sorted(calls.read_text(encoding="utf-8").splitlines())


WHOLE = ["plan", "review", "review", "work add one", "work add three", "work add two"]
GOAL = ("-p", "GOAL=count", "-p", f"AGENT={sys.executable} {STAND_IN}")


def asks(air: Air, job: str) -> None:
    """Wait until a loop has come to its question."""
    eventually(lambda: 'task ok asks "' in air("explain", job, "ok").out, "the question")


@pytest.mark.parametrize("name", ["claude", "generic", pytest.param("containers", marks=pytest.mark.nightly)])
def test_the_loop(air: Air, project: Path, calls: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It plans, works in worktrees, reviews twice, asks, and merges only then. It waits at a usage limit."""
    if name == "generic":
        monkeypatch.setenv("STAND_IN", "plain")
    calls.with_name("limit-once").touch()
    job = f"agent-{name}-1"
    air("submit", f"examples/agents/{name}.yaml", *GOAL)
    with RunningManager(project):
        asks(air, job)
        assert not (project / "one.txt").exists()
        tasks = Client(project / ".air-executor").status(job).tasks
        assert sum(task.again for task in tasks.values()) == 1
        asked = agent_calls(calls)
        assert len(asked) == len(WHOLE) + 1
        assert sorted(set(asked)) == sorted(set(WHOLE))
        if name != "generic":
            assert sum(one.reported["usd"] for task in tasks.values() for one in task.attempts) == 0.5 * len(asked)
        assert air("approve", job, "ok").code == 0
        assert air("wait", job).code == 0
    assert [(project / f"{n}.txt").read_text() for n in ("one", "two", "three")] == ["one\n", "two\n", "three\n"]
    assert git(project, "worktree", "list").count("\n") == 0
    assert git(project, "status", "--porcelain") == ""


class RunningManager:
    """A manager of the project in a process of its own."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self.process = self._begin()

    def _begin(self) -> Program:
        env = {**os.environ, "AIR_HTTP_PORT": "0"}
        return Program(["manager"], cwd=self._project, env=env, stdout=DEVNULL, stderr=DEVNULL)

    def __enter__(self) -> Self:
        return self

    def kill(self) -> None:
        """Kill it as a laptop that runs out of power does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def again(self) -> None:
        """Start another one."""
        self.process = self._begin()

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


def test_what_the_agent_does_is_seen_while_it_works(air: Air, project: Path, calls: Path) -> None:
    """So its `stall_timeout` stops no agent that works for long."""
    calls.with_name("hold").touch()
    air("submit", "examples/agents/claude.yaml", *GOAL)
    with RunningManager(project):
        eventually(lambda: "I'll edit it. Edit" in air("logs", "agent-claude-1", "plan").out, "the agent's words")
        calls.with_name("hold").unlink()
        air("cancel", "agent-claude-1")
        air("wait", "agent-claude-1")


def test_a_budget_pauses_and_asks(air: Air, client: Client, project: Path, calls: Path) -> None:
    """Beyond it nothing starts; explain says what to type, and a larger one goes on."""
    path = project / "examples/agents/claude.yaml"
    path.write_text(path.read_text().replace("{usd: 5}", "{usd: 1}"))
    air("submit", str(path), *GOAL)
    with RunningManager(project):
        eventually(lambda: client.status("agent-claude-1").phase == "paused", "the pause")
        assert "--budget usd=" in air("explain", "agent-claude-1").out
        assert air("resume", "agent-claude-1", "--budget", "usd=9").code == 0
        asks(air, "agent-claude-1")
        assert air("reject", "agent-claude-1", "ok").code == 0
        assert air("wait", "agent-claude-1").code == 1
    assert not (project / "one.txt").exists()


def test_it_goes_on_after_a_kill_and_a_failure(air: Air, client: Client, project: Path, calls: Path) -> None:
    """A manager that is killed in the middle, and a worker that fails: each step is queued once, and done."""
    calls.with_name("fail-once").touch()
    air("submit", "examples/agents/claude.yaml", *GOAL)
    with RunningManager(project) as running:
        eventually(calls.exists, "the first call")
        running.kill()
        running.again()
        asks(air, "agent-claude-1")
        tasks = client.status("agent-claude-1").tasks
        assert sorted(tasks) == sorted(
            ["merge", "ok", "plan", "review", "review-2", "work-1-1", "work-1-2", "work-2-1"]
        )
        assert air("approve", "agent-claude-1", "ok").code == 0
        assert air("wait", "agent-claude-1").code == 0
    assert (project / "three.txt").exists()


def test_each_file_has_its_test() -> None:
    """None is left out."""
    assert sorted(path.stem for path in (EXAMPLES / "agents").glob("*.yaml")) == ["claude", "containers", "generic"]

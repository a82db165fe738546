"""A project folder with managers in processes of their own, as a user would have them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.model.records import Op, Request
from tests.conftest import wait_for
from tests.crash import processes
from tests.forked import Program

PATIENCE = 120.0
"""Seconds; a manager needs about one to start."""


def gated(task: str, **fields: object) -> dict[str, object]:
    """Return a task that notes each of its runs in `<task>.log` and ends when `<task>.gate` exists."""
    command = f"echo $AIR_RUN_ID >> {task}.log; while [ ! -e {task}.gate ]; do sleep 0.02; done"
    return {"id": task, "command": command, "grace": 1, **fields}


class Project:
    """A folder with a state directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(parents=True, exist_ok=True)
        self.state_dir = f"{root}/.air-executor"
        self.client = Client(self.state_dir)
        self._managers: list[Program] = []

    # Managers

    def start(self, *flags: str, **settings: str) -> Program:
        """Start a manager with settings in its environment; it may still be on its way when this returns."""
        words = ["--state-dir", self.state_dir, "manager", "--poll-interval", "0.05", "--max-runners", "4"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
        log = f"{self.root}/manager.log"
        environ |= {"AIR_HTTP_PORT": "0", **settings}
        manager = Program([*words, *flags], cwd=str(self.root), env=environ, stdout=log, stderr=log)
        self._managers.append(manager)
        return manager

    @contextmanager
    def managed(self, *flags: str) -> Iterator[Program]:
        """Manage the directory for as long as the block takes, then stop cleanly."""
        manager = self.start(*flags)
        yield manager
        assert self.stop(manager) == 0, self.log()

    def stop(self, manager: Program) -> int:
        """SIGTERM and the exit code."""
        wait_for(lambda: self.record().get("pid") == manager.pid or manager.poll() is not None, PATIENCE, "its start")
        manager.terminate()
        return manager.wait(PATIENCE)

    def crash(self, manager: Program) -> None:
        """SIGKILL."""
        manager.kill()
        manager.wait(PATIENCE)

    def clear(self) -> None:
        """Leave nothing running."""
        for manager in self._managers:
            if manager.poll() is None:
                manager.kill()
                manager.wait(PATIENCE)
        processes.clear(str(self.root))

    def record(self) -> dict[str, Any]:
        """Return `manager.json`, empty if there is none."""
        try:
            found: dict[str, Any] = json.loads(Path(self.state_dir, "manager.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def await_work(self, manager: Program) -> None:
        """Wait until a manager has started: before that its record has no version."""
        wait_for(lambda: self._is_running(manager.pid), PATIENCE, "the manager to be running")

    def _is_running(self, pid: int) -> bool:
        record = self.record()
        return record.get("pid") == pid and record.get("version") is not None

    def log(self) -> str:
        """Return what the managers said."""
        return (self.root / "manager.log").read_text(encoding="utf-8")

    # Jobs

    def submit(self, job: Mapping[str, Any]) -> None:
        """Submit a job."""
        self.client.submit(parse_job(job))

    def ask(self, op: str, job: str, tasks: Sequence[Mapping[str, Any]] = ()) -> None:
        """Post a request and wait until it is answered."""
        name = self.client.inbox.post(Request(cast("Op", op), job, None, [dict(one) for one in tasks]), 0.0)
        wait_for(lambda: not self.client.inbox.waiting(name), PATIENCE, f"an answer to {op}")
        assert self.client.inbox.refusal(name) is None

    def open(self, *tasks: str) -> None:
        """Let gated tasks end."""
        for task in tasks:
            (self.root / f"{task}.gate").touch()

    def shut(self, *tasks: str) -> None:
        """Make gated tasks wait again."""
        for task in tasks:
            (self.root / f"{task}.gate").unlink()

    def runs(self, task: str) -> list[str]:
        """Return the run ids under which a gated task has begun."""
        path = self.root / f"{task}.log"
        return path.read_text(encoding="utf-8").split() if path.exists() else []

    def phases(self, job: str) -> dict[str, str]:
        """Return the phases of a job's tasks, and the job's own under the empty name."""
        state = self.client.jobs.load(job)
        return {"": state.phase} | {task.id: task.phase for task in state.tasks.values()}

    def await_phases(self, name: str, /, **phases: str) -> None:
        """Wait until a job's tasks are in these phases; `job` is the job's own."""
        expected = {"" if task == "job" else task: phase for task, phase in phases.items()}
        wait_for(lambda: expected.items() <= self.phases(name).items(), PATIENCE, f"{name} to be {expected}")

    def run_dirs(self, job: str) -> list[str]:
        """Return the names of a job's run directories, oldest first."""
        names = [p.name for p in Path(self.client.layout.runs(job)).iterdir() if not p.name.startswith(".")]
        return sorted(names, key=lambda name: int(name.partition("-")[0]))

    def superseded(self, job: str) -> list[str]:
        """Return the names of the run directories that a rewind has superseded."""
        return sorted(p.name for p in Path(self.client.layout.superseded(job)).glob("*/*"))

"""A manager whose runners are containers of a real engine, driven by the test's own thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from air_executor.backends.docker import make_backend
from air_executor.backends.docker.docker_backend import DockerBackend
from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.manager.loop import Manager
from air_executor.manager.manager_state import ManagerOptions
from air_executor.model.state import Done, JobState, TaskState
from air_executor.runner import native
from air_executor.store.presence import read_record
from air_executor.store.service_logs import keeper_of
from air_executor.store.this_host import this_host
from air_executor.wiring import runner_files
from tests import engine
from tests.backends.rig import DockerRig
from tests.conftest import wait_for
from tests.engine import require_engine
from tests.runner.rig import require_native


class Plant:
    """One state directory with its manager, and a client of the engine to look at what it makes."""

    def __init__(self, root: Path) -> None:
        self.project = root / "project"
        self.project.mkdir()
        self.rig = DockerRig(self.project)
        self.settings = self.rig.settings.model_copy(update={"state_dir": str(self.project / ".air-executor")})
        self.rig.settings = self.settings
        self.client = Client(self.settings.state_dir)
        self.layout = self.client.layout
        self.engine: docker.APIClient = require_engine()
        self.backend: DockerBackend
        self.manager: Manager
        self.running = False
        program = Path(require_native()).read_bytes()
        names = (native.NAME, *native.HELPERS)
        self.runner_files = {**runner_files(), **{f"{native.this_machine()}/{name}": program for name in names}}

    def start(self, **settings: Any) -> None:  # noqa: ANN401 - fields of `DockerSettings`
        """Start a manager, with other settings where given."""
        group = self.settings.docker.model_copy(update=settings)
        self.backend = make_backend(self.settings.model_copy(update={"docker": group}), "test", keeper_of(self.layout))
        secrets = self.project / "secrets"
        options = ManagerOptions(
            version="test",
            max_runners=4,
            runner_files=self.runner_files,
            project=str(self.project),
            poll_interval=0.2,
            secrets_dir=str(secrets) if secrets.exists() else None,
        )
        self.manager = Manager(self.layout, self.backend, this_host(), options)
        self.manager.start()
        self.running = True

    def stop(self) -> None:
        """Stop the manager; runners go on."""
        self.manager.close()
        self.running = False

    def submit(self, job: str, *tasks: dict[str, Any], **fields: Any) -> None:  # noqa: ANN401 - JSON
        """Submit a job; the manager starts if none is there."""
        self.client.submit(parse_job({"id": job, "tasks": list(tasks), **fields}))
        if not self.running:
            self.start()

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
        """Let the manager work until something is so."""

        def moved() -> bool:
            self.manager.cycle()
            return condition()

        try:
            wait_for(moved, timeout=seconds, what=what)
        except pytest.fail.Exception as failure:
            pytest.fail(f"{failure}\n{self._situation()}")

    def _situation(self) -> str:
        """Return what the manager and the engine know, for a failure's text."""
        record = read_record(self.layout)
        found = [f"the manager's backend: {record['backend'] if record else None}"]
        for name in self.client.jobs.ids():
            found += [f"{name}/{task}: {state}" for task, state in self.job(name).tasks.items()]
        found += [f"container {one['Names']}: {one['Status']}" for one in self.containers()]
        return "\n".join(found)

    def job(self, name: str) -> JobState:
        """Return a job as the manager has it."""
        known = self.manager.state.index.open.get(name) or self.manager.state.unsaved.get(name)
        return known.state if known is not None else self.client.status(name)

    def see(self, name: str, seconds: float = 120.0) -> JobState:
        """Let the manager work until a job has ended; return it."""
        self.until(lambda: name in self.client.jobs.ids() and self.job(name).ended, f"the end of {name}", seconds)
        return self.job(name)

    def run(self, script: str, **fields: Any) -> TaskState:  # noqa: ANN401 - JSON
        """See one task of one job through; return it."""
        name = f"job{time.monotonic_ns()}"
        self.submit(name, {"id": "it", "command": script, **fields})
        return self.see(name).tasks["it"]

    def containers(self) -> list[dict[str, Any]]:
        """Return all containers of this state directory, those that have ended too."""
        label = f"air-executor.state-dir={self.layout.root}"
        found: list[dict[str, Any]] = self.engine.containers(all=True, filters={"label": [label]})
        return found

    def the_container(self) -> str:
        """Return the id of the only container there is, once it runs."""

        def running() -> list[str]:
            return [str(entry["Id"]) for entry in self.containers() if entry["State"] == "running"]

        self.until(lambda: len(running()) == 1, "a container to run")
        return running()[0]

    def file(self, job: str, name: str) -> Path:
        """Return a file in a job's workspace."""
        return Path(self.layout.workspace(job), name)

    def log(self, job: str, task: str) -> str:
        """Return what the last run of a task printed that has ended."""
        seq = self.job(job).tasks[task].attempts[-1].seq
        return Path(self.layout.run(job, seq, task), "output.log").read_text(errors="replace")

    def close(self) -> None:
        """Leave nothing behind."""
        if self.running:
            self.stop()
        self.rig.close()
        self.engine.close()


def done(task: TaskState) -> Done:
    """Return how a task ended."""
    assert isinstance(task.status, Done)
    return task.status


def socket_path() -> str:
    """Return the path of the engine's socket; where it is none, the test cannot get in between."""
    try:
        return engine.socket_path()
    except OSError as error:
        pytest.skip(str(error))

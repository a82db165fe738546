"""A replacement for Airflow in tests of the way of a workload into a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from air_executor.airflow import fork_client

_STUB = {
    "__init__.py": "",
    "settings.py": "",
    "executors/__init__.py": "",
    "executors/workloads.py": "class ExecuteTask:\n    model_validate_json = staticmethod(str)\n",
    "sdk/__init__.py": "",
    "sdk/execution_time/__init__.py": "",
    "sdk/execution_time/execute_workload.py": "def execute_workload(text):\n    exec(text, {})\n",
    "sdk/execution_time/supervisor.py": "",
    "sdk/execution_time/task_runner.py": "",
}


class Forking:
    """Runs workloads, which are Python programs here, through a fork server of this test's own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.idle = "60"
        self._count = 0
        self._clients: list[subprocess.Popen[str]] = []
        for name, text in _STUB.items():
            path = home / "lib" / "airflow" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIR", "PYTHON", "XDG_"))},
            "PYTHONPATH": f"{home / 'lib'}{os.pathsep}{Path(__file__).parents[3]}",
            "TMPDIR": str(home),
        }

    def write(self, program: str) -> Path:
        """Write the file of a workload."""
        self._count += 1
        file = self.home / f"{self._count}.json"
        file.write_text(program)
        return file

    def command(self, file: Path) -> list[str]:
        """Return the command of a local runner."""
        return [sys.executable, "-I", "-S", str(Path(fork_client.__file__)), str(file), self.idle]

    def spawn(self, command: list[str], **more: Any) -> subprocess.Popen[str]:
        """Start a command as a runner does; it ends with the test."""
        process = subprocess.Popen(
            command,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **{"env": self.environ, **more},
        )
        self._clients.append(process)
        return process

    def start(self, program: str, **variables: str) -> subprocess.Popen[str]:
        """Start a client with a workload."""
        return self.spawn(self.command(self.write(program)), env={**self.environ, **variables})

    def end(self) -> None:
        """Kill all processes that are left."""
        for server in self.servers():
            server.kill()
        for client in self._clients:
            client.kill()
            client.communicate(timeout=30)

    def run(self, program: str, **variables: str) -> tuple[int, str, str]:
        """Run a workload to its end; return exit code, output and errors."""
        process = self.start(program, **variables)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def servers(self) -> list[psutil.Process]:
        """Return the fork servers of this test, not their children."""
        found = [
            process
            for process in psutil.process_iter(["cmdline", "ppid"])
            if "air_executor.airflow.fork_server" in (process.info["cmdline"] or ())
            and any(str(self.home) in word for word in process.info["cmdline"])
        ]
        pids = {process.pid for process in found}
        return [process for process in found if process.info["ppid"] not in pids]


@pytest.fixture
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forking]:
    """Return a runner of workloads; its servers end with the test."""
    made = Forking(tmp_path_factory.mktemp("f"))
    yield made
    made.end()

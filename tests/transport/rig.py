"""A manager with the real application on a real port, and pods that see nothing of its volume but through that port.

A pod is a folder: the carrier fetches into it, the native runner runs a command there, and the carrier delivers, all as
processes of this machine. The manager is a real one over real files; its platform is in memory.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from air_executor import wiring
from air_executor.backends.base import Launch
from air_executor.runner import carrier
from air_executor.settings import load
from air_executor.store.run_tokens import RunAddress, RunTokens
from tests.conftest import wait_for
from tests.crash import processes
from tests.manager.rig import World
from tests.runner.rig import NATIVE, require_native

PATIENCE = 120.0
CARRIER = "air_carrier"
"""Name of the package in the image `runner`, which has nothing else of ours."""
LIMIT = 1 << 30
"""Bytes that one run may deliver of its workspace."""


@dataclass(frozen=True)
class Said:
    """An answer of the manager."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Site:
    """A state directory with a manager, and its port."""

    def __init__(self, folder: Path, **settings: object) -> None:
        """`settings`: further ones of the manager."""
        require_native()
        self._settings = settings
        self.folder = folder
        self.world = World(folder / "project", runner_files=wiring.runner_files())
        self.world.platform.on_spawn = None  # pods do what they do
        self.world.start()
        self.world.manager.backend.remote = True
        self.layout = self.world.layout
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._serving = contextlib.ExitStack()
        self._pods: list[Pod] = []
        self.serve()

    def serve(self) -> None:
        """Serve what a manager of Kubernetes Jobs serves."""
        values = {
            "state_dir": self.layout.root,
            "backend": "kubernetes",
            "http_port": self.port,
            "kubernetes.transport": "http",
            "kubernetes.transport_url": f"http://127.0.0.1:{self.port}",
            "kubernetes.transport_size": LIMIT,
            **self._settings,
        }
        service = wiring.make_service(load(values, env={}, cwd=str(self.folder)))
        assert service is not None
        self._server = service.server
        self._serving.enter_context(service.server)

    def server_memory(self) -> int:
        """Return the most memory that the server's process has had, in bytes."""
        process = self._server._process
        assert process is not None
        return peak(process.pid)

    def be_away(self) -> None:
        """Serve nothing."""
        self._serving.close()

    def close(self) -> None:
        """Leave nothing."""
        for pod in self._pods:
            pod.clear()
        self._serving.close()
        if self.world.alive:
            self.world.crash()

    def begin(self, job: str = "job", task: str = "a", **fields: Any) -> Launch:  # noqa: ANN401 - JSON
        """Submit a job of one task, and have the manager start it."""
        self.world.submit(job, {"id": task, **fields})
        return self.started(job, task)

    def started(self, job: str, task: str) -> Launch:
        """Have the manager start a task."""
        self.world.until(lambda: f"{job}/{task}" in self.world.running())
        return self.world.launch(f"{job}/{task}")

    def address(self, launch: Launch) -> RunAddress:
        """Return the address of a run."""
        return RunAddress(launch.slot.job, int(launch.run.rpartition("-")[2]), launch.task, launch.run)

    def token(self, launch: Launch) -> str:
        """Return a new token of a run."""
        return RunTokens(self.layout).make(self.address(launch), time.time())

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Said:
        """Make one request, as anybody can."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, f"/transport/v1/{path}", body, named)
            answer = connection.getresponse()
            return Said(answer.status, answer.read(), dict(answer.getheaders()))
        finally:
            connection.close()

    def pod(
        self,
        launch: Launch,
        name: str = "pod",
        port: int | None = None,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Pod:
        """Return a new pod of a run, with its disk in a folder."""
        made = Pod(self, launch, (folder or self.folder) / name, port or self.port, env or {})
        self._pods.append(made)
        return made

    def commit(self, launch: Launch, exit_code: int = 0) -> None:
        """Let a run's pod be gone, and the manager see it."""
        self.world.platform.end(launch.slot, exit_code)
        seq, job = self.address(launch).seq, launch.slot.job
        self.world.until(lambda: any(one.seq == seq for one in self.world.task(job, launch.task).attempts), step=30)
        self.world.clock.pass_time(30)
        self.world.cycle()

    def out(self, launch: Launch, name: str) -> bytes:
        """Return what a run has delivered of a file."""
        path = Path(launch.out_dir, name)
        return path.read_bytes() if path.exists() else b""

    def workspace(self, launch: Launch) -> Path:
        """Return the workspace of a run's job on the volume."""
        return Path(launch.workspace)


class Pod:
    """One pod."""

    def __init__(self, site: Site, launch: Launch, root: Path, port: int, env: Mapping[str, str]) -> None:
        self.site = site
        self.launch = launch
        self.root = root
        self.workspace = root / "workspace"
        self.out = root / "out"
        self.holder = root.name
        self.token = site.token(launch)
        self._env = {
            "PATH": os.environ["PATH"],
            "AIR_CARRIER_URL": f"http://127.0.0.1:{port}",
            "AIR_CARRIER_TOKEN": self.token,
            "AIR_CARRIER_HOLDER": self.holder,
            "AIR_CARRIER_ROOT": str(root),
            "AIR_CARRIER_PATIENCE": str(PATIENCE),
            **env,
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs = tempfile.TemporaryDirectory(prefix="air-test-")  # elsewhere: a test may fill the pod's disk
        os.symlink(os.path.dirname(carrier.__file__), f"{self._logs.name}/{CARRIER}")
        root.mkdir()

    def carrier(self, command: str, **times: float) -> subprocess.Popen[bytes]:
        """Start the carrier; `times` take the place of its own, such as `uplink.PATIENCE`."""
        changed = "".join(f"{name} = {seconds}; " for name, seconds in times.items())
        script = f"import sys; from {CARRIER} import __main__, delivering, uplink; {changed}"
        end = "sys.exit(__main__.main(sys.argv[1:], __main__.os.environ))"
        words = [sys.executable, "-S", *(["-c", script + end] if times else ["-m", CARRIER]), command]
        with open(f"{self._logs.name}/{command}.log", "ab") as log:
            return self._start(words, {**self._env, "PYTHONPATH": self._logs.name}, stderr=log)

    def fetch(self) -> int:
        """Fetch, and return the exit status."""
        return self.carrier("fetch").wait(PATIENCE)

    def run(self, script: str, *, stop_after: float | None = None) -> subprocess.Popen[bytes]:
        """Start the runner that was fetched."""
        timeout = "-" if stop_after is None else str(stop_after)
        program = self.root / "bin" / os.path.basename(NATIVE)
        words = [str(program), str(self.out), str(self.workspace), timeout, "1", "container", "sh", "-c", script]
        env = {"PATH": os.environ["PATH"], **self.launch.environment(str(self.out), str(self.workspace))}
        return self._start(words, env, stderr=subprocess.DEVNULL)

    def _start(self, words: list[str], env: Mapping[str, str], **streams: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401
        process = subprocess.Popen(
            words, env=env, cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **streams
        )
        self._processes.append(process)
        return process

    def live(self, script: str) -> int:
        """Live a whole life: fetch, run and deliver; return the exit status of the delivery."""
        assert self.fetch() == 0, self.said("fetch")
        delivering = self.carrier("deliver")
        self.run(script).wait(PATIENCE)
        return delivering.wait(PATIENCE)

    def said(self, command: str = "deliver") -> str:
        """Return what the carrier has said."""
        return Path(self._logs.name, f"{command}.log").read_text(encoding="utf-8")

    def handles(self, process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
        """Tell whether a process has a handler for a signal."""
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            (mask,) = [line.split()[1] for line in file if line.startswith("SigCgt:")]
        return bool(int(mask, 16) >> (number - 1) & 1)

    def kill_task(self) -> None:
        """Kill what is left of the run, as a container's end does."""
        for process in processes.of_run(self.launch.run):
            processes.kill_one(process)

    def clear(self) -> None:
        """Let no process live on."""
        self.kill_task()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE)
        self._logs.cleanup()


def peak(pid: int) -> int:
    """Return the most memory that a process has had, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        (line,) = [line for line in file if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


def entries(*found: Mapping[str, object], end: bool = True) -> bytes:
    """Return a stream of a workspace's changes."""
    lines = [*found, *([{"kind": "end"}] if end else [])]
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def soon(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    wait_for(condition, PATIENCE, what)

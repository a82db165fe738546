"""An engine on another machine, reached by TLS, which sees nothing of the state directory: files come over HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from docker.errors import APIError

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.model.records import Request
from tests.conftest import wait_for
from tests.engine import require_engine
from tests.images.rig import image

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

PATIENCE = 180.0
CHUNK = 1 << 16


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes until it ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class FarEngine:
    """The engine behind an address with TLS, for clients with a certificate."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.certificates = folder
        folder.mkdir()
        subject = ["-subj", "/CN=engine", "-addext", "subjectAltName=IP:127.0.0.1"]
        keys = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "key.pem")]
        made = ["openssl", "req", "-x509", "-days", "2", *keys, *subject, "-out", str(folder / "cert.pem")]
        subprocess.run(made, check=True, capture_output=True)
        (folder / "ca.pem").write_bytes((folder / "cert.pem").read_bytes())
        self._engine = engine.removeprefix("unix://")
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self._tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            client = self._tls.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        with client, socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self._engine)
            back = threading.Thread(target=pump, args=(engine, client), daemon=True)
            back.start()
            pump(client, engine)
            back.join()

    def close(self) -> None:
        """Accept nobody any more."""
        self._listening.close()


class Far(Protocol):
    """How to come to an engine that is far away."""

    @property
    def address(self) -> str:
        """What DOCKER_HOST is to say."""

    @property
    def certificates(self) -> Path:
        """What DOCKER_CERT_PATH is to say."""


class Site:
    """A state directory on this machine, and managers of it whose engine is far away."""

    def __init__(self, root: Path, far: Far) -> None:
        self.engine = require_engine()
        self.root = root
        self.client = Client(str(root / ".air-executor"))
        [pool] = self.engine.inspect_network("bridge")["IPAM"]["Config"]
        with socket.create_server(("", 0)) as unused:
            port = unused.getsockname()[1]
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("AIR_", "DOCKER_"))}
        self.env = plain | {
            "AIR_BACKEND": "docker",
            "AIR_DOCKER_TRANSPORT": "http",
            "AIR_DOCKER_TRANSPORT_URL": f"http://{pool['Gateway']}:{port}/",
            "AIR_HTTP_HOST": "0.0.0.0",  # noqa: S104 - containers are to reach it
            "AIR_HTTP_PORT": str(port),
            "AIR_RUNNER_IMAGE": image("runner"),
            "AIR_PLATFORM_RETRIES": "0",
            "AIR_NAME_PREFIX": f"far{os.getpid() % 100_000}",
            "AIR_MAX_RUNNERS": "4",
            "DOCKER_HOST": far.address,
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(far.certificates),
        }
        self.manager: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a manager."""
        with open(self.root / "manager.log", "ab") as log:
            words = [sys.executable, "-m", "air_executor", "manager"]
            self.manager = subprocess.Popen(words, env=self.env, cwd=self.root, stdout=log, stderr=log)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the manager."""
        if self.manager is not None:
            self.manager.send_signal(number)
            self.manager.wait(30)
            self.manager = None

    def submit(self, job: str, *tasks: dict[str, Any]) -> None:
        """Submit a job."""
        self.client.submit(parse_job({"id": job, "tasks": list(tasks)}))

    def ended(self, job: str) -> dict[str, str | None]:
        """Wait until a job has ended; return why its tasks have."""
        wait_for(lambda: self.client.status(job).ended, PATIENCE, f"{job} to end")
        return {task.id: task.reason for task in self.client.status(job).tasks.values()}

    def log(self, job: str, task: str = "it") -> str:
        """Return what the newest run of a task has printed so far."""
        runs = sorted(Path(self.client.layout.runs(job)).glob(f"*-{task}"), key=lambda one: int(one.name.split("-")[0]))
        log = runs[-1] / "output.log" if runs else None
        return log.read_text() if log is not None and log.exists() else ""

    def containers(self, job: str | None = None) -> list[dict[str, Any]]:
        """Return the containers of this state directory, or of one job."""
        found = self.engine.containers(all=True, filters={"name": [self.env["AIR_NAME_PREFIX"]]})
        return [one for one in found if job in {None, one["Labels"]["air-executor.job"]}]

    def container(self, job: str, *, carrier: bool = False) -> str:
        """Return the id of the one container of a job's runner, or of its carrier."""
        found = [one for one in self.containers(job) if ("air-executor.service" in one["Labels"]) is carrier]
        return str(found[0]["Id"])

    def volumes(self) -> list[str]:
        """Return the names of the volumes of this state directory's runs."""
        found = self.engine.volumes(filters={"name": self.env["AIR_NAME_PREFIX"]})["Volumes"] or []
        return [one["Name"] for one in found]

    def execute(self, job: str, *command: str) -> None:
        """Run a command beside the task of a job."""
        made = self.engine.exec_create(self.container(job), list(command), workdir="/air/workspace")
        self.engine.exec_start(made["Id"])

    def close(self) -> None:
        """Leave nothing."""
        self.kill()
        for one in self.containers():
            with contextlib.suppress(APIError):  # the manager's request to remove it is still under way
                self.engine.remove_container(one["Id"], force=True)
        wait_for(lambda: not self.containers(), PATIENCE, "containers to be gone")
        for name in self.volumes():
            self.engine.remove_volume(name)

    def nothing_stays(self) -> None:
        """Wait until no container and no volume is left."""
        wait_for(lambda: not self.containers() and not self.volumes(), PATIENCE, "containers and volumes to be gone")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with a running manager; nothing of it is left."""
    require_engine()
    far = FarEngine(tmp_path / "certificates", os.environ["DOCKER_HOST"])
    (tmp_path / "project").mkdir()
    made = Site(tmp_path / "project", far)
    made.start()
    yield made
    made.close()
    far.close()


def test_work_that_discovers_work(site: Site) -> None:
    """Queued tasks, inputs and the workspace come and go; the engine mounts nothing of this machine."""
    first = "echo planned; echo part >file; air-result '{\"n\": 1}'; air-queue --id next -- sh -c 'cat file; rm file'"
    after = "cat $AIR_INPUTS; test ! -e file; echo begun; sleep 1"
    site.submit("job", {"id": "plan", "command": first})
    site.submit("other", {"id": "it", "command": f"sleep 2; {after.partition(';')[0]}"})
    wait_for(lambda: site.containers("other"), PATIENCE, "a runner")
    mounts = site.engine.inspect_container(site.container("other"))["Mounts"]
    assert [(one["Type"], one["Destination"]) for one in mounts] == [("volume", "/air")]
    assert site.ended("job") == {"plan": "ok", "next": "ok"}
    assert (site.log("job", "plan"), site.log("job", "next")) == ("planned\n", "part\n")
    assert os.listdir(site.client.layout.workspace("job")) == []
    assert site.client.status("job").tasks["plan"].result == {"n": 1}
    assert site.ended("other") == {"it": "ok"}
    site.nothing_stays()


def test_a_manager_dies_while_a_task_runs(site: Site) -> None:
    """What was written meanwhile, and the end, are there for the next manager; nothing ran twice."""
    site.submit("job", {"id": "it", "command": "echo begun; sleep 4; echo over; echo kept >kept"})
    wait_for(lambda: "begun" in site.log("job"), PATIENCE, "its output")
    site.kill()
    wait_for(lambda: "exited" in {one["State"] for one in site.containers("job")}, PATIENCE, "the command to end")
    site.start()
    assert site.ended("job") == {"it": "ok"}
    assert site.log("job") == "begun\nover\n"
    assert Path(site.client.layout.workspace("job"), "kept").read_text() == "kept\n"
    assert site.client.status("job").usage.runs == 1
    site.nothing_stays()


def test_a_runner_that_is_killed(site: Site) -> None:
    """Its last output is delivered, it is no success, and its carrier is told, since it cannot see it."""
    site.submit("job", {"id": "it", "command": "echo begun; sleep 100"})
    wait_for(lambda: "begun" in site.log("job"), PATIENCE, "its output")
    site.engine.kill(site.container("job"), "KILL")
    reasons = site.ended("job")
    assert reasons["it"] not in {"ok", None}
    site.nothing_stays()


def test_a_runner_that_is_killed_before_its_claim(site: Site) -> None:
    """Its carrier has seen nothing of it, and leaves all the same."""
    site.submit("job", {"id": "it", "command": "echo begun"})
    wait_for(lambda: list(Path(site.client.layout.runs("job")).glob("1-it")), PATIENCE, "its start", pause=0.005)
    for path in Path(site.client.layout.bin).rglob("air-runner"):
        path.write_text("#!/bin/sh\nkill -9 $$\n", encoding="ascii")
    assert site.ended("job")["it"] not in {"ok", None}
    assert site.log("job") == ""
    site.nothing_stays()


def test_a_carrier_that_is_killed(site: Site) -> None:
    """The run is not a success though its command may end well: nobody knows what it left."""
    site.submit("job", {"id": "it", "command": "echo begun; sleep 3"})
    wait_for(lambda: "begun" in site.log("job"), PATIENCE, "its output")
    site.engine.kill(site.container("job", carrier=True), "KILL")
    assert site.ended("job")["it"] not in {"ok", None}
    message = site.client.status("job").tasks["it"].message or ""
    assert "the files of its run could not be brought" in message
    site.nothing_stays()


def test_a_task_is_cancelled(site: Site) -> None:
    """What it says while it cleans up is kept."""
    command = "trap 'echo cleaned; exit 3' TERM; echo begun; while :; do sleep 0.1; done"
    site.submit("job", {"id": "it", "command": command})
    wait_for(lambda: "begun" in site.log("job"), PATIENCE, "its output")
    site.client.inbox.post(Request("cancel", "job"), 0.0)
    assert site.ended("job") == {"it": "cancelled"}
    wait_for(lambda: site.log("job").endswith("cleaned\n"), PATIENCE, "all of its output")
    site.nothing_stays()


def test_what_takes_a_folder_of_this_machine(site: Site) -> None:
    """It is refused by one line that names the setting."""
    site.submit("caches", {"id": "it", "command": "true", "caches": [{"name": "pip"}]})
    site.submit("mounts", {"id": "it", "command": "true", "mounts": [{"source": ".", "target": "/project"}]})
    for job, what in {"caches": "caches", "mounts": "mount ."}.items():
        assert site.ended(job) == {"it": "start-failed"}
        message = site.client.status(job).tasks["it"].message or ""
        assert f"{what}: the engine does not see the manager's folders with AIR_DOCKER_TRANSPORT=http" in message


def test_settings_that_are_missing(site: Site) -> None:
    """A manager without an address for containers, or without a port, says so and exits."""
    site.kill()
    env = site.env
    for change, words in (
        ({"AIR_DOCKER_TRANSPORT_URL": None}, "set AIR_DOCKER_TRANSPORT_URL"),
        ({"AIR_HTTP_PORT": "0"}, "set AIR_HTTP_PORT"),
    ):
        changed = {name: value for name, value in {**env, **change}.items() if value is not None}
        command = [sys.executable, "-m", "air_executor", "manager"]
        done = subprocess.run(command, env=changed, cwd=site.root, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr

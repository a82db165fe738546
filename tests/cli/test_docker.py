"""The command line with `--backend docker`: an engine that is down, and, where there is one, a real engine."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import http.server
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.model.state import JobState
from tests.cli.conftest import Outcome, eventually
from tests.cli.made_jobs import create, ended
from tests.cli.test_doctor import checks
from tests.cli.test_shell import typed
from tests.engine import require_engine, require_image

Air = Callable[..., Outcome]
Call = Callable[..., Outcome]
Start = Callable[..., subprocess.Popen[str]]

# The SDK leaves a socket that could not be connected to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def no_engine(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings name an engine that is not there."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{project}/nobody.sock")
    monkeypatch.setenv("AIR_BACKEND", "docker")
    yield
    gc.collect()


@pytest.fixture
def engine(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[docker.APIClient]:
    """A real engine, with names of this test's own; what is left of its containers at the end is removed."""
    client = require_engine()
    prefix = f"cli{os.getpid() % 10**8}"
    monkeypatch.setenv("AIR_BACKEND", "docker")
    monkeypatch.setenv("AIR_NAME_PREFIX", prefix)
    monkeypatch.setenv("AIR_RUNNER_IMAGE", require_image())
    monkeypatch.setenv("AIR_DOCKER_NETWORK", "air-test")
    yield client
    for found in client.containers(all=True, filters={"name": [f"^/{prefix}-"]}):
        with contextlib.suppress(docker.errors.NotFound):
            client.remove_container(found["Id"], force=True)
    client.close()


def name_of(job: str) -> str:
    """Return the name of the container in a job's first slot."""
    return f"{os.environ['AIR_NAME_PREFIX']}-{job}"


def stop(process: subprocess.Popen[str]) -> str:
    """Stop a process as Ctrl-C does, and return what it said on stderr."""
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=60)[1]


def test_run_submits_nothing_for_an_engine_that_is_down(no_engine: None, air: Air, client: Client) -> None:
    """It leaves at once with its own exit code, names the socket, and the id is free when the engine is there."""
    done = air("run", "j", "--", "true")
    assert done.code == 6
    assert "nobody.sock" in done.err
    assert "start the engine" in done.err
    assert list(client.all()) == []


def test_doctor_says_what_to_do_about_an_engine_that_is_down(no_engine: None, air: Air) -> None:
    """A finding with a remedy, not an error; the other checks are made all the same."""
    done = air("doctor", "--json")
    assert done.code == 1
    found = checks(done)
    assert found["docker"]["verdict"] == "failed"
    assert "start the engine" in found["docker"]["remedy"]
    assert found["jobs"]["verdict"] == "ok"


def test_doctor_tells_a_socket_that_nobody_answers_at(no_engine: None, air: Air, project: Path) -> None:
    """A file that an engine left behind is not a missing engine."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{project}/nobody.sock")
    assert "no engine listens on its socket" in checks(air("doctor", "--json"))["docker"]["remedy"]


def test_the_container_for_commands_of_compose_sends_one_to_the_manager(
    no_engine: None, air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no socket on purpose, so nobody is told to mount one."""
    monkeypatch.setattr("air_executor.backends.docker.engine_check.own_container", lambda: "4f2d")
    remedy = checks(air("doctor", "--json"))["docker"]["remedy"]
    assert "in this container: mount the engine's socket there" in remedy
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "project")
    remedy = checks(air("doctor", "--json"))["docker"]["remedy"]
    assert remedy.startswith("only the manager's container has the engine's socket: `submit` jobs to it, and check it")
    assert "only the manager's container" in air("run", "j", "--", "true").err


def test_doctor_knows_the_context_of_the_docker_command(
    no_engine: None, air: Air, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker Desktop and the like listen elsewhere, where only the `docker` command finds them by itself."""
    folder = project / "config/contexts/meta" / hashlib.sha256(b"desktop-linux").hexdigest()
    folder.mkdir(parents=True)
    (project / "config/config.json").write_text('{"currentContext": "desktop-linux"}')
    (folder / "meta.json").write_text(
        '{"Name": "desktop-linux", "Endpoints": {"docker": {"Host": "unix:///home/me/.docker/desktop/docker.sock"}}}'
    )
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONFIG", f"{project}/config")
    monkeypatch.setattr("air_executor.backends.docker.engine_check.DEFAULT_SOCKET", f"{project}/nobody.sock")
    monkeypatch.setattr("docker.utils.utils.DEFAULT_UNIX_SOCKET", f"http+unix://{project}/nobody.sock")
    remedy = checks(air("doctor", "--json"))["docker"]["remedy"]
    assert "uses the context desktop-linux: export DOCKER_HOST=unix:///home/me/.docker/desktop/docker.sock" in remedy


def test_a_manager_keeps_trying_and_says_so(no_engine: None, air: Air, client: Client, start: Start) -> None:
    """It takes jobs, and `status` and `explain` name the engine as what is in the way."""
    air("submit", "j", "--", "true")
    manager = start("manager")
    eventually(lambda: "cannot answer" in air("status").out, "status knows of the engine")
    assert "✗ backend docker cannot answer: the Docker engine does not answer" in air("status", "j").out
    assert "is waiting for its backend, which cannot answer" in air("explain", "j", "_1").out
    assert json.loads(air("status", "--json").out)["manager"]["backend"]["name"] == "docker"
    assert "backend docker cannot answer" in checks(air("doctor", "--backend", "local", "--json"))["manager"]["text"]
    assert "backend=docker is unavailable: the Docker engine does not answer" in stop(manager)
    assert client.status("j").phase == "queued"


class _OtherEngine(http.server.BaseHTTPRequestHandler):
    """What an engine answers to the first questions, as Podman 4.3.1 and a rootless Engine 28.5 did."""

    protocol_version = "HTTP/1.1"
    podman = False

    def do_GET(self) -> None:
        info = {"SecurityOptions": ["name=seccomp,profile=builtin", *([] if self.podman else ["name=rootless"])]}
        about = {"ApiVersion": "1.41", "MinAPIVersion": "1.24", "Version": "4.3.1"}
        body = json.dumps(info if self.path.endswith("/info") else about).encode()
        self.send_response(200)
        if self.podman:
            self.send_header("Libpod-Api-Version", "4.3.1")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Podman(_OtherEngine):
    podman = True


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        return super().get_request()[0], ("local", 0)  # the handler takes an address apart

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is none."""


@contextlib.contextmanager
def answering(handler: type[_OtherEngine], project: Path) -> Iterator[None]:
    """Let this engine answer where the settings look for one."""
    with _UnixServer(f"{project}/nobody.sock", handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have managers open no port: that of another one may be the default."""
    monkeypatch.setenv("AIR_HTTP_PORT", "0")


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (_Podman, "the engine is Podman 4.3.1, whose API differs in what tasks rely on"),
        (_OtherEngine, "a rootless engine runs tasks as a subordinate user"),
    ],
)
@pytest.mark.usefixtures("no_engine", "no_port")
def test_an_engine_that_cannot_be_used_is_refused(
    handler: type[_OtherEngine], words: str, air: Air, client: Client, project: Path
) -> None:
    """By one line with a remedy, before anything is submitted or managed; no restart helps, so the exit code is 2."""
    remedy = "use a Docker Engine that runs as root"
    with answering(handler, project):
        for command in (("run", "j", "--", "true"), ("manager",)):
            done = air(*command)
            assert done.code == 2
            assert done.err.startswith(f"error: {words}")
            assert (done.err.count("\n"), remedy in done.err) == (1, True)
    assert list(client.all()) == []


def test_doctor_names_podman(no_engine: None, air: Air, project: Path) -> None:
    """What it is, and what to use in its place."""
    with answering(_Podman, project):
        found = checks(air("doctor", "--json"))["docker"]
    assert (found["verdict"], "Podman 4.3.1" in found["text"]) == ("failed", True)
    assert "use a Docker Engine that runs as root" in found["remedy"]


@pytest.mark.parametrize("missing", [("run", "j", "--", "true"), ("manager",)])
def test_without_the_client_library_the_message_says_how_to_get_it(
    missing: tuple[str, ...], no_engine: None, air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is named, and nothing was submitted."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    done = air(*missing)
    assert done.code == 2
    assert "pip install 'air-executor[docker]'" in done.err
    assert "air-executor[docker]" in checks(air("doctor", "--json"))["backend"]["text"]


@pytest.mark.docker
def test_a_command_in_a_container(engine: docker.APIClient, call: Callable[..., Outcome]) -> None:
    """`run` prints the output and the cost, and no container is left."""
    done = call("run", "j", "--", "sh", "-c", "echo hello from $(id -u)")
    assert done.code == 0, done.err
    assert "hello from " in done.out
    assert "hello from 0\n" not in done.out
    assert "1 succeeded" in done.err
    name = f"^/{name_of('j')}$"
    eventually(lambda: engine.containers(all=True, filters={"name": [name]}) == [], "it is removed")


@pytest.mark.docker
def test_a_private_umask_keeps_no_runner_out(engine: docker.APIClient, call: Callable[..., Outcome]) -> None:
    """Tasks of root's manager are another user, who must be able to read the runner and what it is handed."""
    done = call("run", "j", "--", "sh", "-c", 'cat "$AIR_INPUTS" && echo fine', umask=0o077)
    assert done.code == 0, done.out + done.err
    assert "fine" in done.out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's tasks are another user than their manager")
@pytest.mark.docker
@pytest.mark.usefixtures("engine")
def test_a_runner_that_may_not_read_its_script_says_so(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine keeps containers from its files (SELinux does), the shell's own words tell."""
    monkeypatch.setenv("AIR_PLATFORM_RETRIES", "0")
    code = (
        "import sys; from air_executor.store import permissions; permissions.let_read = lambda path, **_: None\n"
        "from air_executor.cli.app import run; sys.exit(run(['run', 'j', '--', 'true']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, umask=0o077, check=False)
    assert done.returncode == 1, done.stderr
    said = air("explain", "j", "_1").out
    assert "its runner ended before it could start the command: container " in said
    assert "can't open '/air/bin/air-runner': Permission denied" in said


@pytest.mark.docker
def test_a_running_task_is_found_in_its_container(
    engine: docker.APIClient, air: Air, client: Client, start: Start
) -> None:
    """`status` and `explain` name the container that the engine has under that name."""
    air("submit", "j", "--", "sh", "-c", "echo begun; sleep 60")
    manager = start("manager")
    eventually(lambda: "begun" in air("logs", "j").out, "the task runs")
    name = name_of("j")
    assert engine.inspect_container(name)["State"]["Running"]
    assert f"in container {name}" in air("status", "j").out
    assert f" in container {name} (run 1, attempt 1)" in air("explain", "j", "_1").out
    air("cancel", "j")
    eventually(lambda: client.status("j").ended, "the job is cancelled")
    stop(manager)


@pytest.mark.docker
def test_a_shell_in_the_container_of_a_task(engine: docker.APIClient, client: Client, start: Start, call: Call) -> None:
    """At a terminal, and with a command; the exit codes are theirs, and what it queues is the task's."""
    client.submit(parse_job({"id": "j", "tasks": [{"id": "one", "command": "until [ -e go ]; do sleep 0.1; done"}]}))
    manager = start("manager")
    eventually(lambda: client.status("j").tasks["one"].phase == "running", "the task is known to run")
    eventually(lambda: engine.inspect_container(name_of("j"))["State"]["Running"], "the container runs")
    code, shown = typed(["shell", "j"], "echo $AIR_TASK_ID-is-here; stty size", "exit 5")
    assert (code, "one-is-here" in shown, "33 99" in shown) == (5, True, True), shown
    done = call("shell", "j", "one", "--", "sh", "-c", "air-queue --id two -- true; touch go; echo oh >&2; exit 7")
    assert done == Outcome(7, "", "oh\n")
    eventually(lambda: client.status("j").ended, "the job ends")
    assert [task.phase for task in client.status("j").tasks.values()] == ["succeeded", "succeeded"]
    stop(manager)


@pytest.fixture
def slow_image() -> Iterator[str]:
    """An image of a registry that takes every call and answers none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"localhost:{server.getsockname()[1]}/slow:1"


@pytest.mark.docker
@pytest.mark.usefixtures("engine")
def test_what_waits_for_an_image_says_so(
    slow_image: str, air: Air, client: Client, start: Start, project: Path
) -> None:
    """While an image is on its way no runner exists; `status`, `explain` and `run` name the image."""
    image = slow_image
    (project / "job.json").write_text(json.dumps({"id": "j", "tasks": [{"image": image, "command": "true"}]}))
    job = start("run", "job.json")
    eventually(lambda: image in air("status").out, "status names the image")
    assert f"j is waiting: task _1: image {image}: " in air("status", "j").out
    assert f"task _1 is waiting for image {image}: " in air("explain", "j", "_1").out
    assert f"job j has no running task: task _1 is waiting for image {image}" in air("explain", "j").out
    assert job.stderr is not None
    assert job.stderr.readline().startswith(f"waiting: task _1: image {image}: ")
    assert client.status("j").seq == 0
    stop(job)
    assert client.status("j").phase == "paused"


@pytest.mark.docker
def test_an_image_that_cannot_be_had_is_told_in_the_engines_words(
    engine: docker.APIClient, call: Callable[..., Outcome], air: Air, project: Path
) -> None:
    """The task fails at once, and `explain` says what the engine said."""
    (project / "job.json").write_text('{"id": "j", "tasks": [{"image": "localhost:1/none:1", "command": "true"}]}')
    assert call("run", "job.json").code == 1
    said = air("explain", "j", "_1").out
    assert "its runner could not be started: image localhost:1/none:1 cannot be pulled: " in said
    assert "refused" in said


@pytest.mark.docker
def test_doctor_finds_a_healthy_engine_healthy(engine: docker.APIClient, air: Air, project: Path) -> None:
    """Everything about it is told, and nothing is left behind, neither here nor there."""
    done = air("doctor", "--json")
    found = {name: one for name, one in checks(done).items() if name.startswith("docker")}
    assert {"docker", "docker storage", "docker limits", "docker user", "docker image", "docker volume"} <= found.keys()
    assert {found[name]["verdict"] for name in ("docker", "docker image", "docker volume")} == {"ok"}, found
    assert list(project.iterdir()) == []
    assert engine.containers(all=True, filters={"name": [f"^/{name_of('doctor')}"]}) == []


@pytest.mark.docker
def test_doctor_misses_an_image(engine: docker.APIClient, air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """It will be pulled, or, where that is forbidden, the tasks will fail."""
    monkeypatch.setenv("AIR_RUNNER_IMAGE", "localhost:1/none:1")
    assert checks(air("doctor", "--json"))["docker image"]["verdict"] == "warning"
    monkeypatch.setenv("AIR_DOCKER_PULL", "never")
    found = checks(air("doctor", "--json"))["docker image"]
    assert found["verdict"] == "failed"
    assert "docker pull localhost:1/none:1" in found["remedy"]


@pytest.mark.docker
def test_prune_spares_a_job_with_a_container(
    engine: docker.APIClient, air: Air, client: Client, start: Start, project: Path
) -> None:
    """A live runner would write into the archive, whatever the job's state says."""
    air("submit", "j", "--", "sh", "-c", "echo begun; sleep 60")
    manager = start("manager")
    eventually(lambda: "begun" in air("logs", "j").out, "the task runs")
    manager.kill()
    manager.wait()
    ended_state(client, "j")
    create(client, "old", ended("a"))
    lines = air("prune", "--older-than", "0s").out.splitlines()
    assert "j spared: job j: a runner is still alive" in lines
    assert "old archived" in lines
    engine.remove_container(name_of("j"), force=True)
    assert air("prune", "--older-than", "0s").out == "j archived\n"


@pytest.mark.docker
def test_run_leaves_a_failed_container_that_is_kept(
    engine: docker.APIClient, call: Call, air: Air, client: Client, project: Path
) -> None:
    """It says how to look into it, and leaves; a shell gets in, and the job can be replaced."""
    job = {"id": "j", "tasks": [{"id": "bad", "command": "echo >/tmp/left; exit 3", "keep": {"on_failure": "1h"}}]}
    (project / "job.json").write_text(json.dumps(job))
    done = call("run", "job.json")
    assert done.code == 3
    name = name_of("j")
    assert f"task bad: its container {name} is kept until " in done.err
    assert (
        f"`air-executor shell j bad` or `docker exec -it {name} sh`; remove it with `docker rm -f {name}`" in done.err
    )
    assert call("shell", "j", "--", "sh", "-c", "ls /tmp").out == "left\n"
    assert f"its container {name} is kept until " in air("explain", "j").out
    assert "runner kept for 59m" in air("status", "j").out
    assert client.status("j").kept["bad"].runner == name
    first = engine.inspect_container(name)["Id"]
    assert call("run", "--replace", "job.json").code == 3
    assert engine.inspect_container(name)["Id"] != first


@pytest.mark.docker
def test_a_kept_container_ends_without_a_manager(
    engine: docker.APIClient, call: Call, client: Client, project: Path
) -> None:
    """By itself, at its time; the next manager, whatever it is for, removes what is left, and counts the time."""
    job = {"id": "j", "tasks": [{"id": "bad", "command": "exit 3", "keep": {"on_failure": "3s"}}]}
    (project / "job.json").write_text(json.dumps(job))
    assert call("run", "job.json").code == 3
    eventually(lambda: engine.inspect_container(name_of("j"))["State"]["Status"] == "exited", "it ends by itself")
    before = client.status("j")
    assert "bad" in before.kept
    assert call("run", "other", "--", "true").code == 0
    after = client.status("j")
    assert (after.kept, after.phase) == ({}, "failed")
    assert after.usage.finish_seconds > before.usage.finish_seconds
    eventually(lambda: engine.containers(all=True, filters={"name": [f"^/{name_of('j')}$"]}) == [], "it is removed")


def ended_state(client: Client, job: str) -> JobState:
    """Edit a job's state as if it had ended, though it has not."""
    state = client.status(job)
    record = json.loads(Path(client.layout.state(job)).read_text())
    record |= {"phase": "succeeded", "reason": "ok", "finished_at": record["submitted_at"]}
    for task in record["tasks"]:
        task.pop("run", None)
        task |= {"phase": "succeeded", "reason": "ok", "exit_code": 0, "finished_at": record["submitted_at"]}
    Path(client.layout.state(job)).write_text(json.dumps(record))
    return state


def test_prune_moves_nothing_while_the_engine_is_down(no_engine: None, air: Air, client: Client) -> None:
    """Live runners are not visible, so every job is spared."""
    create(client, "old", ended("a"))
    assert air("prune", "--older-than", "0s").out.startswith("old spared: the Docker engine does not answer")
    assert Path(client.layout.job("old")).is_dir()

"""The crash campaign, as far as CI has time for it. `python -m tests.crash --help` for more."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from testcontainers.core.container import DockerContainer

from air_executor.backends.kubernetes.manifests import RUN
from tests.cluster import require_cluster
from tests.conftest import wait_for
from tests.crash import daemon, plan, processes
from tests.crash.gate import Gate
from tests.engine import container, require_image
from tests.lanes import NIGHTLY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds runners through /proc")

SCRIPT = Path(__file__).with_name("task.sh")
TRIALS = int(os.environ.get("CRASH_TRIALS", "200" if NIGHTLY else "4"))
ROOT = Path(__file__).resolve().parents[2]


def campaign(folder: Path, *flags: str) -> None:
    """Run the campaign and show what it says; CRASH_SEED repeats one that failed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", "--seed", os.environ.get("CRASH_SEED", "1"), "--folder", folder, *flags],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_no_promise_is_broken_by_kills(tmp_path: Path) -> None:
    """Managers, runners and tasks are killed at random; nothing is lost, doubled, overlapped or left running."""
    campaign(tmp_path, "--trials", str(TRIALS))


@pytest.mark.timeout(900)
def test_no_promise_is_broken_by_a_failing_volume(tmp_path: Path) -> None:
    """The same while calls of the store fail at random, with half a write before."""
    campaign(tmp_path, "--trials", str(max(2, TRIALS // 10)), "--faults", "0.01")


@pytest.mark.docker
@pytest.mark.timeout(1200)
def test_no_promise_is_broken_by_kills_of_containers(tmp_path: Path) -> None:
    """The same with containers, which are also removed while they run, and an engine that does not always answer."""
    require_image()
    campaign(tmp_path, "--backend", "docker", "--trials", str(max(5, TRIALS // 4)))


@pytest.mark.kubernetes
@pytest.mark.timeout(1800)
def test_no_promise_is_broken_by_kills_of_pods(tmp_path: Path) -> None:
    """The same with Jobs, whose Pods are also deleted, as they are, and an API server on which all may go wrong."""
    require_cluster()
    campaign(tmp_path, "--backend", "kubernetes", "--trials", str(max(4, TRIALS * 3 // 20)))


@pytest.mark.kubernetes
@pytest.mark.timeout(1800)
def test_no_promise_is_broken_by_kills_of_pods_over_http(tmp_path: Path) -> None:
    """The same with pods that see no volume, whose carriers are killed, too, and whose way to the manager breaks."""
    require_cluster()
    how = ["--trials", str(TRIALS * 3 // 20)] if NIGHTLY else ["--trials", "1", "--seed", "92"]
    campaign(tmp_path, "--backend", "kubernetes-http", *how)


def test_a_seed_is_a_plan() -> None:
    """The same seed draws the same trial, another one another."""
    assert plan.draw(7) == plan.draw(7)
    assert plan.draw(7) != plan.draw(8)
    assert plan.draw(7, backend="docker") == plan.draw(7, backend="docker")
    targets = {step.target for step in plan.draw(7, backend="docker", restarts=1).steps}
    assert "engine" in targets
    targets = {step.target for step in plan.draw(7, backend="kubernetes", restarts=1).steps}
    assert targets & {"apiserver", "etcd"}


def test_the_tasks_can_tell(tmp_path: Path) -> None:
    """The tasks' own proof works: a second live run in a slot is seen, a killed one is not taken for it."""
    (tmp_path / "begin.other.0123abcd-1").touch()

    def run(number: int, label: str = "one") -> str:
        environ = {
            **os.environ,
            "AIR_WORKSPACE": str(tmp_path),
            "AIR_SLOT": "0",
            "AIR_RUN_ID": f"0123abcd-{number}",
            "AIR_QUEUE": str(tmp_path / "queue"),
            "AIR_RESULT": str(tmp_path / "result"),
            "AIR_INPUTS": "/dev/null",
        }
        subprocess.run([SCRIPT, label, "0", "0", "0"], env=environ, cwd=tmp_path, check=True)
        path = tmp_path / "violations"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    with open("/proc/self/stat", encoding="ascii") as file:
        start = file.read().rpartition(")")[2].split()[19]
    (tmp_path / "slot-0.busy").write_text(f"{os.getpid()} {int(start) + 1} 0123abcd-9\n", encoding="ascii")
    assert run(1) == ""
    (tmp_path / "slot-0.busy").write_text(f"{os.getpid()} {start} 0123abcd-9\n", encoding="ascii")
    assert f"slot 0 is taken by run 0123abcd-9, pid {os.getpid()}" in run(2)
    assert "began twice" in run(1)


def test_what_runs_is_found(tmp_path: Path) -> None:
    """A process with a workspace below the state directory counts as left running, another does not."""
    environ = {**os.environ, "AIR_WORKSPACE": f"{tmp_path}/jobs/a/workspace"}
    with subprocess.Popen(["sleep", "30"], env=environ) as child:
        assert [process.pid for process in processes.below(str(tmp_path))] == [child.pid]
        assert processes.below(f"{tmp_path}/jobs/b") == []
        processes.clear(str(tmp_path))
        assert child.wait() == -9


@pytest.mark.docker
def test_tasks_in_containers_can_tell(tmp_path: Path) -> None:
    """What one run has left behind in another container is seen for as long as it lives, and not any longer."""
    image = require_image()
    tmp_path.chmod(0o777)
    volumes = {"/air/workspace": str(tmp_path), "/task.sh:ro": str(SCRIPT)}
    made: list[DockerContainer] = []

    def run(number: int, seconds: str) -> DockerContainer:
        out = {name: f"/air/workspace/{name}" for name in ("AIR_QUEUE", "AIR_RESULT")}
        env = {**out, "AIR_WORKSPACE": "/air/workspace", "AIR_SLOT": "0", "AIR_RUN_ID": f"0123abcd-{number}"}
        command = ("sh", "/task.sh", f"label{number}", seconds, "0", "0")
        made.append(container(image, *command, volumes=volumes, env=env))
        return made[-1].start()

    def violations() -> str:
        path = tmp_path / "violations"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    try:
        first = run(1, "60")
        wait_for((tmp_path / "slot-0.busy").exists, what="the first to be in its slot")
        first.get_wrapped_container().kill()
        first.wait()
        run(2, "0").wait()
        assert (tmp_path / "end.label2.0123abcd-2").exists()
        assert violations() == ""
        run(3, "60")
        wait_for((tmp_path / "slot-0.busy").exists, what="the third to be in its slot")
        run(4, "0").wait()
        assert "slot 0 is taken by run 0123abcd-3" in violations()
    finally:
        for one in made:
            one.stop()


@pytest.mark.kubernetes
@pytest.mark.timeout(300)
def test_pods_are_found_and_hit(tmp_path: Path) -> None:
    """A pod that runs counts as left, is hit from outside by its run, and lingers until the cluster clears it away."""
    require_cluster()
    # What only the campaign needs, and the SDK with it.
    from tests.crash.pods import Pods  # noqa: PLC0415

    pods = Pods(str(tmp_path), 1)
    space = pods.space
    run = {"name": "AIR_RUN_ID", "value": "0123abcd-1"}
    task = {"name": "task", "image": pods.access.image, "command": ["sh", "-c", "sleep 600; exit 3"], "env": [run]}
    template = {
        "metadata": {"labels": {RUN: run["value"]}},
        "spec": {"restartPolicy": "Never", "containers": [{**task, "imagePullPolicy": "Never"}]},
    }
    job = {"metadata": {"name": "air-x"}, "spec": {"backoffLimit": 0, "template": template}}
    try:
        assert pods.left() == []
        space.ask("POST", f"/apis/batch/v1/namespaces/{space.name}/jobs", job)
        wait_for(lambda: str(pods.strike("inside", 0)).startswith("inside air-x-"), 120, "the pod to be hit")

        def has_ended() -> bool:
            if space.pods()[0]["status"]["phase"] == "Failed":
                return True
            pods.strike("inside", 0)  # once more: one that just became another program is let be
            return False

        wait_for(has_ended, 120, "its task to end")
        assert pods.lingering()
        assert pods.left()
        pods.clear()
        wait_for(lambda: not pods.lingering(), 120, "the cluster to clear it away")
        assert pods.left() == []
    finally:
        pods.close()


def test_who_listens() -> None:
    """A daemon is found by the port that it listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert daemon.listener_on(port) == os.getpid()
    with pytest.raises(OSError, match=f"port {port}"):
        daemon.listener_on(port)


def test_a_gate_falls_silent_and_breaks() -> None:
    """What asks through a gate gets an answer, late while the gate is shut, none once connections are broken."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as engine:
        engine.bind(f"{folder}/engine")
        engine.listen()
        gate = Gate(f"{folder}/engine")
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(120)
                client.connect(gate.address.removeprefix("unix://"))
                answering, _ = engine.accept()
                with answering:
                    gate.shut()
                    client.sendall(b"ping")
                    answering.settimeout(0.2)
                    with pytest.raises(TimeoutError):
                        answering.recv(4)
                    gate.open()
                    answering.settimeout(120)
                    assert answering.recv(4) == b"ping"
                    answering.sendall(b"pong")
                    assert client.recv(4) == b"pong"
                    gate.slam()
                    assert (client.recv(4), answering.recv(4)) == (b"", b"")
        finally:
            gate.close()

"""The runner in real containers, hardened as ours are: what it leaves behind, what it passes on, and when it ends."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.types import LogConfig
from testcontainers.core.container import DockerContainer

from tests import engine
from tests.engine import BUSYBOX, PYTHON_IMAGE, require_engine, require_image, require_python_image
from tests.lanes import missing
from tests.runner.rig import SCRIPT, require_native, until

pytestmark = pytest.mark.docker

LIMIT = 64 << 20
EAT = "dd if=/dev/zero of=/dev/null bs=200M count=1"
"""Needs three times the limit at once."""


class Container:
    """One container with one run."""

    def __init__(self, folder: Path, image: str, runner: str = SCRIPT) -> None:
        self._runner = runner
        self.out = folder / "out"
        self.out.mkdir()
        self.out.chmod(0o777)
        self.log = self.out / "output.log"
        self.log.touch()
        self.log.chmod(0o666)
        self._image = image
        self._container: DockerContainer | None = None

    def start(self, script: str, **options: Any) -> None:  # noqa: ANN401 - as for start_command
        """Start a run of a line of sh."""
        self.start_command("sh", "-c", script, **options)

    def start_command(self, *command: str, timeout: str = "-", grace: str = "100", cgroup: Path | None = None) -> None:
        """Start a run; `cgroup` is a folder to show in the place of the kernel's own."""
        volumes = {"/air/out": str(self.out), "/air/bin/air-runner:ro": self._runner}
        if cgroup is not None:
            volumes["/sys/fs/cgroup:ro"] = str(cgroup)
        words = ("/air/out", "/tmp", timeout, grace, "container", *command)  # noqa: S108 - the container's
        runner = "/air/bin/air-runner"
        is_script = self._runner == SCRIPT
        self._container = engine.container(
            self._image,
            *((runner, *words) if is_script else words),
            entrypoint="sh" if is_script else runner,
            env={"_air_image": self._image, "_air_bin": "/air/bin"},
            volumes=volumes,
            user="65532:65532",
            init=True,
            read_only=True,
            mem_limit=LIMIT,
            memswap_limit=LIMIT,
            cap_drop=["ALL"],
            log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": "10m", "max-file": "1"}),
        )
        self._container.with_tmpfs_mount("/tmp", "mode=1777").start()  # noqa: S108 - the same

    @property
    def _started(self) -> DockerContainer:
        assert self._container is not None
        return self._container

    def term(self) -> None:
        """Send TERM to the container, as a stop does."""
        self._started.get_wrapped_container().kill("SIGTERM")

    def wait(self) -> int:
        """Return the container's exit code once it has ended."""
        return self._started.wait()

    def run(self, script: str, **options: Any) -> int:  # noqa: ANN401 - as for start
        """Run a line of sh to its end."""
        self.start(script, **options)
        return self.wait()

    @property
    def logs(self) -> bytes:
        """What the engine has of its output."""
        return self._started.get_wrapped_container().logs()

    @property
    def exit(self) -> dict[str, Any]:
        """What exit.json says."""
        found: dict[str, Any] = json.loads((self.out / "exit.json").read_text())
        return found

    def remove(self) -> None:
        """Leave nothing on the engine."""
        if self._container is not None:
            self._container.stop()


@pytest.fixture(params=["script", "native"])
def runner(request: pytest.FixtureRequest) -> str:
    """The program that runs the command."""
    return SCRIPT if request.param == "script" else require_native()


@pytest.fixture(params=[BUSYBOX, PYTHON_IMAGE], ids=["busybox", "debian"])
def container(request: pytest.FixtureRequest, tmp_path: Path, runner: str) -> Iterator[Container]:
    """A container of a tiny image, and of an ordinary one."""
    ready = Container(tmp_path, require_image() if request.param == BUSYBOX else require_python_image(), runner)
    yield ready
    ready.remove()


def test_what_a_run_leaves(container: Container) -> None:
    """The command's exit code is the container's, its output is in the file and with the engine, memory is known."""
    assert container.run("echo out; echo err >&2; exit 3") == 3
    assert container.exit["exit_code"] == 3
    assert container.logs == container.log.read_bytes() == b"out\nerr\n"
    assert 0 < container.exit["memory_peak"] <= LIMIT
    assert container.exit["oom_kills"] == 0


@pytest.mark.parametrize(("script", "code"), [(f"exec {EAT}", 137), (f"{EAT}; {EAT}; exit 5", 5)])
def test_memory_runs_out(container: Container, script: str, code: int) -> None:
    """Each process that the kernel killed is counted, also where a child was and the command ended in its own way."""
    assert container.run(script) == code
    assert container.exit["exit_code"] == code
    assert container.exit["oom_kills"] == script.count(EAT)
    assert LIMIT * 0.9 < container.exit["memory_peak"] <= LIMIT


V2 = {"memory.peak": "1234567\n", "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\noom_group_kill 0\n"}
V1 = {
    "memory/memory.max_usage_in_bytes": "1234567\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
}


@pytest.mark.parametrize(
    ("files", "peak", "kills"),
    [
        (V2, 1234567, 2),
        ({"memory.events": V2["memory.events"]}, None, 2),  # v2 before Linux 5.19
        (V1, 1234567, 2),
        ({**V1, "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, 1234567, None),  # before 4.13
        ({}, None, None),
        ({"memory.peak": "max\n", "memory.events": "oom_kill\n"}, None, None),
    ],
    ids=["v2", "v2-old", "v1", "v1-old", "none", "odd"],
)
def test_what_kernels_tell(
    container: Container, tmp_path: Path, files: dict[str, str], peak: int | None, kills: int | None
) -> None:
    """Both versions of cgroups are read; what a kernel does not tell is not known."""
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    for name, text in files.items():
        (cgroup / name).parent.mkdir(exist_ok=True)
        (cgroup / name).write_text(text)
    assert container.run("true", cgroup=cgroup) == 0
    assert (container.exit["memory_peak"], container.exit["oom_kills"]) == (peak, kills)


def test_term_reaches_the_task(container: Container) -> None:
    """A stop of the container is a TERM for the command, which may end in its own way."""
    container.start("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    until(lambda: b"ready" in container.log.read_bytes())
    container.term()
    assert container.wait() == 7
    assert (container.exit["exit_code"], container.exit["stopped"]) == (7, True)
    assert container.logs.endswith(b"bye\n"), "the shell may say before that its child was terminated"


@pytest.mark.parametrize("timeout", ["-", "10"])
def test_a_task_that_ignores_term(container: Container, timeout: str) -> None:
    """It gets KILL after the grace, stopped from outside or by its timeout, and its children go with the container."""
    container.start(
        "trap '' TERM; (while :; do sleep 0.1; done) & echo ready; while :; do sleep 0.1; done",
        grace="1",
        timeout=timeout,
    )
    until(lambda: b"ready" in container.log.read_bytes())
    begun = time.monotonic()
    if timeout == "-":
        container.term()
    assert container.wait() == 137
    assert time.monotonic() - begun < 60
    assert (container.exit["signal"], container.exit["timed_out"]) == (9, timeout != "-")


def test_a_daemon_dies_with_the_container(container: Container) -> None:
    """What the task left behind holds up neither its end nor the container's."""
    begun = time.monotonic()
    assert container.run("(trap '' TERM HUP; exec sleep 600) & echo started") == 0
    assert time.monotonic() - begun < 300
    assert container.logs == b"started\n"


def test_much_output_holds_up_little(container: Container) -> None:
    """However slowly the engine takes it: the file has all, the engine the end, and the run ends soon."""
    assert container.run("head -c 200000000 /dev/zero; echo; echo last; touch /air/out/done") == 0
    assert container.log.stat().st_size == 200_000_006
    assert container.logs.endswith(b"last\n")
    delay = (container.out / "exit.json").stat().st_mtime - (container.out / "done").stat().st_mtime
    assert delay < 5, "the whole would take ten seconds and more"


SH_ALONE = "air-executor-test-sh-alone"
"""An image with a POSIX shell, the library that it needs, and nothing else."""


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Container]:
    """A container of an image that holds `sh` alone."""
    client = require_engine()
    if not client.images(SH_ALONE):
        dash = shutil.which("dash")
        if dash is None:
            missing("dash is not installed; on Debian: apt-get install dash")
        libraries = re.findall(
            r"(/\S+) \(0x", subprocess.run(["ldd", dash], capture_output=True, text=True, check=True).stdout
        )
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
            tar.add(dash, "bin/sh")
            for library in libraries:
                tar.add(library, library.lstrip("/"))
        client.import_image_from_data(buffer.getvalue(), repository=SH_ALONE, changes=["ENV PATH=/bin"])
    client.close()
    ready = Container(tmp_path, SH_ALONE)
    yield ready
    ready.remove()


def test_an_image_with_a_shell_alone(bare: Container) -> None:
    """No timeout is made up where nothing can sleep, and the output is copied at the end."""
    work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; printf rest; exit 3"
    assert bare.run(work, timeout="600", grace="5") == 3
    assert (bare.exit["exit_code"], bare.exit["timed_out"]) == (3, False)
    assert bare.log.read_bytes() == b"done\nrest"
    assert bare.logs == b"done\nrest\n"


def test_in_an_image_with_a_shell_alone_nothing_spins(bare: Container) -> None:
    """While the command waits, the runner waits as well."""
    os.mkfifo(bare.out / "fifo", 0o666)
    (bare.out / "fifo").chmod(0o666)
    bare.start("read -r go </air/out/fifo; exit 4", timeout="600")
    time.sleep(3)
    (bare.out / "fifo").write_text("go\n")
    assert bare.wait() == 4
    seconds = [float(value.removesuffix("s").split("m")[1]) for value in (bare.exit["user"], bare.exit["system"])]
    assert sum(seconds) < 0.5

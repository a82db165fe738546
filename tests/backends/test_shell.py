"""A shell beside a task in a container: what it has, its terminal, and that it ends with the container."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.base import Launch
from air_executor.backends.container.remote_process import STDERR, STDOUT, RemoteProcess
from air_executor.backends.local import run_process
from air_executor.errors import BackendUnavailableError, NotFoundError
from air_executor.model.names import Slot
from air_executor.wiring import open_shell
from tests.backends.conftest import MARKS
from tests.backends.rig import DockerRig, KubernetesRig, LocalRig, Task
from tests.backends.test_contract import is_gone

SLOT = Slot("census", 0)
LOOK = 'echo "$COLOR $AIR_TASK_ID"; pwd; id -u; echo "${PATH##*:}"; echo "<$_air_bin$_air_image>"; echo oh >&2; exit 7'
RIGS = [pytest.param(kind, marks=MARKS[name]) for name, kind in (("docker", DockerRig), ("kubernetes", KubernetesRig))]


class Beside:
    """A platform with one task that runs until it is released."""

    def __init__(self, rig: Any) -> None:  # noqa: ANN401 - one of two rigs
        self.rig = rig
        kind = "docker" if isinstance(rig, DockerRig) else "kubernetes"
        self.settings = rig.settings.model_copy(update={"backend": kind})
        self.backend = rig.backend()
        uid = secrets.token_hex(4)
        made = rig.launch(SLOT, 1, Task.WAITS)
        env = {**made.env, "COLOR": "green", "AIR_RUN_ID": f"{uid}-1"}
        self.launch: Launch = dataclasses.replace(made, uid=uid, run=f"{uid}-1", env=env)
        self.backend.spawn(self.launch)
        rig.until(lambda: rig.is_ready(self.launch), "the task to run")

    def open(self, *command: str, tty: bool = False) -> RemoteProcess:
        """Open a command, or a shell, beside it."""
        opened = open_shell(self.settings, self.launch.run, command, tty=tty)
        assert not isinstance(opened, run_process.RunProcess)
        return opened


@pytest.fixture(params=RIGS)
def beside(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Beside]:
    """A task that runs in a container."""
    rig = request.param(tmp_path)
    yield Beside(rig)
    rig.close()


def run(process: RemoteProcess) -> tuple[int, str, str]:
    """Return exit code, output and complaints of a program."""
    found = {STDOUT: b"", STDERR: b""}
    with contextlib.closing(process):
        for stream, data in process.output():
            found[stream] += data
        return process.exit_code(), found[STDOUT].decode(), found[STDERR].decode()


def until(process: RemoteProcess, words: str) -> Callable[[], str]:
    """Read until these words are shown; return what reads the rest."""
    shown, output = "", process.output()
    while words not in shown:
        shown += next(output)[1].decode()
    return lambda: "".join(data.decode() for _, data in output)


def test_beside_a_task_in_a_container(beside: Beside) -> None:
    """Variables, folder, user and helpers of the task; two streams; a terminal; and no longer than the container."""
    code, out, err = run(beside.open("sh", "-c", LOOK))
    uid = str(os.stat(beside.launch.out_dir).st_uid or 65532)
    assert (code, out.split(), err) == (7, ["green", "t", "/air/workspace", uid, "/air/bin", "<>"], "oh\n")

    code, _, err = run(beside.open("no-such-program"))
    assert (code, "no-such-program: not found" in err) == (127, True)

    with contextlib.closing(beside.open(tty=True)) as terminal:
        terminal.resize(33, 99)
        terminal.send(b"echo $COLOR-$AIR_TASK_ID; stty size\n")
        rest = until(terminal, "33 99")
        beside.backend.remove(SLOT)
        rest()
        with contextlib.suppress(BackendUnavailableError):  # the cluster does not tell
            assert terminal.exit_code() == 137
    beside.rig.until(lambda: is_gone(beside.backend), "the container to be gone")
    with pytest.raises(NotFoundError, match=f"run {beside.launch.run} has no running"):
        beside.open("true")


def test_the_process_of_a_local_task(local: LocalRig) -> None:
    """Not the runner, nor a part of it, whatever the runner is made of, and however processes are listed."""
    backend = local.backend()
    run = f"5hell{os.getpid()}-1"  # other tests run beside this one
    launch = local.command(SLOT, 1, f"cd /; {Task.WAITS.value}")
    launch = dataclasses.replace(launch, env={**launch.env, "AIR_RUN_ID": run})
    backend.spawn(launch)
    local.until(lambda: Path(launch.workspace, f"ready-{run}").exists(), "the task to run")
    found = run_process.find(run, run_process.polled() if local.portable else None)
    assert found.command[0] == b"sh"
    assert (found.workdir, found.environment[b"AIR_TASK_ID"]) == ("/", b"t")
    Path(launch.workspace, f"release-{run}").touch()
    local.until(lambda: (slot := backend.observe().get(SLOT)) is None or not slot.alive, "the task to end")
    with pytest.raises(NotFoundError, match="no process of run"):
        run_process.find(run)

"""The launcher starts runners for the manager: as `posix_spawn` would, and whatever becomes of the launcher itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from air_executor.backends.base import Launch
from air_executor.backends.local import launcher
from air_executor.backends.local.local_backend import LocalBackend
from air_executor.errors import BackendUnavailableError, SpawnRejectedError
from air_executor.model.names import Slot
from air_executor.runner import native
from tests.backends.rig import LocalRig, Task
from tests.conftest import wait_for

SLOT = Slot("census", 0)
LOOK = f"""exec {sys.executable} -c '
import json, os, signal
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
masks = [int(status[name], 16) for name in ("SigBlk", "SigIgn")]
with open("look", "w") as file:
    json.dump([fds, masks, os.getcwd(), dict(os.environ)], file)
'"""
"""What a command finds: descriptors, blocked and ignored signals, folder, environment."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no native runner for other systems")


@pytest.fixture(params=[False, True], ids=["native", "native-cgroup"])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalRig]:
    """Native runners, without and with cgroups."""
    rig = LocalRig(tmp_path, is_native=True, in_cgroups=request.param)
    yield rig
    rig.close()


def launcher_of(backend: LocalBackend) -> psutil.Process:
    """Return the process of a backend's launcher."""
    return psutil.Process(backend._spawner.launcher_pid)


def run(rig: LocalRig, backend: LocalBackend, launch: Launch) -> None:
    """Run a task to its end."""
    backend.spawn(launch)
    rig.until(lambda: launch.slot not in backend.observe(), "the run to be over")


def without_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the manager start runners by itself."""

    def start(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(launcher.RunnerLauncher, "start", start)


def test_a_task_finds_what_it_finds_without_a_launcher(local: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors, signals, folder and environment are the same, whatever the manager has open, ignored and blocked."""
    found = []
    inherited = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(inherited, True)  # noqa: FBT003 - its only argument
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    handler = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        for has_launcher in (True, False):
            if not has_launcher:
                without_launcher(monkeypatch)
            backend = local.backend()
            launch = local.command(SLOT, 1, LOOK)
            env = {**launch.env, "PATH": f"{os.environ['PATH']}:/nowhere", "TEXT": "a\nb=\udcff"}
            run(local, backend, replace(launch, env=env, workdir=launch.workspace))
            assert bool(backend._spawner.launcher_pid) == has_launcher
            backend.close()
            Path(launch.out_dir, "claim").unlink()
            found.append(json.loads(Path(launch.workspace, "look").read_text()))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGUSR2, handler)
        os.close(inherited)
    fds, masks, folder, env = found[0]
    assert found[0] == found[1]
    assert fds == [0, 1, 2, 3, 9], "3 is that of the listing itself"
    assert masks[0] == 0
    assert not masks[1] & 1 << signal.SIGUSR2 - 1
    assert (folder, env["TEXT"]) == (launch.workspace, "a\nb=\udcff")


def test_many_runners_are_started_at_once(local: LocalRig) -> None:
    """One launcher starts them all, as the manager's own children, and nothing of them is left."""
    backend = local.backend()
    launches = [local.launch(Slot("census", number), number + 1, Task.WAITS) for number in range(30)]
    for launch in launches:
        backend.spawn(launch)
    assert len({status.run for status in backend.observe().values() if status.alive}) == len(launches)
    first = launcher_of(backend)
    assert first.children() == []
    children = psutil.Process().children()
    assert len([child for child in children if child.name() == native.NAME]) == len(launches)
    for launch in launches:
        local.release(launch)
    local.until(lambda: not backend.observe(), "all runs to be over")
    assert launcher_of(backend) == first
    assert len(os.listdir(f"/proc/{first.pid}/fd")) == 4
    assert not [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]


def test_a_launcher_that_was_killed_is_replaced(local: LocalRig) -> None:
    """The next run starts without it, and the one after that by another one; runners go on meanwhile."""
    backend = local.backend()
    waits = local.launch(SLOT, 1, Task.WAITS)
    backend.spawn(waits)
    first = launcher_of(backend)
    first.kill()
    wait_for(lambda: first.status() == psutil.STATUS_ZOMBIE, timeout=60, what="its end")
    for seq in (2, 3):
        run(local, backend, local.launch(Slot("census", 1), seq, Task.ENDS))
    assert launcher_of(backend) != first
    assert not first.is_running()
    assert backend.observe()[SLOT].alive
    local.release(waits)
    local.until(lambda: not backend.observe(), "the first run to be over")


class Deaf:
    """The socket of a launcher whose answers are lost, once it has started a runner and that its task."""

    def __init__(self, real: socket.socket, until: Callable[[], None]) -> None:
        self._real = real
        self._until = until
        self.sendmsg = real.sendmsg
        self.close = real.close

    def recv(self, size: int) -> bytes:
        """Take an answer and lose it."""
        self._real.recv(size)
        self._until()
        raise TimeoutError


def test_an_answer_that_is_lost(local: LocalRig) -> None:
    """The runner was started, nobody knows, and the next look finds it; another launcher starts the next one."""
    backend = local.backend()
    run(local, backend, local.launch(SLOT, 1, Task.ENDS))
    process, launch = launcher_of(backend), local.launch(SLOT, 2, Task.WAITS)
    assert backend._spawner._launcher is not None
    deaf = Deaf(backend._spawner._launcher._socket, lambda: local.until(lambda: local.is_ready(launch), "the task"))
    backend._spawner._launcher._socket = deaf  # type: ignore[assignment]
    with pytest.raises(BackendUnavailableError, match="launcher"):
        backend.spawn(launch)
    assert not process.is_running()
    status = backend.observe()[SLOT]
    assert (status.run, status.alive) == (launch.run, True)
    local.release(launch)
    run(local, backend, local.launch(Slot("census", 1), 3, Task.ENDS))
    local.until(lambda: not backend.observe(), "the run to be over")


def test_a_launcher_that_does_not_answer(local: LocalRig) -> None:
    """It is ended before it starts anything, and its request with it: the slot is free at once."""
    backend = local.backend()
    run(local, backend, local.launch(SLOT, 1, Task.ENDS))
    process, launch = launcher_of(backend), local.launch(SLOT, 2, Task.ENDS)
    process.suspend()
    assert backend._spawner._launcher is not None
    patience = struct.pack("@ll", 0, 100_000)
    backend._spawner._launcher._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    with pytest.raises(BackendUnavailableError, match="launcher"):
        backend.spawn(launch)
    assert not process.is_running()
    assert backend.observe() == {}
    run(local, backend, launch)
    assert local.is_ready(launch)


def test_a_launcher_ends_with_its_manager(local: LocalRig) -> None:
    """Killed, a manager leaves its runner and no launcher; closed, neither."""
    launch = local.launch(SLOT, 1, Task.WAITS)
    local.spawn_by_manager_that_is_killed(launch)
    local.until(lambda: not launchers(local), "the launcher to end")
    backend = local.backend()
    local.until(lambda: local.is_ready(launch), "the task to start")
    assert backend.observe()[SLOT].run == launch.run
    local.release(launch)
    local.until(lambda: not backend.observe(), "the run to be over")
    run(local, backend, local.launch(SLOT, 2, Task.ENDS))
    assert launchers(local) == [launcher_of(backend).pid]
    backend.close()
    assert launchers(local) == []


def launchers(rig: LocalRig) -> list[int]:
    """Return the pids of all launchers of a state directory."""
    found = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == [launcher.NAME]]
    pids = []
    for one in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            if one.environ()["AIR_STATE_DIR"] == rig.layout.root:
                pids.append(one.pid)
    return pids


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_runner_that_cannot_be_started(local: LocalRig, monkeypatch: pytest.MonkeyPatch, mode: int | None) -> None:
    """It is missing or not executable: the start is rejected with its path, and the launcher goes on."""
    backend = local.backend()
    run(local, backend, local.launch(SLOT, 1, Task.ENDS))
    process = launcher_of(backend)
    program = Path(local.layout.bin, "not-a-runner")
    if mode is not None:
        program.touch(mode)
    with monkeypatch.context() as patch:
        patch.setattr(backend._spawner, "runner", lambda _launch: [str(program)])
        with pytest.raises(SpawnRejectedError, match=r"start .*/not-a-runner .*(No such file|Permission denied)"):
            backend.spawn(local.launch(SLOT, 2, Task.ENDS))
    assert backend.observe() == {}
    run(local, backend, local.launch(SLOT, 3, Task.ENDS))
    assert launcher_of(backend) == process


def test_a_program_that_is_none(local: LocalRig) -> None:
    """A runner that the kernel refuses to execute ends at once, and frees its slot."""
    backend = local.backend()
    run(local, backend, local.launch(SLOT, 1, Task.ENDS))
    program = Path(local.layout.bin, str(native.this_machine()), native.NAME)
    program.unlink()  # the launcher still runs from it
    program.write_bytes(b"no program")
    program.chmod(0o755)
    launch = local.launch(SLOT, 2, Task.ENDS)
    run(local, backend, launch)
    assert not local.is_ready(launch)


@pytest.mark.parametrize("words", [["x" * 100_000], ["x"] * 5000, [""] * 10])
def test_any_number_of_words(local: LocalRig, words: list[str]) -> None:
    """What is too long or too much for the launcher the manager starts itself; empty words are words."""
    backend = local.backend()
    launch = local.launch(SLOT, 1, Task.ENDS)
    command = ("sh", "-c", 'echo "$# $1" >words', "sh", *words)
    run(local, backend, replace(launch, argv=command, workdir=launch.workspace))
    assert Path(launch.workspace, "words").read_text() == f"{len(words)} {words[0]}\n"
    assert backend._spawner.launcher_pid

"""The native runner of the other architecture, which an emulator runs: the build for arm64, as a release makes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor.runner import native
from tests.lanes import missing
from tests.runner.rig import Rig, until

MACHINE = "aarch64"
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The runner for arm64, started by an emulator where this machine is another one."""
    words = [sys.executable, "-m", "ziglang", "cc", "-target", f"{MACHINE}-linux-musl"]
    path = tmp_path_factory.mktemp(MACHINE) / native.NAME
    try:
        native.compile_to(str(path), words)
    except subprocess.CalledProcessError as error:
        if "No module named ziglang" not in error.stderr:
            raise
        pytest.skip("there is no compiler for arm64; pip install ziglang")
    if native.this_machine() == MACHINE:
        return str(path)
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        missing("there is no emulator of arm64; on Debian: apt-get install qemu-user")
    wrapper = path.with_name("emulated")
    wrapper.write_text(f'#!/bin/sh\nexec {emulator} {path} "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


@pytest.fixture
def emulated(program: str, tmp_path: Path) -> Iterator[Rig]:
    """One run, ready to be started by the runner for arm64."""
    ready = Rig(tmp_path, [], program)
    yield ready
    ready.clean_up()


def test_it_says_what_it_is(program: str) -> None:
    """It is a build of these sources."""
    done = subprocess.run([program, "--version"], capture_output=True, check=True)
    assert native.digest().encode() in done.stdout


@pytest.mark.parametrize(("script", "code"), [("echo hello", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_it_records_how_a_command_ended(emulated: Rig, script: str, code: int) -> None:
    """Exit code, signal, output, CPU time and peak memory, as on the architecture of the other tests."""
    assert emulated.script(script) == code
    found = emulated.exit
    assert found["exit_code"] == code
    assert found["signal"] == (9 if code == 137 else None)
    assert found["memory_peak"] > 0
    assert emulated.log == (b"hello\n" if code == 0 else b"")


def test_it_claims_a_run_once(emulated: Rig) -> None:
    """A second runner of the run touches nothing."""
    assert emulated.script("echo once") == 0
    assert emulated.script("echo twice", locked=False) in {96, 97}
    assert emulated.log == b"once\n"


def test_it_ends_a_command_in_time(emulated: Rig) -> None:
    """TERM at the timeout, KILL after the grace, for all of its processes."""
    runner = emulated.start("sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000; sleep 1000", timeout="1", grace="0.5")
    assert runner.wait() in {-signal.SIGKILL, 137}
    assert emulated.exit["timed_out"]
    until(lambda: emulated.alive() == [])


def test_it_passes_a_stop_on(emulated: Rig) -> None:
    """The command gets TERM and can end in its own way."""
    runner = emulated.start("sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done")
    until(
        lambda: b"up" in (emulated.out / "output.log").read_bytes() if (emulated.out / "output.log").exists() else False
    )
    runner.send(signal.SIGTERM)
    assert runner.wait() == 5
    assert emulated.exit["stopped"]
    assert emulated.log.endswith(b"bye\n")


def test_it_runs_in_a_container(emulated: Rig) -> None:
    """Output goes to the container's own stdout, too, and a missing command has a message."""
    assert emulated.script("echo hello", mode="container") == 0
    assert emulated.stdout.read_bytes() == b"hello\n"


def test_it_explains_what_is_missing(emulated: Rig) -> None:
    """As the other build does."""
    assert emulated.run("no-such-program") == 127
    assert emulated.exit["message"] == "command not found: no-such-program"


def test_its_helpers_write_what_tasks_queue(program: str, tmp_path: Path) -> None:
    """Under another name it is a helper."""
    queue, helper = tmp_path / "queue", tmp_path / "air-queue"
    if native.this_machine() == MACHINE:
        helper.symlink_to(program)
    else:
        emulator, binary = Path(program).read_text().split()[2:4]
        helper.write_text(f'#!/bin/sh\nexec {emulator} -0 air-queue {binary} "$@"\n')
        helper.chmod(0o755)
    subprocess.run(
        [helper, "--id", "x", "--", "echo", 'a "b"'], env={**os.environ, "AIR_QUEUE": str(queue)}, check=True
    )
    assert json.loads(queue.read_text()) == {"id": "x", "command": ["echo", 'a "b"']}

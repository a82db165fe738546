"""A runner that stays after a failure, by either runner program: people can look into it, and it ends by itself."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.base import Launch
from air_executor.backends.local.run_process import RunProcess
from air_executor.errors import NotFoundError
from air_executor.model.names import Slot
from air_executor.wiring import open_shell
from tests.backends.conftest import MARKS
from tests.backends.rig import DockerRig, KubernetesRig
from tests.backends.test_contract import has_ended, is_gone
from tests.backends.test_shell import run

SLOT = Slot("census", 0)
PLATFORMS = {"docker": DockerRig, "kubernetes": KubernetesRig}
COMMAND = 'echo found >/tmp/left; echo "$_air_keep" >"$AIR_WORKSPACE/keep"; n=1000; (sleep ${n}3; :) & exit 3'
COUNT = 'for p in /proc/[0-9]*; do tr "\\0" " " <$p/cmdline; done | grep -c "[s]leep 10003"'
LOOK = f'cat /tmp/left; echo "<$_air_keep>"; {COUNT}'


@pytest.fixture(params=[pytest.param(name, marks=MARKS[name]) for name in PLATFORMS])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A platform with nothing on it."""
    rig: Any = PLATFORMS[request.param](tmp_path)
    rig.settings = rig.settings.model_copy(update={"backend": request.param})
    yield rig
    rig.close()


def looked(platform: Any, name: str) -> str:  # noqa: ANN401 - one of two rigs
    """Return what a shell finds in the container of a run, which a node may report late."""
    found: list[str] = []

    def look() -> bool:
        with contextlib.suppress(NotFoundError):
            process = open_shell(platform.settings, name, ["sh", "-c", LOOK], tty=False)
            assert not isinstance(process, RunProcess)
            found.append(run(process)[1])
        return bool(found)

    platform.until(look, "a running container")
    return found[0]


def kept(platform: Any) -> Launch:  # noqa: ANN401 - one of two rigs
    """Return a run that fails and stays; people find it by its id, which no other test's run on the engine has."""
    uid, launch = secrets.token_hex(4), platform.command(SLOT, 1, COMMAND)
    found: Launch = dataclasses.replace(launch, keep=600.0, uid=uid, run=f"{uid}-1")
    return found


@pytest.mark.parametrize("program", ["native", "script"])
def test_a_failed_runner_stays(platform: Any, program: str) -> None:  # noqa: ANN401 - one of two rigs
    """It is alive after the outcome is there; a shell finds what the command left, but for its processes."""
    backend = platform.backend()
    if program == "script":
        for machine in Path(platform.layout.bin).iterdir():
            if machine.is_dir():
                shutil.rmtree(machine)
    launch = kept(platform)
    backend.spawn(launch)
    left = Path(launch.out_dir, "exit.json")
    platform.until(lambda: left.is_file() and left.read_bytes().endswith(b"\n"), "the outcome")
    status = backend.observe()[SLOT]
    assert (status.run, status.alive) == (launch.run, True)
    assert Path(launch.workspace, "keep").read_text(encoding="utf-8") == "\n"
    assert looked(platform, launch.run) == "found\n<>\n0\n"
    platform.until(lambda: is_gone(backend), "the runner to be gone")


def test_a_failed_runner_ends_by_itself(platform: Any) -> None:  # noqa: ANN401 - one of two rigs
    """No manager need live, and its exit code is the command's."""
    backend = platform.backend()
    backend.spawn(dataclasses.replace(platform.command(SLOT, 1, "exit 3"), keep=1.0))
    platform.until(lambda: has_ended(backend), "the runner to end")
    status = backend.observe().get(SLOT)
    assert status is None or status.exit_code == 3
    platform.until(lambda: is_gone(backend), "the runner to be gone")

"""The processes of one trial: found by the workspace in their environment, whatever the manager believes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """A live process that belongs to a run of the trial."""

    pid: int
    group: int
    command: str

    @property
    def is_runner(self) -> bool:
        """Whether it is the runner, native or a shell, and no subshell of it."""
        return re.search(r"/bin/(\w+/)?air-runner ", self.command) is not None and self.pid == self.group


def below(state_dir: str) -> list[Found]:
    """Return the live processes whose workspace is below that state directory, in order of pid."""
    return _with(f"AIR_WORKSPACE={state_dir}/".encode())


def of_run(run: str) -> list[Found]:
    """Return the live processes of a run, in order of pid; those in containers, too, if they are on this machine."""
    return _with(f"AIR_RUN_ID={run}\0".encode())


def of_pod(uid: str) -> list[Found]:
    """Return the live carriers of a pod, which is on this machine."""
    return _with(f"AIR_CARRIER_HOLDER={uid}\0".encode())


def _with(mark: bytes) -> list[Found]:
    """Return the live processes that have this in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environ = file.read()
            if mark not in environ:
                continue
            with open(f"/proc/{name}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace")
            found.append(Found(int(name), os.getpgid(int(name)), command))
        except OSError:  # gone, or not ours
            continue
    return sorted(found, key=lambda process: process.pid)


def kill_one(victim: Found) -> None:
    """SIGKILL, unless the number has changed hands."""
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(victim.pid)
        try:
            with open(f"/proc/{victim.pid}/cmdline", "rb") as file:
                if file.read().replace(b"\0", b" ").decode(errors="replace") == victim.command:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)


def kill(state_dir: str, target: str, choice: float) -> str | None:
    """Kill a runner's shell (`runner`), one of its tasks (`task`) or a whole session (`group`); say who it was."""
    there = below(state_dir)
    candidates = [p for p in there if p.is_runner == (target != "task")]
    if not candidates:
        return None
    victim = candidates[min(int(choice * len(candidates)), len(candidates) - 1)]
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(victim.pid)
        try:
            if not any(p.pid == victim.pid and p.group == victim.group for p in below(state_dir)):
                return None  # the number has changed hands
            if target == "group":
                os.killpg(victim.pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
    return f"{target} {victim.pid} {victim.command}"


class Processes:
    """The runners of one trial: see `tests.crash.platform.Platform`."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir

    def left(self) -> list[str]:
        """Return what is there."""
        return [str(process) for process in below(self._state_dir)]

    def lingering(self) -> bool:
        """What has ended is gone."""
        return False

    def strike(self, target: str, choice: float) -> str | None:
        """Kill; see `kill`."""
        return kill(self._state_dir, target, choice)

    def relent(self) -> None:
        """What was killed stays so."""

    def clear(self) -> None:
        """Kill whatever is left."""
        clear(self._state_dir)

    def close(self) -> None:
        """There is nothing to let go of."""


def clear(state_dir: str) -> None:
    """Kill whatever of a failed trial is left, so that it does not disturb the next one."""
    for process in below(state_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)

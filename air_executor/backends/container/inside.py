"""What a run looks like from inside a container, whatever platform holds it: paths, command and environment.

A container sees only its run's `out/`, its job's workspace and `bin/`, each at a fixed path, so that nothing of the
host's paths reaches a task. Pure functions; used by the container backends.
"""

from __future__ import annotations

import os

from air_executor.backends.base import Launch
from air_executor.errors import SpawnRejectedError

OUT = "/air/out"
WORKSPACE = "/air/workspace"
BIN = "/air/bin"
TEMPORARY = "/tmp"  # noqa: S108 - the task's own, memory of its container
HOME = TEMPORARY
"""Any user may run in any image, so the image's home folder may be missing or somebody else's."""


def command(launch: Launch) -> list[str]:
    """Return the words that start the runner, which then starts the task."""
    timeout = "-" if launch.timeout is None else seconds(launch.timeout)
    workdir = os.path.join(_home(launch), launch.workdir or "").rstrip("/") or "/"
    return ["sh", f"{BIN}/air-runner", OUT, workdir, timeout, seconds(launch.grace), "container", *launch.argv]


def _home(launch: Launch) -> str:
    """Return where relative paths of a task start: in the project folder if it mounts that, as without a container."""
    for mount in launch.options.get("mounts", ()):
        if os.path.normpath(str(mount["source"])) == ".":
            return str(mount["target"])
    return WORKSPACE


def environment(launch: Launch, python_path: str | None = None) -> dict[str, str]:
    """Return the task's variables; `python_path` is what the image itself sets as PYTHONPATH."""
    env = {"HOME": HOME, **launch.environment(OUT, WORKSPACE)}
    before = env.get("PYTHONPATH", python_path)
    env["PYTHONPATH"] = f"{before}:{BIN}" if before else BIN
    return env


def seconds(value: float) -> str:
    """Return a duration as the runner takes it."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def user_of(state_dir: str, otherwise: tuple[int, int]) -> tuple[int, int]:
    """Return who tasks are: ourselves, or where we are root the owner of the state directory; never root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        owner = os.stat(state_dir)
    except FileNotFoundError:
        owner = os.stat(os.path.dirname(state_dir))
    return otherwise if 0 in {owner.st_uid, owner.st_gid} else (owner.st_uid, owner.st_gid)


def hand_over(launch: Launch, user: tuple[int, int]) -> None:
    """Give what the task is to write to who it will be; only root can, and only root needs to.

    Raises:
        SpawnRejectedError: the volume refuses.
    """
    if os.geteuid() != 0:
        return
    try:
        made_for_it = [os.path.join(launch.out_dir, name) for name in os.listdir(launch.out_dir)]
        for path in (launch.workspace, launch.out_dir, *made_for_it):
            owner = os.lstat(path)
            if (owner.st_uid, owner.st_gid) != user:
                os.chown(path, *user, follow_symlinks=False)
    except OSError as error:
        msg = f"cannot give {error.filename} to user {user[0]}:{user[1]}: {error.strerror}"
        raise SpawnRejectedError(msg) from error

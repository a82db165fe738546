"""A run as seen from inside a container, on any platform: paths, command, environment and user.

A container sees only its run's directory, its job's workspace and `bin/`, each at a fixed path, so that no host path
reaches a task. Used by the container backends; knows no platform.
"""

from __future__ import annotations

import math
import os

from air_executor.backends.base import Launch, LaunchCache, LaunchWorktree
from air_executor.errors import SpawnRejectedError

ROOT = "/air"
OUT = f"{ROOT}/out"
WORKSPACE = f"{ROOT}/workspace"
BIN = f"{ROOT}/bin"
TEMPORARY = "/tmp"  # noqa: S108 - the task's own, memory of its container
HOME = TEMPORARY
"""A task may run as any user in any image, so the image's home folder may be missing or belong to another user."""
DEFAULT_IMAGE = "python:3.12-slim"


def arguments(launch: Launch) -> list[str]:
    """Return the arguments of the runner, which then starts the task."""
    workdir = os.path.join(_base_dir(launch), launch.workdir or "").rstrip("/") or "/"
    return launch.arguments(OUT, workdir, "container")


def _base_dir(launch: Launch) -> str:
    """Return the folder to which relative paths refer: the project folder if it is mounted, as without a container."""
    for mount in launch.options.get("mounts", ()):
        if os.path.normpath(str(mount["source"])) == ".":
            return str(mount["target"])
    return WORKSPACE


def environment(launch: Launch, image: str) -> dict[str, str]:
    """Return the task's variables, and those for the runner (see its head).

    It appends what is ours to PATH and PYTHONPATH, for what the image sets is known only inside its container.
    """
    caches = {cache.variable: cache_target(cache) for cache in launch.caches}
    own = {"_air_bin": BIN, "_air_image": image}
    if launch.keep:
        own["_air_keep"] = str(math.ceil(launch.keep))
    return {"HOME": HOME, **launch.environment(OUT, WORKSPACE), **caches, **own}


def check_mount_target(source: str, target: str) -> None:
    """Refuse a mount over what is ours.

    Raises:
        SpawnRejectedError: the target lies in `/air`.
    """
    path = os.path.normpath(target)
    if path == ROOT or path.startswith(f"{ROOT}/"):
        msg = f"mount {source}: {target} is taken: {ROOT} belongs to Air-Executor"
        raise SpawnRejectedError(msg)


def cache_target(cache: LaunchCache) -> str:
    """Return the place of a cache.

    Raises:
        SpawnRejectedError: it lies in `/air`.
    """
    if cache.target is None:
        return f"{ROOT}/caches/{cache.name}"
    check_mount_target(f"of cache {cache.name}", cache.target)
    return cache.target


def task_user(state_dir: str, default: tuple[int, int]) -> tuple[int, int]:
    """Return the user and group that tasks run as: never root.

    Ourselves; if we are root, the owner of the state directory; if that is root too, `default`.
    """
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        owner = os.stat(state_dir)
    except FileNotFoundError:
        owner = os.stat(os.path.dirname(state_dir))
    return default if 0 in {owner.st_uid, owner.st_gid} else (owner.st_uid, owner.st_gid)


def worktree_folders(worktree: LaunchWorktree) -> list[str]:
    """Return the folders of the repository to which a task with a worktree writes, but for that of the objects."""
    heads = os.path.dirname(f"refs/heads/{worktree.branch}")
    return [f"{worktree.repository}/{heads}", f"{worktree.repository}/logs/{heads}", worktree.admin]


def _give(top: str, user: tuple[int, int]) -> None:
    os.chown(top, *user, follow_symlinks=False)
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            os.chown(os.path.join(folder, name), *user, follow_symlinks=False)


def change_owner(launch: Launch, user: tuple[int, int]) -> None:
    """Give the run's files to the task's user, who has to write to them. Only root can, and only root needs to.

    Raises:
        SpawnRejectedError: the volume refuses.
    """
    if os.geteuid() != 0:
        return
    try:
        precreated = [os.path.join(launch.out_dir, name) for name in os.listdir(launch.out_dir)]
        for path in (launch.workspace, launch.out_dir, *precreated, *(cache.path for cache in launch.caches)):
            owner = os.lstat(path)
            if (owner.st_uid, owner.st_gid) != user:
                os.chown(path, *user, follow_symlinks=False)
        if launch.worktree is not None:
            for top in (launch.worktree.path, *worktree_folders(launch.worktree)):
                _give(top, user)
    except OSError as error:
        msg = f"cannot change the owner of {error.filename} to {user[0]}:{user[1]}: {error.strerror}"
        raise SpawnRejectedError(msg) from error

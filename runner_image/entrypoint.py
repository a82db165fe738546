#!/usr/local/bin/python -IS
"""The entrypoint of the manager's image: switch to the owner of the project folder, then execute `air-executor`.

Started as root, it needs only the capabilities CHOWN, SETUID and SETGID. It drops root permanently before any job or
setting is read. Started as another user, it changes nothing. It uses only the standard library and stays short, because
it is the only code that runs as root.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from typing import NoReturn

PROJECT = "/project"
STATE = ".air-executor"
NOBODY = "65532:65532"
SOCKET = "unix:///var/run/docker.sock"


def main(words: list[str]) -> NoReturn:
    """Execute `air-executor` with these arguments, or another program if the first is an absolute path."""
    other = bool(words) and words[0].startswith("/")
    try:
        if os.geteuid() == 0:
            uid, gid = owner(PROJECT, os.environ.get("AIR_DOCKER_USER") or NOBODY)
            os.setgroups(socket_groups(os.environ.get("DOCKER_HOST") or SOCKET))
            os.setegid(gid)
            os.seteuid(uid)
            if not other:
                for thing in misplaced(f"{PROJECT}/{STATE}", uid):
                    os.seteuid(0)
                    hand_over(thing, uid, gid)
                    os.seteuid(uid)
            os.seteuid(0)
            become(uid, gid)
        command = words if other else ["air-executor", *words]
        os.execvp(command[0], command)  # noqa: S606 - without a shell on purpose
    except (OSError, RecursionError, ValueError) as error:
        sys.exit(f"air-entrypoint: {error}")


def owner(project: str, instead_of_root: str) -> tuple[int, int]:
    """Return user and group of the project folder, replacing root by `instead_of_root`.

    Raises:
        ValueError: `instead_of_root` is not a user.
    """
    numbers = re.fullmatch(r"([0-9]{1,10})(?::([0-9]{1,10}))?", instead_of_root)
    user, group = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (0, 0)
    if user == 0 or group == 0:
        msg = f"AIR_DOCKER_USER: {instead_of_root!r} is not a user; use numbers other than 0, like {NOBODY}"
        raise ValueError(msg)
    found = os.stat(project)
    return (found.st_uid, found.st_gid or group) if found.st_uid else (user, group)


def misplaced(state: str, uid: int) -> Iterator[int]:
    """Yield descriptors of entries with another owner, in the state directory and one level below.

    Examples: a state directory just created by the engine, or files left by root's manager. A full scan would be slow
    with many runs. Call it as the owner: root without capabilities can read only what is world-readable.
    """
    yield from _if_misplaced(state, uid)
    with contextlib.suppress(FileNotFoundError), os.scandir(state) as entries:
        for entry in entries:
            yield from _if_misplaced(entry.path, uid)
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(entry.path) if entry.is_dir(follow_symlinks=False) else ():
                    yield from _if_misplaced(f"{entry.path}/{name}", uid)


def _if_misplaced(path: str, uid: int) -> Iterator[int]:
    try:
        thing = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    if os.fstat(thing).st_uid != uid:
        yield thing
    os.close(thing)


def hand_over(thing: int, uid: int, gid: int) -> None:
    """Change the owner of a file, or of a directory and its content; the directory last, so a crash repeats it.

    Works on descriptors and follows no link: a running task may change the content meanwhile.
    """
    path = f"/proc/self/fd/{thing}"
    mode = os.fstat(thing).st_mode
    if stat.S_ISLNK(mode):
        return
    if stat.S_ISDIR(mode):
        os.chown(path, 0, -1)  # root without capabilities reads only its own files
        inside = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        for name in os.listdir(inside):
            with contextlib.suppress(FileNotFoundError):  # removed by its owner meanwhile
                below = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=inside)
                hand_over(below, uid, gid)
                os.close(below)
        os.close(inside)
    os.chown(path, uid, gid)


def socket_groups(host: str) -> list[int]:
    """Return the group of the engine's socket, or nothing without a socket."""
    try:
        return [os.stat(host.removeprefix("unix://")).st_gid] if host.startswith("unix://") else []
    except OSError:
        return []  # the manager reports a missing engine


def become(uid: int, gid: int) -> None:
    """Drop root: set all user and group ids of the process, so the kernel removes all capabilities."""
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.environ["HOME"] = "/tmp"  # noqa: S108 - the only folder this user certainly has


if __name__ == "__main__":
    main(sys.argv[1:])

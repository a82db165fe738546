#!/usr/local/bin/python -IS
"""What the manager's image starts with: become whoever owns the project folder, then be `air-executor`.

Started as root it needs the capabilities CHOWN, SETUID and SETGID and no other; root is gone for good before a job or
a setting is read. Started as anybody else it changes nothing. The standard library alone: this is the only code that
runs as root, so it is to be read at one sitting.
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
    """Run `air-executor` with these words; a first word with a slash at its start is a program of its own."""
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
        os.execvp(command[0], command)  # noqa: S606 - no shell is the point
    except (OSError, RecursionError, ValueError) as error:
        sys.exit(f"air-entrypoint: {error}")


def owner(project: str, instead_of_root: str) -> tuple[int, int]:
    """Return whom to be: user and group of the project folder; for those of them that are root's, `instead_of_root`.

    Raises:
        ValueError: `instead_of_root` is no user.
    """
    numbers = re.fullmatch(r"([0-9]{1,10})(?::([0-9]{1,10}))?", instead_of_root)
    user, group = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (0, 0)
    if user == 0 or group == 0:
        msg = f"AIR_DOCKER_USER: {instead_of_root!r} is no user; give numbers other than 0, like {NOBODY}"
        raise ValueError(msg)
    found = os.stat(project)
    return (found.st_uid, found.st_gid or group) if found.st_uid else (user, group)


def misplaced(state: str, uid: int) -> Iterator[int]:
    """Yield descriptors of what is somebody else's at the top of the state directory and one level below.

    That is the state directory itself where the engine has just made it, or what root's manager has left there; a look
    at everything would take long where there are many runs. To be called as the owner: this root may look into nothing
    that is not open to all.
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
    """Give a file, or a directory with all that is in it, to somebody; the directory last, so that a crash repeats it.

    Goes from descriptor to descriptor and follows no link: a task that still runs may be changing what is below.
    """
    path = f"/proc/self/fd/{thing}"
    mode = os.fstat(thing).st_mode
    if stat.S_ISLNK(mode):
        return
    if stat.S_ISDIR(mode):
        os.chown(path, 0, -1)  # this root reads only what is its own
        inside = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        for name in os.listdir(inside):
            with contextlib.suppress(FileNotFoundError):  # whoever it belonged to has removed it
                below = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=inside)
                hand_over(below, uid, gid)
                os.close(below)
        os.close(inside)
    os.chown(path, uid, gid)


def socket_groups(host: str) -> list[int]:
    """Return the group that may use the engine's socket; none where there is no socket."""
    try:
        return [os.stat(host.removeprefix("unix://")).st_gid] if host.startswith("unix://") else []
    except OSError:
        return []  # that the engine is missing is for the manager to say


def become(uid: int, gid: int) -> None:
    """Stop being root: no user or group of this process is it any more, so the kernel takes all capabilities."""
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.environ["HOME"] = "/tmp"  # noqa: S108 - the only place that this user surely has


if __name__ == "__main__":
    main(sys.argv[1:])

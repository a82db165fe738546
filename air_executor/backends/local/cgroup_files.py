"""Reads and writes the kernel's cgroup files, and finds the group of this process. Knows no runs."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

MANAGER = "air-manager"
"""Name of the subgroup in which systemd starts a manager (`DelegateSubgroup=`): the runs' groups lie beside it."""
RUNS = "air-executor-"
"""How the folder of the runs' groups of a state directory begins."""
_READ_LIMIT = 1 << 20
_ESCAPE = re.compile(r"\\([0-7]{3})")


class NoCgroupsError(Exception):
    """No cgroups can be made here; the message says why."""


def own_group() -> str:
    """Return the folder of this process's own group; raises as `group_of`."""
    return group_of(os.getpid())


def group_of(pid: int) -> str:
    """Return the folder of a process's group.

    Raises:
        NoCgroupsError: there is no version 2 here.
        OSError: unknown.
    """
    lines = read(f"/proc/{pid}/cgroup").splitlines()
    path = next((os.fsdecode(line[3:]) for line in lines if line.startswith(b"0::")), None)
    mount = next(_mounts(), None)
    if path is None or mount is None:
        msg = "no cgroup version 2 is mounted"
        raise NoCgroupsError(msg)
    return os.path.normpath(f"{mount}/{path}")


def stay_in(home: str) -> None:
    """Return to a group, if somebody has moved this process out of it."""
    with contextlib.suppress(OSError, NoCgroupsError):
        if own_group() != home:
            write(f"{home}/cgroup.procs", str(os.getpid()))


def run_group_of(pid: int) -> str | None:
    """Return the folder of the group of the run that a process belongs to; None: it belongs to none."""
    try:
        path = group_of(pid)
    except (OSError, NoCgroupsError):
        return None
    return path if os.path.basename(os.path.dirname(path)).startswith(RUNS) else None


def leave_run() -> None:
    """Move this process to where the manager is, if it is in the group of a run: the end of that would be its own."""
    if (group := run_group_of(os.getpid())) is None:
        return
    base = os.path.dirname(os.path.dirname(group))
    with contextlib.suppress(OSError):
        if os.path.isdir(f"{base}/{MANAGER}"):  # then the group above may have no processes of its own
            base = f"{base}/{MANAGER}"
        write(f"{base}/cgroup.procs", str(os.getpid()))


def join(group: str) -> None:
    """Move this process into a group. Raises OSError that names the path."""
    write(f"{group}/cgroup.procs", str(os.getpid()))


def _mounts() -> Iterator[str]:
    """Yield where version 2 is mounted, from its root on."""
    for line in os.fsdecode(read("/proc/self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if right.split(" ", 1)[0] == "cgroup2" and fields[3] == "/":
            yield _ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4])


def words(path: str) -> list[str]:
    """Return the words of a file. Raises OSError."""
    return read(path).decode().split()


def read(path: str) -> bytes:
    """Return a file, up to a limit. Raises OSError that names the path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = part = os.read(fd, _READ_LIMIT)
        while part and len(data) < _READ_LIMIT:
            part = os.read(fd, _READ_LIMIT)
            data += part
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
    return data


def write(path: str, text: str) -> None:
    """Write a file in one call. Raises OSError that names the path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)

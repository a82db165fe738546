"""Reads `/proc`, telling apart a process that has ended, one that we may not read, and a failure of our own.

Called by what watches, finds and ends the processes of runs on Linux.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from itertools import islice

from air_executor.backends.local.processes import Process

MOST_FILES = 1024
"""Open files of one process that are looked at, by number: a lock is inherited as 9, and a task may open many."""
EXEC_RETRIES = 1000
EXEC_SECONDS = 0.001
"""Between two reads. An exec took 24 ms on a busy machine; on a slow volume it also has to read the program."""
STATE, PARENT, GROUP, SESSION, FLAGS, START = 0, 1, 2, 3, 6, 19
"""Places of fields in what `stat` returns: proc(5) numbers them from 1, the pid and the name included."""
_KERNEL_THREAD = 0x00200000
_GONE = {errno.ENOENT, errno.ESRCH}
_REFUSED = {errno.EACCES, errno.EPERM}


def read(path: str) -> bytes | None:
    """Return a file of `/proc`; None if its process has ended, nothing if we may not read it.

    Raises:
        OSError: we cannot read anything: no descriptors left, no memory.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return _excuse(error)
    try:
        data = part = os.read(fd, 65536)
        while part:
            part = os.read(fd, 65536)
            data += part
    except OSError as error:
        return _excuse(error)
    finally:
        os.close(fd)
    return data


def _excuse(error: OSError) -> bytes | None:
    if error.errno in _GONE:
        return None
    if error.errno in _REFUSED:
        return b""
    raise error


def start_time(pid: int) -> float | None:
    """Return when a process was started, in ticks since boot, though it is a zombie by now; None if it is gone."""
    fields = _stat_fields(pid)
    return float(fields[START]) if fields else None


def stat(pid: int) -> list[bytes] | None:
    """Return the fields of a process's `stat` after its name; None if it has ended or we may not read it."""
    fields = _stat_fields(pid)
    return None if not fields or fields[STATE] in b"ZXx" else fields


def _stat_fields(pid: int) -> list[bytes]:
    data = read(f"/proc/{pid}/stat")
    return data[data.rindex(b")") + 2 :].split(None, 20) if data else []


def environ(pid: int, fields: list[bytes]) -> bytes | None:
    """Return what a process was started with, nothing if it has ended; None if that is unknown.

    In the middle of an exec there is neither environment nor command line. The kernel then sets one after the other, so
    only a process with a command line and, a moment later, still no environment was started without one.
    """
    path = f"/proc/{pid}/environ"
    found = read(path)
    if found != b"" or int(fields[FLAGS]) & _KERNEL_THREAD:
        return found or b""
    for _ in range(EXEC_RETRIES):
        command = read(f"/proc/{pid}/cmdline")
        time.sleep(EXEC_SECONDS)
        found = read(path)
        if found or command or stat(pid) is None:
            return found or b""
    return None


def identify(pid: int) -> Process | None:
    """Return a process without environment and locks; None if it has ended."""
    fields = stat(pid)
    return None if fields is None else _process(pid, fields, {}, (), _command(pid))


def inspect(pid: int, fields: list[bytes], environment: bytes | None, below: str) -> Process:
    """Return a process; `below` is the folder in which its locks matter."""
    variables = {}
    for entry in (environment or b"").split(b"\0"):
        if entry.startswith(b"AIR_"):
            name, _, value = entry.partition(b"=")
            variables[os.fsdecode(name)] = os.fsdecode(value)
    locks = tuple(_locks(pid, below))
    return _process(pid, fields, variables, locks, _command(pid) if locks or variables else ())


def _command(pid: int) -> tuple[str, ...]:
    return tuple(os.fsdecode(word) for word in (read(f"/proc/{pid}/cmdline") or b"").split(b"\0", 2)[:2])


def _process(
    pid: int, fields: list[bytes], variables: Mapping[str, str], locks: tuple[str, ...], command: tuple[str, ...]
) -> Process:
    return Process(
        pid=pid,
        start=float(fields[START]),
        parent=int(fields[PARENT]),
        group=int(fields[GROUP]),
        session=int(fields[SESSION]),
        variables=variables,
        locks=locks,
        command=command,
    )


def _locks(pid: int, below: str) -> Iterator[str]:
    """Yield the files below a path whose lock this process shares. Having such a file open to read proves nothing."""
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            names = [entry.name for entry in islice(entries, MOST_FILES)]
    except OSError as error:
        _excuse(error)
        return
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # no path of ours is as long as the kernel cannot tell it
                _excuse(error)
            continue
        if target.startswith(below) and b"FLOCK" in (read(f"/proc/{pid}/fdinfo/{name}") or b""):
            yield target

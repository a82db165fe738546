"""The file whose kernel lock is a slot: opened, locked, probed and read without trusting what lies at its path.

Only the local backend calls this. The lock (`flock`) belongs to the open file, so every process that inherits the
descriptor keeps the slot taken, and the kernel frees it when the last of them has ended. Knows nothing of processes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import stat
from dataclasses import dataclass

from air_executor.errors import BackendUnavailableError, DuplicateRunnerError, SpawnRejectedError
from air_executor.model.names import Host

DEFAULT_GRACE = 10.0
"""Seconds; used if the header cannot be read."""

_LIMIT = 4096
_SIZE = 512
"""Bytes of the file: header, pid, and newlines over what an earlier run wrote."""
_MAX_GRACE = 10 * 365 * 86400.0
# Without O_NONBLOCK a fifo that a task put here would hang the manager; without O_NOFOLLOW a link would be followed.
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_HOSTILE = {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENOTDIR, errno.ENAMETOOLONG}


@dataclass(frozen=True, slots=True)
class SlotHeader:
    """What the manager that took the slot wrote into its file."""

    host: Host
    run: str
    grace: float
    """Seconds between TERM and KILL."""


def acquire(path: str) -> tuple[int, bool]:
    """Open and lock the slot's file, and return its descriptor and whether the file is new. The caller closes it.

    Raises:
        DuplicateRunnerError: the lock is held.
        SpawnRejectedError: the path is not a regular file, or may not be opened.
        BackendUnavailableError: the volume refused.
    """
    new = False
    try:
        try:
            fd = os.open(path, os.O_RDWR | _FLAGS)
        except FileNotFoundError:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o644)
            new = True
    except FileExistsError as error:
        msg = f"{path} appeared while it was being created; another manager has taken the slot"
        raise DuplicateRunnerError(msg) from error
    except OSError as error:
        if error.errno in _HOSTILE:
            msg = f"{path} is not a plain file ({error.strerror}); remove it"
            raise SpawnRejectedError(msg) from error
        if error.errno == errno.EACCES:  # a task or another user did that to this slot: others can start
            msg = f"{path} cannot be opened ({error.strerror}); restore its permissions"
            raise SpawnRejectedError(msg) from error
        msg = f"cannot open {path}: {error.strerror}"
        raise BackendUnavailableError(msg) from error
    try:
        _lock(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd, new


def _lock(fd: int, path: str) -> None:
    found = os.fstat(fd)
    # A second name for the file could be any file of the user's, and we are about to overwrite it.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        msg = f"{path} is not a plain file with one name; remove it"
        raise SpawnRejectedError(msg)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        current = os.stat(path, follow_symlinks=False)
    except (BlockingIOError, FileNotFoundError) as error:
        msg = f"{path} is locked or was removed; its slot is not free"
        raise DuplicateRunnerError(msg) from error
    except OSError as error:
        msg = f"cannot lock {path}: {error.strerror}; the local backend needs a volume with working locks"
        raise BackendUnavailableError(msg) from error
    if (current.st_ino, current.st_dev) != (found.st_ino, found.st_dev):
        msg = f"{path} was replaced while it was being locked; its slot is not free"
        raise DuplicateRunnerError(msg)


def write_header(fd: int, header: SlotHeader) -> None:
    """Write the header, and leave the shared offset where the runner's pid goes. The lock must be held.

    Raises:
        BackendUnavailableError: the volume refused.
    """
    line = json.dumps({"host": header.host.name, "boot": header.host.boot, "run": header.run, "grace": header.grace})
    data = line.encode() + b"\n"
    try:
        # Overwritten: ext4 flushes a truncated file to the disk when it is closed, which took longer than the run.
        os.pwrite(fd, data.ljust(_SIZE, b"\n"), 0)
        if os.fstat(fd).st_size > _SIZE:
            os.ftruncate(fd, max(_SIZE, len(data)))
        os.lseek(fd, len(data), os.SEEK_SET)
    except OSError as error:
        msg = f"cannot write the slot file of run {header.run}: {error.strerror}"
        raise BackendUnavailableError(msg) from error


def read_header(path: str) -> SlotHeader | None:
    """Return the header, or None if there is no valid one (tasks can write to the file)."""
    try:
        fd = _open_for_reading(path)
    except PermissionError:
        return None
    if fd is None:
        return None
    try:
        first = os.read(fd, _LIMIT).partition(b"\n")[0]
        data = json.loads(first)
        grace = float(data["grace"])
        host, boot, run = data["host"], data["boot"], data["run"]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    finally:
        os.close(fd)
    if not all(isinstance(text, str) for text in (host, boot, run)):
        return None
    sane = math.isfinite(grace) and 0 <= grace <= _MAX_GRACE
    return SlotHeader(Host(host, boot), run, grace if sane else DEFAULT_GRACE)


def is_held(path: str) -> bool:
    """Tell whether a process on any host that shares this lock holds the slot; True also if its file may not be read.

    Raises:
        BackendUnavailableError: unknown.
    """
    try:
        fd = _open_for_reading(path)
    except PermissionError:
        return True
    if fd is None:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        msg = f"cannot probe the lock of {path}: {error.strerror}"
        raise BackendUnavailableError(msg) from error
    finally:
        os.close(fd)
    return False


def _open_for_reading(path: str) -> int | None:
    """Open the file; None if it is no regular file.

    Raises:
        PermissionError: it may not be read.
        BackendUnavailableError: the volume refused.
    """
    try:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
    except OSError as error:
        if error.errno in _HOSTILE or error.errno == errno.ENOENT:
            return None
        if error.errno == errno.EACCES:
            raise
        msg = f"cannot open {path}: {error.strerror}"
        raise BackendUnavailableError(msg) from error
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
    os.close(fd)
    return None

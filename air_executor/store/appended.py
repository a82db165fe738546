"""Reads what was appended to a file that a running task writes. Hostile, as all that tasks write: see `run_dirs`."""

from __future__ import annotations

import errno
import os
import stat

from air_executor.store import files

_NOT_OURS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM})
"""The task has removed the file, or made something else of it."""


def size_of(path: str) -> int | None:
    """Return the size of a regular file; None if there is none."""
    try:
        info = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None


def read_appended(path: str, offset: int, limit: int, dir_fd: int) -> bytes:
    """Return up to `limit` bytes of a regular file from `offset` on; none where there is no such file.

    Raises:
        StoreError: the volume refused, so nothing is known.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NOT_OURS:
            return b""
        files.fail("open", path, error)
    try:
        return os.pread(fd, limit, offset) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError as error:
        files.fail("read", path, error)
    finally:
        os.close(fd)

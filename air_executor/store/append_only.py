"""Files of lines that only grow, and that nothing waits for: the audit log, the ledger of deleted jobs."""

from __future__ import annotations

import os

from air_executor.store import files


def append_lines(path: str, data: bytes, *, mode: int) -> None:
    """Append whole lines to a file, which is made if there is none; they are on disk when this returns.

    Half a line, left by whoever died while writing it, is ended first.

    Raises:
        StoreError: the volume refused.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, mode)
        try:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            files.write_all(fd, b"\n" + data if torn else data)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        files.fail("write", path, error)

"""The files of one run on the pod's own disk, and how they are read: what a task has written is hostile."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TypeVar

OUT, WORKSPACE, BIN, OWN = "out", "workspace", "bin", "carrier"
"""Folders: those of the run, and our own."""
LOG, QUEUE, RESULT, CLAIM, EXIT = "output.log", "queue.jsonl", "result.json", "claim", "exit.json"
SNAPSHOT = "snapshot.json"
"""In our own folder: what was in the workspace before the task."""

T = TypeVar("T")


class Folders:
    """The folders of one run."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.out, self.workspace, self.own = (f"{root}/{name}" for name in (OUT, WORKSPACE, OWN))


def read_file(path: str, limit: int, offset: int = 0) -> bytes:
    """Return a part of a regular file; nothing if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.pread(fd, limit, offset) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


def readable(path: str, open_it: Callable[[str], T]) -> T:
    """Open a file or folder of our own user, who may have taken the right to read it from itself."""
    try:
        return open_it(path)
    except PermissionError:
        os.chmod(path, os.stat(path).st_mode | 0o500)
        return open_it(path)

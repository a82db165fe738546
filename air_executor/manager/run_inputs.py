"""What `$AIR_INPUTS` says to each run: the results of all tasks of its job that have succeeded before it.

Many results are in files that runs share, so that a job of n tasks does not write each result n times: a result is
appended to a file that no run has any more, and another file is begun only while runs have all of them. So a result is
written once, or as often as the job has runs at a time. The scheduler asks; `RunDirs` links the file into the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from air_executor.core.progress import Progress
from air_executor.core.transitions import LiveJob
from air_executor.store import files
from air_executor.store.run_dirs import SHARED_FROM

_END = b"}\n"


@dataclass(slots=True)
class _SharedFile:
    """A file in staging, and what is known of it."""

    path: str
    count: int
    """Results in it."""
    size: int
    changed: int
    """Its modification time: a task may have changed it."""


class RunInputs:
    """The inputs of the runs of one manager.

    A job that has ended or was indexed again drops its `Progress`, and with it what is kept here.
    """

    def __init__(self) -> None:
        self._parts: weakref.WeakKeyDictionary[Progress, list[str]] = weakref.WeakKeyDictionary()
        """The encoded results, while they are few."""
        self._files: weakref.WeakKeyDictionary[Progress, list[_SharedFile]] = weakref.WeakKeyDictionary()
        """The files of each job; no more than runs of it were there at the same time, and one."""

    def of(self, job: LiveJob, staging: str) -> bytes | str:
        """Return the results of all tasks that have succeeded with one: the text, or the path of a file that has it.

        Raises:
            StoreError: the volume refused.
        """
        progress = job.progress
        found = self._files.get(progress)
        if found is None:
            text = self._text(progress)
            if len(text) < SHARED_FROM:
                return text
            found = self._files[progress] = []
            weakref.finalize(progress, _remove_all, found)
            del self._parts[progress]
        elif any(not file.path.startswith(f"{staging}/") for file in found):
            _remove_all(found)  # of an epoch that this manager has left
        return _current(found, progress.results, f"{staging}/inputs-{files.random_hex(6)}")

    def _text(self, progress: Progress) -> bytes:
        parts = self._parts.setdefault(progress, [])
        parts += _encoded(progress.results[len(parts) :])
        return f"{{{', '.join(parts)}".encode() + _END


def _encoded(results: Iterable[tuple[str, Any]]) -> list[str]:
    return [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in results]


def _current(found: list[_SharedFile], results: list[tuple[str, Any]], new: str) -> str:
    """Return the path of a file that has all these results."""
    free: _SharedFile | None = None
    for file in list(found):
        links = _links(file)
        if links is None:
            files.remove(file.path)
            found.remove(file)
        elif file.count == len(results):
            return file.path
        elif links == 1 and (free is None or free.count < file.count):
            free = file
    if free is not None:
        try:
            _append(free, results)
        except OSError as error:
            files.remove(free.path)
            found.remove(free)
            files.fail("write", free.path, error)
        return free.path
    text = f"{{{', '.join(_encoded(results))}".encode() + _END
    files.write_new(new, text, sync=False, mode=0o444)  # no run may change what another one reads
    found.append(_SharedFile(new, len(results), len(text), os.stat(new).st_mtime_ns))
    return new


def _links(file: _SharedFile) -> int | None:
    """Return how many names a file has: ours, and one for each run that reads it. None: it is not as we left it."""
    with contextlib.suppress(OSError):
        there = os.stat(file.path, follow_symlinks=False)
        if (there.st_size, there.st_mtime_ns) == (file.size, file.changed):
            return there.st_nlink
    return None


def _append(file: _SharedFile, results: list[tuple[str, Any]]) -> None:
    more = "".join(f", {one}" for one in _encoded(results[file.count :])).encode() + _END
    os.chmod(file.path, 0o644)
    fd = os.open(file.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.lseek(fd, file.size - len(_END), os.SEEK_SET)
        files.write_all(fd, more)
        os.fchmod(fd, 0o444)
        file.changed = os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)
    file.count, file.size = len(results), file.size - len(_END) + len(more)


def _remove_all(found: list[_SharedFile]) -> None:
    for file in found:
        files.remove(file.path)
    found.clear()


EFFECTS = (_append,)
"""What changes the volume; see `files`."""

"""What `$AIR_INPUTS` and `$AIR_OUTCOMES` say to each run: how the tasks of its job have ended before it.

Long texts are in files that runs share, so that a job of n tasks does not write each end n times: an end is appended to
a file that no run has any more, and another file is begun only while runs have all of them. So an end is written once,
or as often as the job has runs at a time. The scheduler asks; `RunDirs` links the files into the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from air_executor.core.progress import Progress, how_ended
from air_executor.core.transitions import LiveJob
from air_executor.model.state import TaskState
from air_executor.store import files
from air_executor.store.run_dirs import INPUTS, OUTCOMES

T = TypeVar("T")

SHARED_FROM = {INPUTS: 64 * 1024, OUTCOMES: 4 * 1024}
"""Bytes from which the texts of runs are one file per job: every task has an outcome, but few have a result."""
_END = b"}\n"


@dataclass(slots=True)
class _SharedFile:
    """A file in staging, and what is known of it."""

    path: str
    count: int
    """Entries in it."""
    size: int
    changed: int
    """Its modification time: a task may have changed it."""


class RunInputs:
    """What the runs of one manager are given to read.

    A job that has ended or was indexed again drops its `Progress`, and with it what is kept here.
    """

    def __init__(self) -> None:
        self._inputs = _GrowingTexts(INPUTS, lambda progress: progress.results, _result_text)
        self._outcomes = _GrowingTexts(OUTCOMES, lambda progress: progress.done, _outcome_text)

    def of(self, job: LiveJob, staging: str) -> Mapping[str, bytes | str]:
        """Return by name the files that a run gets now: each one's text, or the path of a file that has it.

        Raises:
            StoreError: the volume refused.
        """
        return {one.name: one.of(job.progress, staging) for one in (self._inputs, self._outcomes)}


def _result_text(entry: tuple[str, Any]) -> str:
    name, result = entry
    return f"{json.dumps(name)}: {json.dumps(result)}"


def _outcome_text(task: TaskState) -> str:
    return f"{json.dumps(task.id)}: {json.dumps(how_ended(task))}"


class _GrowingTexts(Generic[T]):
    """One JSON object for each job, to which entries are added."""

    def __init__(self, name: str, entries: Callable[[Progress], Sequence[T]], encode: Callable[[T], str]) -> None:
        """`entries`: all of a job so far; they only grow."""
        self.name = name
        self._entries = entries
        self._encode = encode
        self._parts: weakref.WeakKeyDictionary[Progress, list[str]] = weakref.WeakKeyDictionary()
        """The encoded entries, while they are few."""
        self._files: weakref.WeakKeyDictionary[Progress, list[_SharedFile]] = weakref.WeakKeyDictionary()
        """The files of each job; no more than runs of it were there at the same time, and one."""

    def of(self, progress: Progress, staging: str) -> bytes | str:
        """Return what is known of a job now: the text, or the path of a file that has it."""
        found = self._files.get(progress)
        if found is None:
            text = self._text(progress)
            if len(text) < SHARED_FROM[self.name]:
                return text
            found = self._files[progress] = []
            weakref.finalize(progress, _remove_all, found)
            del self._parts[progress]
        elif any(not file.path.startswith(f"{staging}/") for file in found):
            _remove_all(found)  # of an epoch that this manager has left
        return self._current(
            found, self._entries(progress), f"{staging}/{self.name.partition('.')[0]}-{files.random_hex(6)}"
        )

    def _text(self, progress: Progress) -> bytes:
        parts = self._parts.setdefault(progress, [])
        parts += map(self._encode, self._entries(progress)[len(parts) :])
        return f"{{{', '.join(parts)}".encode() + _END

    def _current(self, found: list[_SharedFile], entries: Sequence[T], new: str) -> str:
        """Return the path of a file that has all these entries."""
        free: _SharedFile | None = None
        for file in list(found):
            links = _links(file)
            if links is None:
                files.remove(file.path)
                found.remove(file)
            elif file.count == len(entries):
                return file.path
            elif links == 1 and (free is None or free.count < file.count):
                free = file
        if free is not None:
            more = "".join(f", {self._encode(one)}" for one in entries[free.count :])
            try:
                _append(free, more.encode() + _END, len(entries))
            except OSError as error:
                files.remove(free.path)
                found.remove(free)
                files.fail("write", free.path, error)
            return free.path
        text = f"{{{', '.join(map(self._encode, entries))}".encode() + _END
        files.write_new(new, text, sync=False, mode=0o444)  # no run may change what another one reads
        found.append(_SharedFile(new, len(entries), len(text), os.stat(new).st_mtime_ns))
        return new


def _links(file: _SharedFile) -> int | None:
    """Return how many names a file has: ours, and one for each run that reads it. None: it is not as we left it."""
    with contextlib.suppress(OSError):
        there = os.stat(file.path, follow_symlinks=False)
        if (there.st_size, there.st_mtime_ns) == (file.size, file.changed):
            return there.st_nlink
    return None


def _append(file: _SharedFile, more: bytes, count: int) -> None:
    os.chmod(file.path, 0o644)
    fd = os.open(file.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.lseek(fd, file.size - len(_END), os.SEEK_SET)
        files.write_all(fd, more)
        os.fchmod(fd, 0o444)
        file.changed = os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)
    file.count, file.size = count, file.size - len(_END) + len(more)


def _remove_all(found: list[_SharedFile]) -> None:
    for file in found:
        files.remove(file.path)
    found.clear()


EFFECTS = (_append,)
"""What changes the volume; see `files`."""

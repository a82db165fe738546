"""What `$AIR_INPUTS` and `$AIR_OUTCOMES` say to each run: how the tasks of its job have ended before it.

The texts are in files that the runs of a job share, so that a job of n tasks does not write each end n times, nor
create 2 n files: an end is appended to a file that no run has any more, and another file is begun only while runs have
all of them. So an end is written once, or as often as the job has runs at a time. The scheduler asks; `RunDirs` links
the files into the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from air_executor.core.progress import Progress, how_ended
from air_executor.core.transitions import LiveJob
from air_executor.model.state import TaskState
from air_executor.store import files
from air_executor.store.run_files import INPUTS, OUTCOMES

T = TypeVar("T")

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
    return json.dumps(dict([entry]))[1:-1]


def _outcome_text(task: TaskState) -> str:
    return json.dumps({task.id: how_ended(task)})[1:-1]


class _GrowingTexts(Generic[T]):
    """One JSON object for each job, to which entries are added."""

    def __init__(self, name: str, entries: Callable[[Progress], Sequence[T]], encode: Callable[[T], str]) -> None:
        """`entries`: all of a job so far; they only grow."""
        self.name = name
        self._entries = entries
        self._encode = encode
        self._files: weakref.WeakKeyDictionary[Progress, list[_SharedFile]] = weakref.WeakKeyDictionary()
        """The files of each job, that used last at the end; no more than runs of it were there at a time, and one."""

    def of(self, progress: Progress, staging: str) -> bytes | str:
        """Return what is known of a job now: the path of a file that has it, or the text for the only task of a job."""
        entries = self._entries(progress)
        if len(progress.nodes) == 1:
            return self._text(entries)
        found = self._files.get(progress)
        if found is None:
            found = self._files[progress] = []
            weakref.finalize(progress, _remove_all, found)
        elif found and not found[0].path.startswith(f"{staging}/"):
            _remove_all(found)  # of an epoch that this manager has left
        if not (found and found[-1].count == len(entries) and _links(found[-1])):
            found.append(self._free_file(found, entries) or self._new_file(entries, staging))
        return found[-1].path

    def _text(self, entries: Sequence[T]) -> bytes:
        return f"{{{', '.join(map(self._encode, entries))}".encode() + _END

    def _free_file(self, found: list[_SharedFile], entries: Sequence[T]) -> _SharedFile | None:
        """Take out a file that no run has any more, the one used longest ago, and add to it what it lacks."""
        for file in list(found):
            links = _links(file)
            if links is not None and links > 1:
                continue
            found.remove(file)
            if links == 1:
                _append(file, ", ".join(map(self._encode, islice(entries, file.count, None))), len(entries))
                return file
            files.remove(file.path)
        return None

    def _new_file(self, entries: Sequence[T], staging: str) -> _SharedFile:
        text = self._text(entries)
        path = f"{staging}/{self.name.partition('.')[0]}-{files.random_hex(6)}"
        files.write_new(path, text, sync=False, mode=0o444)  # no run may change what another one reads
        return _SharedFile(path, len(entries), len(text), os.stat(path).st_mtime_ns)


def _links(file: _SharedFile) -> int | None:
    """Return how many names a file has: ours, and one for each run that reads it. None: it is not as we left it."""
    with contextlib.suppress(OSError):
        there = os.stat(file.path, follow_symlinks=False)
        if (there.st_size, there.st_mtime_ns) == (file.size, file.changed):
            return there.st_nlink
    return None


def _append(file: _SharedFile, more: str, count: int) -> None:
    text = (f", {more}" if file.count else more).encode() + _END
    try:
        os.chmod(file.path, 0o644)
        fd = os.open(file.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.lseek(fd, file.size - len(_END), os.SEEK_SET)
            files.write_all(fd, text)
            os.fchmod(fd, 0o444)
            file.changed = os.fstat(fd).st_mtime_ns
        finally:
            os.close(fd)
    except OSError as error:
        files.remove(file.path)
        files.fail("write", file.path, error)
    file.count, file.size = count, file.size - len(_END) + len(text)


def _remove_all(found: list[_SharedFile]) -> None:
    for file in found:
        files.remove(file.path)
    found.clear()


EFFECTS = (_append,)
"""What changes the volume; see `files`."""

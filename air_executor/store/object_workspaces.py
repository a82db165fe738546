"""Workspaces whose files lie in an object store: `AIR_WORKSPACE_STORE`. The manager's volume has their names alone.

Changes are written as objects that nobody knows yet; one rename of the job's `workspace.index` makes all of them true.
So what breaks off, or is half there, has changed nothing. An object is never written again: one that no file refers to
any more is deleted an hour later, and all of a job's with the job. Small files share objects, a large one has its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

from filelock import FileLock, Timeout

from air_executor.errors import BadInputError, StoreError
from air_executor.model import workspace_index as m
from air_executor.model.relative_paths import of_file
from air_executor.model.workspace_index import Dropped, WorkspaceEntry, WorkspaceIndex, parse_index
from air_executor.store import files
from air_executor.store.layout import Layout
from air_executor.store.object_files import ObjectFile, ReadWindow, WorkspaceReader
from air_executor.store.object_store import ObjectStore, ObjectWriter, check_library

LARGE = 8 << 20
"""Bytes from which on a file has an object of its own."""
SHARED = 64 << 20
"""Bytes from which on an object takes no more small files."""
KEPT = 3600.0
"""Seconds for which an object stays that no file refers to any more: a runner that starts may be reading it."""
MOST_DELETED = 100
"""Objects that one change deletes."""
MOST_CHANGES = 2 * m.MOST_ENTRIES
MAX_INDEX = 512 << 20
LOCKED_WITHIN = 60.0


class JobKey(NamedTuple):
    """One job: its id, and the uid that no other job of this id has."""

    id: str
    uid: str

    @property
    def folder(self) -> str:
        """What the names of the job's objects begin with."""
        return f"{self.id}-{self.uid}"


class ObjectWorkspaces:
    """The workspaces of one state directory, where a setting names an object store for them."""

    def __init__(self, layout: Layout, url: str) -> None:
        """Nothing is asked of the store yet.

        Raises:
            BadInputError: the library is missing.
        """
        check_library()
        self._layout = layout
        self.url = url

    @functools.cached_property
    def objects(self) -> ObjectStore:
        """The store. Raises BadInputError where the library does not know such a store."""
        return ObjectStore(self.url)

    def index(self, job: str) -> WorkspaceIndex:
        """Return what a job's tasks have left; nothing if they have left nothing.

        Raises:
            StoreError: it cannot be read, or is in another store.
        """
        path = self._layout.workspace_index(job)
        found = files.read(path, MAX_INDEX)
        index = WorkspaceIndex(self.url) if found is None else parse_index(found[0], path)
        if index.store != self.url:
            msg = f"the workspace of job {job} is in {index.store}, and AIR_WORKSPACE_STORE is {self.url}"
            raise StoreError(msg)
        return index

    def change(self, job: JobKey, check: Callable[[], None] = lambda: None) -> WorkspaceChange:
        """Return a block that changes a workspace at its end; after an error nothing is changed.

        `check` is asked just before, and may raise.
        """
        return WorkspaceChange(self, job, check)

    @contextlib.contextmanager
    def locked(self, job: str) -> Iterator[WorkspaceIndex]:
        """Read an index, and write it at the end of the block. Raises as `index`, and NotFoundError: no such job."""
        path = self._layout.workspace_index(job)
        try:
            with FileLock(f"{path}.lock", timeout=LOCKED_WITHIN):
                index = self.index(job)
                yield index
                files.restore_dir(self._layout.tmp)
                files.replace(path, index.dump(), self._layout.tmp)
        except Timeout as error:
            msg = f"{path}: others have been changing it for {LOCKED_WITHIN:g} s"
            raise StoreError(msg) from error
        except OSError as error:
            files.fail("lock", path, error)

    def open(self, entry: WorkspaceEntry) -> ObjectFile:
        """Open a file for reading."""
        return ObjectFile(ReadWindow(self.objects), entry, entry.offset + entry.size)

    def read(self, job: str) -> WorkspaceReader:
        """Return all that a job's tasks have left, to be read. Raises as `index`."""
        return WorkspaceReader(self.index(job), self.objects)

    def remove(self, job: JobKey) -> None:
        """Delete all objects of a job. Raises StoreError: the store refused, or did not answer."""
        self.objects.delete_below(job.folder)


def in_folder(layout: Layout, job: str) -> None:
    """Make sure that a workspace is not in an object store, where no setting names one.

    Raises:
        StoreError: it is.
    """
    if os.path.exists(layout.workspace_index(job)):
        msg = f"the workspace of job {job} is in an object store: set AIR_WORKSPACE_STORE to it"
        raise StoreError(msg)


class WorkspaceChange:
    """Changes of one workspace, as a block. Their number and the length of their names are bounded."""

    def __init__(self, owner: ObjectWorkspaces, job: JobKey, check: Callable[[], None]) -> None:
        self._owner = owner
        self._job = job
        self._check = check
        self._steps: list[Callable[[WorkspaceIndex], None]] = []
        self._text = 0
        self.paths: list[str] = []
        """Of all that was removed or written."""
        self._shared: ObjectWriter | None = None
        self._key, self._offset = "", 0
        self._written: list[str] = []

    def remove(self, path: str) -> None:
        """Remove a file, or an empty folder; see `WorkspaceIndex.remove`."""
        self._note(path, lambda index: index.remove(path))

    def make_folder(self, path: str) -> None:
        """Make a folder; see `WorkspaceIndex.make_folder`."""
        self._note(path, lambda index: index.make_folder(path))

    def make_link(self, path: str, target: str) -> None:
        """Make a symbolic link; see `WorkspaceIndex.put`."""
        self._note(path, lambda index: index.put(path, WorkspaceEntry(m.LINK, target=target)), target)

    @contextlib.contextmanager
    def replacing(self, path: str, size: int | None, changed: int, *, executable: bool) -> Iterator[_Counting]:
        """Write a file within a block; see `WorkspaceIndex.put`. `size`: bytes, or None where they are not known."""
        of_file(path)
        if size is None or size >= LARGE:
            key = self._new_key()
            with self._owner.objects.write(key, size) as file:
                yield (counting := _Counting(file))
            offset = 0
        else:
            shared = self._open_shared() if size else None
            key, offset = (self._key, self._offset) if size else ("", 0)
            yield (counting := _Counting(shared))
            self._offset += counting.size
        if not counting.size:
            key = ""
        found = WorkspaceEntry(m.FILE, counting.size, changed, executable, key=key, offset=offset)
        self._note(path, lambda index: index.put(path, found))

    def _open_shared(self) -> ObjectWriter:
        if self._shared is not None and self._offset >= SHARED:
            self._close_shared()
        if self._shared is None:
            self._key, self._offset = self._new_key(), 0
            self._shared = self._owner.objects.write(self._key)
        return self._shared

    def _close_shared(self) -> None:
        if self._shared is not None:
            shared, self._shared = self._shared, None
            shared.__exit__(None, None, None)

    def _new_key(self) -> str:
        self._written.append(f"{self._job.folder}/{files.random_hex(12)}")
        return self._written[-1]

    def _note(self, path: str, step: Callable[[WorkspaceIndex], None], more: str = "") -> None:
        self._steps.append(step)
        self.paths.append(path)
        self._text += len(path) + len(more)
        if len(self._steps) > MOST_CHANGES or self._text > 2 * m.MOST_TEXT:
            msg = f"the workspace has more than {MOST_CHANGES:,} changes, or too long names"
            raise BadInputError(msg)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the changes; after an error, forget them.

        Raises:
            StoreError: the store or the volume refused, or the store did not answer.
            BadInputError: the changes lead through a link, or there is a folder.
            NotFoundError: there is no such job any more.
        """
        if kind is None:
            try:
                self._commit()
            except BaseException as failed:
                self._discard(failed)
                raise
        else:
            self._discard(error)

    def _commit(self) -> None:
        self._close_shared()
        if not self._steps:
            return
        with self._owner.locked(self._job.id) as index:
            self._check()
            before = index.keys()
            for step in self._steps:
                step(index)
            now, used = time.time(), index.keys()
            unused = (before | set(self._written)) - used
            index.dropped += [Dropped(key, now) for key in sorted(unused)]
            self._clean(index, now)

    def _clean(self, index: WorkspaceIndex, now: float) -> None:
        """Delete what nobody reads any more; what cannot be deleted now, is later."""
        due = [one for one in index.dropped if not now - KEPT < one.at <= now][:MOST_DELETED]
        with contextlib.suppress(StoreError):
            self._owner.objects.delete(one.key for one in due)
            index.dropped = [one for one in index.dropped if one not in due]

    def _discard(self, error: BaseException | None) -> None:
        if self._shared is not None and error is not None:
            self._shared.__exit__(type(error), error, None)
        with contextlib.suppress(StoreError):
            used = self._owner.index(self._job.id).keys()  # what failed may have happened all the same
            self._owner.objects.delete(key for key in self._written if key not in used)


class _Counting:
    """A file that is being written, and how many bytes it has."""

    def __init__(self, target: ObjectWriter | None) -> None:
        self._target = target
        self.size = 0

    def write(self, data: bytes) -> int:
        """Add bytes."""
        if self._target is not None:
            self._target.write(data)
        self.size += len(data)
        return len(data)

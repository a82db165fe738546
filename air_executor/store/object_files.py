"""Reads files of a workspace from the objects that have their bytes, with a window of bounded size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, Any

from air_executor.errors import StoreError
from air_executor.model.workspace_index import FILE, FOLDER, WorkspaceEntry, WorkspaceIndex
from air_executor.store.object_store import ObjectStore

AHEAD = 4 << 20
"""Bytes that are read at a time."""
CHUNK = 1 << 18


class ReadWindow:
    """A part of an object, of which many small files are read one after the other."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._key, self._start, self._data = "", 0, b""

    def read(self, key: str, start: int, size: int, until: int) -> bytes:
        """Return one to `size` bytes; `until`: where what will be read ends.

        Raises:
            StoreError: they are not there, or the store refused, or did not answer.
        """
        at = start - self._start
        if key != self._key or not 0 <= at < len(self._data):
            self._data = self._objects.read(key, start, min(until, start + AHEAD))
            self._key, self._start, at = key, start, 0
        if not self._data:
            msg = f"workspace store {self._objects.url}: {key} is shorter than it was"
            raise StoreError(msg)
        return self._data[at : at + size]


class ObjectFile(io.RawIOBase):
    """A file in an object."""

    def __init__(self, window: ReadWindow, entry: WorkspaceEntry, until: int) -> None:
        """`until`: where in the object what will be read ends, with other files."""
        self._window = window
        self._entry = entry
        self._until = until
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; return where that is."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._entry.size}[whence])
        return self._at

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any buffer, whose type has no name before Python 3.12
        """Read some bytes; 0 at the end. Raises StoreError as `ReadWindow.read`."""
        size = min(len(buffer), self._entry.size - self._at)
        if size <= 0:
            return 0
        data = self._window.read(self._entry.key, self._entry.offset + self._at, size, self._until)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class WorkspaceReader:
    """All that is in a workspace, in the order of its bytes: each is asked for once, however many share an object."""

    def __init__(self, index: WorkspaceIndex, objects: ObjectStore) -> None:
        self._entries = sorted(index.entries.items(), key=_reading_order)
        self._window = ReadWindow(objects)
        self._until: dict[str, int] = {}
        for entry in index.entries.values():
            self._until[entry.key] = max(self._until.get(entry.key, 0), entry.offset + entry.size)

    def begin(self) -> None:
        """Read the first bytes. Raises StoreError as `ReadWindow.read`."""
        for _, entry in self._entries:
            if entry.size:
                self._window.read(entry.key, entry.offset, 1, self._until[entry.key])
                return

    def __iter__(self) -> Iterator[tuple[str, WorkspaceEntry, IO[bytes] | None]]:
        """Yield path, entry and, of a file, its content; folders come before what is in them."""
        for path, entry in self._entries:
            file = None
            if entry.kind == FILE:
                file = io.BufferedReader(ObjectFile(self._window, entry, self._until[entry.key]), CHUNK)
            yield path, entry, file


def _reading_order(item: tuple[str, WorkspaceEntry]) -> tuple[bool, str, int, str]:
    path, entry = item
    return entry.kind != FOLDER, entry.key, entry.offset, path

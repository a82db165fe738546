"""What is in a workspace whose files lie in an object store: names, kinds, and where the bytes of each file are.

Objects have neither folders, links nor modes, and are never changed; so the names of a workspace are here, and one
object has the bytes of many small files. Changes follow the rules of a folder. Pure; paths are as tasks wrote them.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from air_executor.errors import BadInputError, CorruptFileError, FormatTooNewError
from air_executor.model.relative_paths import of_file, parts_of

FILE: Final = "file"
FOLDER: Final = "folder"
LINK: Final = "link"
FORMAT = 1
MOST_ENTRIES = 200_000
MOST_TEXT = 64 << 20
"""Characters of all paths and targets of links."""
_END = "end"


@dataclass(frozen=True, slots=True)
class WorkspaceEntry:
    """A file, a folder or a link."""

    kind: str
    size: int = 0
    """Bytes of a file."""
    changed: int = 0
    """When a file was changed: nanoseconds since 1970."""
    executable: bool = False
    target: str = ""
    """What a link leads to."""
    key: str = ""
    """Name of the object with the bytes of a file that has any."""
    offset: int = 0
    """Where they begin in it."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """An object that nothing refers to any more; a runner that starts may still be reading it."""

    key: str
    at: float
    """Since when, in Unix seconds."""


_FOLDER_ENTRY = WorkspaceEntry(FOLDER)
_NAMES = tuple(one.name for one in fields(WorkspaceEntry))


@dataclass(slots=True)
class WorkspaceIndex:
    """One workspace."""

    store: str
    """Address of the object store."""
    entries: dict[str, WorkspaceEntry] = field(default_factory=dict)
    """By path. The folders of each path are there, too."""
    dropped: list[Dropped] = field(default_factory=list)
    _children: Counter[str] = field(default_factory=Counter)
    _text: int = 0

    def keys(self) -> set[str]:
        """Return the names of all objects that have bytes of a file."""
        return {entry.key for entry in self.entries.values() if entry.key}

    def get_file(self, path: str) -> WorkspaceEntry | None:
        """Return a regular file; None: there is none.

        Raises:
            BadInputError: the path leads elsewhere, or to something else.
        """
        parts = of_file(path)
        self._check_folders(path, parts)
        found = self.entries.get(path)
        if found is not None and found.kind != FILE:
            msg = f"{path}: is not a regular file"
            raise BadInputError(msg)
        return found

    def put(self, path: str, entry: WorkspaceEntry) -> None:
        """Put a file or a link in place of another one; folders are made as needed.

        Raises:
            BadInputError: the path leads elsewhere, through a link or a file, or there is a folder.
        """
        parts = of_file(path)
        self._make_folders(path, parts[:-1])
        found = self.entries.get(path)
        if found is not None and found.kind == FOLDER:
            msg = f"{path}: is a folder"
            raise BadInputError(msg)
        self._set(path, entry)

    def make_folder(self, path: str) -> None:
        """Make a folder, and those above it; fine if it is there. Raises as `put`."""
        self._make_folders(path, parts_of(path))

    def remove(self, path: str) -> None:
        """Remove a file, a link or an empty folder; fine if there is none, or if it is not empty.

        Raises:
            BadInputError: the path leads elsewhere.
        """
        of_file(path)
        if path not in self.entries or self._children[path]:
            return
        self._text -= len(path) + len(self.entries.pop(path).target)
        self._children[_above(path)] -= 1

    def _make_folders(self, path: str, parts: list[str]) -> None:
        self._check_folders(path, [*parts, ""])
        for count in range(1, len(parts) + 1):
            above = "/".join(parts[:count])
            if above not in self.entries:
                self._set(above, _FOLDER_ENTRY)

    def _check_folders(self, path: str, parts: list[str]) -> None:
        for count in range(1, len(parts)):
            found = self.entries.get("/".join(parts[:count]))
            if found is not None and found.kind != FOLDER:
                msg = f"{path}: leads through a link, or through a file"
                raise BadInputError(msg)

    def _set(self, path: str, entry: WorkspaceEntry) -> None:
        before = self.entries.get(path)
        if before is None:
            self._children[_above(path)] += 1
            self._text += len(path)
        self._text += len(entry.target) - (0 if before is None else len(before.target))
        self.entries[path] = entry
        if len(self.entries) > MOST_ENTRIES or self._text > MOST_TEXT:
            msg = f"the workspace has more than {MOST_ENTRIES:,} files, or too long names"
            raise BadInputError(msg)

    # As text

    def dump(self) -> bytes:
        """Return it as lines of JSON."""
        head = {"format": FORMAT, "store": self.store, "dropped": [asdict(one) for one in self.dropped]}
        lines = [head, *({"path": path, **_written(entry)} for path, entry in self.entries.items()), {"kind": _END}]
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def parse_index(data: bytes, path: str) -> WorkspaceIndex:
    """Return an index as it was written; `path` is for messages.

    Raises:
        CorruptFileError: it is none.
        FormatTooNewError: a later version wrote it.
    """
    try:
        head, *lines, end = [json.loads(line) for line in data.splitlines()]
        if head["format"] > FORMAT:
            msg = f"{path}: has format {head['format']}, this version knows {FORMAT}; use a newer version"
            raise FormatTooNewError(msg)
        index = WorkspaceIndex(str(head["store"]), dropped=[Dropped(one["key"], one["at"]) for one in head["dropped"]])
        for line in lines:
            entry = WorkspaceEntry(**{name: line[name] for name in _NAMES if name in line})
            if entry.kind == FOLDER:
                index.make_folder(line["path"])
            else:
                index.put(line["path"], entry)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, BadInputError) as error:
        msg = f"{path}: is no index of a workspace ({error})"
        raise CorruptFileError(msg) from error
    if end != {"kind": _END}:
        msg = f"{path}: has no end"
        raise CorruptFileError(msg)
    return index


def _written(entry: WorkspaceEntry) -> dict[str, Any]:
    """Return what an entry says beyond the defaults."""
    return {name: value for name in _NAMES if (value := getattr(entry, name)) != getattr(_FOLDER_ENTRY, name)} | {
        "kind": entry.kind
    }


def _above(path: str) -> str:
    return path.rpartition("/")[0]

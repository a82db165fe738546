"""Folders as streams: packed for a run that sees no volume, and unpacked from one, which is hostile.

What goes to a run is a tar stream, packed by a thread and a pipe, so a large file costs no memory. What comes from one
is simpler, for a reader of tar can be made to fill memory, disk and time: entries, each a line of JSON and, for a file,
its bytes. Neither way follows a link or leaves its folder, whatever runs do to it meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, Any, Protocol

from air_executor.client.workspace_files import Writable, make_folder, make_link, remove_path, replacing_file
from air_executor.errors import AirExecutorError, BadInputError, StoreError

if TYPE_CHECKING:
    from air_executor.store.object_files import WorkspaceReader

CHUNK = 1 << 18
FILES = "files"
"""Folder of a tar stream below which the workspace is."""
END = "end"
"""Last member of a tar stream, and kind of the last entry: without it a stream has broken off."""
MAX_LINE = 1 << 17
"""Bytes of an entry's line: a path of the longest names, each byte of which is escaped."""
MAX_TARGET = 4095
"""Bytes of what a link leads to."""
LATEST = 1 << 62
"""Nanoseconds since 1970, up to which a change is believed."""
Fill = Callable[[tarfile.TarFile], None]
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def packed(fill: Fill) -> Iterator[bytes]:
    """Yield a tar stream of what `fill` adds to it.

    Raises:
        StoreError: what it adds cannot be read; the stream is not complete.
    """
    reading, writing = os.pipe()
    problems: list[BaseException] = []

    def pack() -> None:
        try:
            with os.fdopen(writing, "wb") as sink, tarfile.open(fileobj=sink, mode="w|", bufsize=CHUNK) as tar:
                fill(tar)
                tar.addfile(tarfile.TarInfo(END))
        except (OSError, ValueError, AirExecutorError) as error:
            problems.append(error)

    packer = threading.Thread(target=pack, name="pack", daemon=True)
    packer.start()
    try:
        while part := os.read(reading, CHUNK):
            yield part
    finally:
        os.close(reading)  # the packer ends with EPIPE if nobody reads on
        packer.join()
    if problems:
        msg = f"cannot be packed: {problems[0]}"
        raise StoreError(msg) from problems[0]


def add_folder(tar: tarfile.TarFile, folder: str, below: str) -> None:
    """Add what is in a folder, below another name. Sockets and other special files are left out."""
    with contextlib.suppress(FileNotFoundError):  # here and below: a task that runs beside has removed it
        _add_folder(tar, os.open(folder, _FOLDER), below)


def _add_folder(tar: tarfile.TarFile, folder: int, below: str) -> None:
    try:
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                _add(tar, folder, name, f"{below}/{name}")
    finally:
        os.close(folder)


def _add(tar: tarfile.TarFile, folder: int, name: str, target: str) -> None:
    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISREG(about.st_mode):
        with open(os.open(name, _READ, dir_fd=folder), "rb") as file:
            member = _member(target, os.fstat(file.fileno()))
            tar.addfile(member, file)
    elif stat.S_ISLNK(about.st_mode):
        member = _member(target, about)
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
        tar.addfile(member)
    elif stat.S_ISDIR(about.st_mode):
        member = _member(target, about)
        member.type, member.size = tarfile.DIRTYPE, 0
        tar.addfile(member)
        _add_folder(tar, os.open(name, _FOLDER, dir_fd=folder), target)
    tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them


def _member(target: str, about: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(target)
    member.mode, member.size = about.st_mode & 0o777, about.st_size if stat.S_ISREG(about.st_mode) else 0
    member.mtime = about.st_mtime
    return member


def add_objects(tar: tarfile.TarFile, found: WorkspaceReader, below: str) -> None:
    """Add what is in a workspace whose files lie in an object store, below another name."""
    for path, entry, file in found:
        member = tarfile.TarInfo(f"{below}/{path}")
        member.mtime = entry.changed / 1e9
        match entry.kind:
            case "folder":
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            case "link":
                member.type, member.linkname = tarfile.SYMTYPE, entry.target
            case _:
                member.size, member.mode = entry.size, 0o755 if entry.executable else 0o644
        tar.addfile(member, file)
        tar.members.clear()  # type: ignore[attr-defined]  # as above


class ChangeTarget(Protocol):
    """What changes of a workspace are applied to; see `workspace_files`, whose functions these are."""

    def remove(self, path: str) -> None:
        """Remove a file, or an empty folder."""

    def make_folder(self, path: str) -> None:
        """Make a folder."""

    def make_link(self, path: str, target: str) -> None:
        """Make a symbolic link in place of another file."""

    def replacing(self, path: str, size: int, changed: int, *, executable: bool) -> AbstractContextManager[Writable]:
        """Write a file in place of another one, within a block."""


class WorkspaceFolder:
    """A workspace on the manager's volume."""

    def __init__(self, root: str) -> None:
        self._root = root

    def remove(self, path: str) -> None:
        """See `ChangeTarget`."""
        remove_path(self._root, path)

    def make_folder(self, path: str) -> None:
        """See `ChangeTarget`."""
        make_folder(self._root, path)

    def make_link(self, path: str, target: str) -> None:
        """See `ChangeTarget`."""
        make_link(self._root, path, target)

    @contextlib.contextmanager
    def replacing(self, path: str, size: int, changed: int, *, executable: bool) -> Iterator[Writable]:  # noqa: ARG002
        """See `ChangeTarget`."""
        with replacing_file(self._root, path, executable=executable) as file:
            yield file
            file.flush()
            os.utime(file.fileno(), ns=(changed, changed))


def unpack(source: IO[bytes], target: ChangeTarget) -> None:
    """Apply what a run sends of its workspace, entry by entry; see `carrier.workspace_changes`.

    Raises:
        BadInputError: it is no such stream, or a path in it leads out or through a link.
        StoreError: the volume refused.
    """
    while (entry := _read_entry(source)).get("kind") != END:
        _apply(source, target, entry)


def _read_entry(source: IO[bytes]) -> dict[str, Any]:
    line = source.readline(MAX_LINE)
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise BadInputError("the files cannot be read: the stream is broken, or has broken off")
    return entry


def _apply(source: IO[bytes], workspace: ChangeTarget, entry: dict[str, Any]) -> None:
    match entry:
        case {"kind": "removed", "path": str(path)}:
            workspace.remove(path)
        case {"kind": "folder", "path": str(path)}:
            workspace.make_folder(path)
        case {"kind": "link", "path": str(path), "target": str(target)} if _is_target(target):
            workspace.make_link(path, target)
        case {"kind": "file", "path": str(path), "size": int(size), "changed": int(changed)} if size >= 0:
            changed = max(0, min(changed, LATEST))
            executable = entry.get("executable") is True
            with workspace.replacing(path, size, changed, executable=executable) as file:
                _copy(source, file, size)
        case _:
            raise BadInputError("the files cannot be read: an entry is of no known kind")


def _is_target(target: str) -> bool:
    try:
        return 0 < len(os.fsencode(target)) <= MAX_TARGET and "\0" not in target
    except UnicodeEncodeError:
        return False


def _copy(source: IO[bytes], target: Writable, size: int) -> None:
    while size > 0:
        part = source.read(min(size, CHUNK))
        if not part:
            raise BadInputError("the files cannot be read: the stream has broken off")
        target.write(part)
        size -= len(part)

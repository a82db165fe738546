"""Folders as tar streams: packed for a run that sees no volume, and unpacked from one, which is hostile.

A stream is packed by a thread and a pipe, so a large file costs no memory. What is unpacked never follows a link and
never leaves its folder; each file takes its place whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from typing import IO

from air_executor.client.workspace_files import make_folder, make_link, remove_path, replacing_file
from air_executor.errors import AirExecutorError, BadInputError, StoreError

CHUNK = 1 << 18
REMOVED = "removed.json"
"""First member of what a run sends: the paths that it has removed, as a list. All others lie below `FILES`."""
FILES = "files"
MAX_REMOVED = 64 << 20
"""Bytes of that list."""
Fill = Callable[[tarfile.TarFile], None]


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
    try:
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found)
    except FileNotFoundError:  # here and below: a task that runs beside has removed it
        return
    for name in names:
        path, target = f"{folder}/{name}", f"{below}/{name}"
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path) and not os.path.islink(path):
                tar.add(path, target, recursive=False, filter=_plain)
                add_folder(tar, path, target)
            else:
                tar.add(path, target, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def unpack(source: IO[bytes], root: str) -> None:
    """Apply what a run sends of its workspace: what it removed, then what it made or changed.

    Raises:
        BadInputError: it is no such stream, or a path in it leads out or through a link.
        StoreError: the volume refused.
    """
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for member in tar:
                if member.name == REMOVED:
                    for path in _removed(tar, member):
                        remove_path(root, path)
                elif member.name.startswith(f"{FILES}/"):
                    _unpack_one(tar, member, root, member.name[len(FILES) + 1 :])
    except (tarfile.TarError, EOFError) as error:
        msg = f"the archive cannot be read: {error}"
        raise BadInputError(msg) from error


def _removed(tar: tarfile.TarFile, member: tarfile.TarInfo) -> list[str]:
    file = tar.extractfile(member) if member.size <= MAX_REMOVED else None
    try:
        found = json.loads(b"" if file is None else file.read())
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
        msg = f"{REMOVED}: is not a list of paths"
        raise BadInputError(msg)
    return found


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, root: str, path: str) -> None:
    if member.isdir():
        make_folder(root, path)
    elif member.issym():
        make_link(root, path, member.linkname)
    elif member.isreg() and (file := tar.extractfile(member)) is not None:
        with replacing_file(root, path, executable=bool(member.mode & 0o100)) as target:
            while part := file.read(CHUNK):
                target.write(part)
            target.flush()
            os.utime(target.fileno(), (member.mtime, member.mtime))

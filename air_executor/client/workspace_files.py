"""Files below a folder that a task may have filled: no link is followed, no path leads out, files are replaced whole.

Used for the workspaces of jobs, and for what is taken out of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, Protocol

from air_executor.errors import BadInputError, NotFoundError, StoreError
from air_executor.model.relative_paths import MAX_PARTS, of_file, parts_of

MOST_LISTED = 10_000
CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Writable(Protocol):
    """A file that is being written."""

    def write(self, data: bytes, /) -> object:
        """Add bytes."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file."""

    path: str
    """Relative to the folder."""
    size: int
    executable: bool


@contextlib.contextmanager
def _folder(root: str, parts: list[str], *, create: bool = False) -> Iterator[int]:
    """Open the folder at a path, by one name after the other."""
    here = -1
    try:
        try:
            here = os.open(root, _FOLDER)
            for part in parts:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, stat.S_IMODE(os.fstat(here).st_mode), dir_fd=here)
                        _hand_over(part, here)
                above, here = here, os.open(part, _FOLDER, dir_fd=here)
                os.close(above)
        except OSError as error:
            raise _error("/".join(parts) or root, error) from None
        yield here
    finally:
        if here >= 0:
            os.close(here)


@contextlib.contextmanager
def _in_folder(root: str, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
    """Open the folder that a path lies in, and yield it with the path's last name."""
    *above, name = of_file(path)
    with _folder(root, above, create=create) as folder:
        try:
            yield folder, name
        except OSError as error:
            raise _error(path, error) from None


@contextlib.contextmanager
def _replacement(folder: int, name: str) -> Iterator[str]:
    """Yield the name of what takes the place of another one at the end of the block; after an error it is removed."""
    staged = f".air-{secrets.token_hex(8)}"
    try:
        yield staged
        os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(staged, dir_fd=folder)
        raise


def _hand_over(name: str, folder: int) -> None:
    """Give a new folder to the owner of the one that it is in: tasks run as that user."""
    about = os.fstat(folder)
    if os.geteuid() == 0 and about.st_uid != 0:
        os.chown(name, about.st_uid, about.st_gid, dir_fd=folder, follow_symlinks=False)


def open_file(root: str, path: str) -> BinaryIO:
    """Open a regular file for reading, without a buffer.

    Raises:
        NotFoundError: there is none.
        BadInputError: the path leads elsewhere, or to something that is no regular file.
    """
    *above, name = of_file(path)
    with _folder(root, above) as folder:
        try:
            fd = os.open(name, _READ, dir_fd=folder)
        except OSError as error:
            raise _error(path, error) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        msg = f"{path}: is not a regular file"
        raise BadInputError(msg)
    return os.fdopen(fd, "rb", buffering=0)


def write_file(root: str, path: str, source: BinaryIO, *, executable: bool = False) -> None:
    """Write a file whole, in place of another one; folders are made as needed. Raises as `replacing_file`."""
    with replacing_file(root, path, executable=executable) as file:
        while data := source.read(CHUNK):
            file.write(data)


@contextlib.contextmanager
def replacing_file(root: str, path: str, *, executable: bool = False) -> Iterator[BinaryIO]:
    """Open a new file, which takes the place of another one at the end of the block; after an error it is removed.

    Folders are made as needed.

    Raises:
        BadInputError: the path leads elsewhere, or through a link.
        StoreError: the volume refused; what was there stays.
    """
    with _in_folder(root, path, create=True) as (folder, name), _replacement(folder, name) as staged:
        fd = os.open(staged, _WRITE, 0o777 if executable else 0o666, dir_fd=folder)
        with os.fdopen(fd, "wb") as file:
            about = os.fstat(folder)
            if os.geteuid() == 0 and about.st_uid != 0:
                os.fchown(file.fileno(), about.st_uid, about.st_gid)
            yield file


def make_folder(root: str, path: str) -> None:
    """Make a folder, and those above it; fine if it is there. Raises as `replacing_file`."""
    with _folder(root, parts_of(path), create=True):
        pass


def make_link(root: str, path: str, target: str) -> None:
    """Make a symbolic link in place of another file; it is never followed here. Raises as `replacing_file`."""
    with _in_folder(root, path, create=True) as (folder, name), _replacement(folder, name) as staged:
        os.symlink(target, staged, dir_fd=folder)


def remove_path(root: str, path: str) -> None:
    """Remove a file, or an empty folder; fine if there is none, or if it is not empty.

    Raises:
        BadInputError: the path leads elsewhere.
        StoreError: the volume refused.
    """
    of_file(path)
    # What leads through a link or a file is not there either.
    with contextlib.suppress(NotFoundError, BadInputError), _in_folder(root, path) as (folder, name):
        try:
            os.unlink(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in {errno.EISDIR, errno.EPERM}:
                raise
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as full:
                if full.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise


def list_files(root: str, path: str = "") -> Iterator[FoundFile]:
    """Yield the regular files at or below a path, at most 10,000; links and others are left out.

    Raises:
        NotFoundError: there is nothing at this path.
        BadInputError: it leads elsewhere, or there are too many files.
    """
    *above, name = parts_of(path) or [""]
    with _folder(root, above) as folder:
        try:
            about = os.stat(name, dir_fd=folder, follow_symlinks=False) if name else os.fstat(folder)
        except OSError as error:
            raise _error(path, error) from None
    if stat.S_ISREG(about.st_mode):
        yield _found(path, about)
        return
    waiting, count = [[*above, *([name] if name else [])]], 0
    while waiting:
        parts = waiting.pop()
        if len(parts) > MAX_PARTS:
            continue
        with _folder(root, parts) as folder:
            with os.scandir(folder) as found:
                names = sorted(entry.name for entry in islice(found, MOST_LISTED + 1))
            for entry in names:
                with contextlib.suppress(OSError):  # gone meanwhile
                    about = os.stat(entry, dir_fd=folder, follow_symlinks=False)
                    count += 1
                    if count > MOST_LISTED:
                        msg = f"{path or '.'}: has more than {MOST_LISTED:,} files; name a folder in it"
                        raise BadInputError(msg)
                    if stat.S_ISDIR(about.st_mode):
                        waiting.append([*parts, entry])
                    elif stat.S_ISREG(about.st_mode):
                        yield _found("/".join([*parts, entry]), about)


def _found(path: str, about: os.stat_result) -> FoundFile:
    return FoundFile(path, about.st_size, bool(about.st_mode & stat.S_IXUSR))


def _error(path: str, error: OSError) -> NotFoundError | BadInputError | StoreError:
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{path}: there is no such file or folder")
    if isinstance(error, NotADirectoryError) or error.errno == errno.ELOOP:
        return BadInputError(f"{path}: leads through a link, or through a file")
    if isinstance(error, IsADirectoryError):
        return BadInputError(f"{path}: is a folder")
    return StoreError(f"{path}: {error.strerror}")

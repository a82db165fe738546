"""How bytes reach the volume and come back: stage-fsync-rename, exclusive create, hostile reads, quarantine.

All of the project's state goes through here, so this is where tests make a rename fail or the disk full. Knows nothing
of what is in the files.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import NoReturn

from air_executor.errors import CorruptFileError, NotFoundError, PathBlockedError, StoreError

_DENIED = frozenset({errno.EACCES, errno.EPERM})
_BLOCKED = _DENIED | frozenset(
    {
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EBUSY,
        errno.EXDEV,
    }
)
"""Errors that say something about one path and nothing about the volume."""


def random_hex(count: int) -> str:
    """Return `count` random bytes as text (the `secrets` module does the same, 5 ms of imports later)."""
    return os.urandom(count).hex()


def fail(verb: str, path: str, error: OSError) -> NoReturn:
    """Raise the `StoreError` (or `NotFoundError`) that says what could not be done where, and what to do.

    A path that leads through something that is no directory does not exist either.
    """
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        msg = f"{path}: not found"
        raise NotFoundError(msg) from error
    hint = {
        errno.ENOSPC: "the volume is full: free space there",
        errno.EDQUOT: "the disk quota is used up: free space there",
        errno.EROFS: "the volume is read-only: mount it writable",
        **dict.fromkeys(_DENIED, "permission denied: use the account that owns the state directory"),
    }.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    whose = _owner_text(path) if error.errno in _DENIED else ""
    msg = f"cannot {verb} {path}: {hint}{whose}"
    raise (PathBlockedError if error.errno in _BLOCKED else StoreError)(msg) from error


def _owner_text(path: str) -> str:
    """Return who we are, and whose the nearest folder is: on a volume it is mostly root's, and we are not root."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return f" (this is uid {os.geteuid()}; {folder} belongs to uid {os.stat(folder).st_uid})"


def fsync_dir(path: str) -> None:
    """Make the names in a directory durable.

    Raises:
        StoreError: the volume refused.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        fail("sync", path, error)


def write_new(path: str, data: bytes, *, sync: bool, mode: int = 0o644, changed_at: float | None = None) -> float:
    """Create a file that must not exist and return its modification time, in Unix seconds.

    Args:
        path: of the file.
        data: its content.
        sync: whether it survives a crash of the machine from now on.
        mode: its permissions.
        changed_at: its modification time, in Unix seconds; None: now, by the volume's clock.

    Raises:
        FileExistsError: it exists.
        StoreError: the volume refused; nothing is left behind.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise
    except OSError as error:
        fail("create", path, error)
    try:
        try:
            write_all(fd, data)
            if changed_at is not None:
                os.utime(fd, (changed_at, changed_at))
            if sync:
                os.fsync(fd)
            return os.fstat(fd).st_mtime
        finally:
            os.close(fd)
    except OSError as error:
        remove(path)
        fail("write", path, error)


def write_all(fd: int, data: bytes) -> None:
    """Write everything, however the kernel cuts it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace(path: str, data: bytes, staging: str, *, sync: bool = True) -> None:
    """Put `data` in place of `path` in one step, built in the directory `staging` on the same volume.

    Raises:
        StoreError: the volume refused; the old file is untouched.
    """
    temporary = f"{staging}/{random_hex(6)}"
    write_new(temporary, data, sync=sync)
    try:
        os.rename(temporary, path)
    except OSError as error:
        remove(temporary)
        fail("replace", path, error)
    if sync:
        fsync_dir(os.path.dirname(path))


def replace_own(path: str, data: bytes, staging: str, *, sync: bool = True) -> None:
    """Put `data` in place of a file that only we write; a directory there is quarantined. Raises as `replace`."""
    try:
        replace(path, data, staging, sync=sync)
    except PathBlockedError:
        if not os.path.isdir(path):
            raise
        quarantine(path)
        replace(path, data, staging, sync=sync)


def replace_link(path: str, target: str, staging: str) -> None:
    """Put a symlink in place of what only we write, unless it is there; a directory there is quarantined.

    Raises:
        StoreError: the volume refused.
    """
    temporary = f"{staging}/{random_hex(6)}"
    try:
        if os.path.islink(path) and os.readlink(path) == target:
            return
        if os.path.isdir(path) and not os.path.islink(path):
            quarantine(path)
        os.symlink(target, temporary)
        os.rename(temporary, path)
    except OSError as error:
        remove(temporary)
        fail("replace", path, error)


def move(source: str, target: str) -> None:
    """Rename.

    Raises:
        StoreError: the volume refused, or `target` is a directory with something in it.
        NotFoundError: there is no `source`.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        fail("move", f"{source} to {target}", error)


def copy(source: str, target: str) -> None:
    """Copy a file.

    Raises:
        StoreError: the volume refused.
        NotFoundError: there is no `source`.
    """
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        fail("create", target, error)


def remove(path: str) -> None:
    """Remove a file; fine if it is gone already or cannot go now."""
    try:
        os.unlink(path)
    except OSError:
        return


def touch(path: str) -> float:
    """Give a file the present time by the volume's clock, and return that, in Unix seconds.

    Raises:
        NotFoundError: its directory is gone.
        StoreError: the volume refused.
    """
    try:
        os.utime(path)
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return write_new(path, b"", sync=False)
    except OSError as error:
        fail("touch", path, error)


def make_dir(path: str) -> None:
    """Create a directory and those above it; fine if it exists.

    Raises:
        StoreError: the volume refused.
    """
    if os.path.isdir(path):
        return
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        fail("create", path, error)


def restore_dir(path: str) -> None:
    """Create a directory that the manager needs; what is there and is none (a file, a dead link) is quarantined.

    Creates none above it: those of a state directory that was moved or unmounted must not come back.

    Raises:
        NotFoundError: the directory above it does not exist.
        StoreError: the volume refused.
    """
    if os.path.isdir(path):  # mostly; an attempt would lock the folder above it
        return
    try:
        try:
            os.mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):
                quarantine(path)
                os.mkdir(path)
    except OSError as error:
        fail("create", path, error)


def read(path: str, limit: int, dir_fd: int | None = None) -> tuple[bytes, float] | None:
    """Return content and modification time of a regular file, or None if there is none.

    Never follows a symlink and never waits on a fifo, so it is safe on what a task left behind.

    Raises:
        CorruptFileError: it is not a regular file, or longer than `limit` bytes.
        StoreError: the volume refused.
    """
    fd = _open(path, dir_fd)
    if fd is None:
        return None
    try:
        info = _check_regular(fd, path)
        if info.st_size > limit:
            msg = f"{path}: {info.st_size} bytes, more than the {limit} that are allowed"
            raise CorruptFileError(msg)
        parts = []
        left = limit + 1
        asked = min(left, max(info.st_size + 1, 8192))
        while left > 0 and (part := os.read(fd, asked)):
            parts.append(part)
            left -= len(part)
            if len(part) < asked and limit + 1 - left >= info.st_size:
                break  # the end; asking for it once more would cost as much as the reading
            asked = min(left, asked)
    except OSError as error:
        fail("read", path, error)
    finally:
        os.close(fd)
    data = b"".join(parts)
    if len(data) > limit:
        msg = f"{path}: more than the {limit} bytes that are allowed"
        raise CorruptFileError(msg)
    return data, info.st_mtime


def read_ends(path: str, head: int, tail: int) -> tuple[bytes, bytes] | None:
    """Return the first `head` and the last `tail` bytes of a regular file, or None if there is none; raises as `read`.

    A file of up to `head` bytes is read once, and its head is all of it.
    """
    fd = _open(path)
    if fd is None:
        return None
    try:
        size = _check_regular(fd, path).st_size
        first = os.read(fd, head)
        return first, os.pread(fd, tail, size - tail) if size > head else first[-tail:]
    except OSError as error:
        fail("read", path, error)
    finally:
        os.close(fd)


def _open(path: str, dir_fd: int | None = None) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOTDIR):
            msg = f"{path}: not a regular file"
            raise CorruptFileError(msg) from error
        fail("open", path, error)


def _check_regular(fd: int, path: str) -> os.stat_result:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        msg = f"{path}: not a regular file"
        raise CorruptFileError(msg)
    return info


def quarantine(path: str) -> str:
    """Move an unreadable file out of the way, next to where it was, and return its new path.

    Raises:
        StoreError: the volume refused; the file stays, and must not be written.
    """
    target = f"{path}.corrupt"
    number = 1
    while os.path.lexists(target):
        number += 1
        target = f"{path}.{number}.corrupt"
    move(path, target)
    return target


def list_dir(path: str) -> list[str]:
    """Return the names in a directory; none if it does not exist or is no directory.

    Raises:
        StoreError: the volume refused, so nothing is known.
    """
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        fail("list", path, error)


def changed_at(path: str, dir_fd: int | None = None) -> float:
    """Return when a file or the names in a directory last changed, in Unix seconds; 0 if there is none."""
    try:
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=dir_fd is None).st_mtime
    except OSError:
        return 0.0


def size(path: str) -> int:
    """Return how many bytes a file has; 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def list_folders(path: str) -> list[str]:
    """Return the names of the directories in a directory, links to directories left out; otherwise as `list_dir`.

    Raises:
        StoreError: the volume refused, so nothing is known.
    """
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        fail("list", path, error)


EFFECTS = (fsync_dir, write_new, write_all, replace, replace_link, move, copy, remove, touch, make_dir, restore_dir)
"""What changes the volume, here and in other modules: a manager may die before and after each, and in tests it does."""

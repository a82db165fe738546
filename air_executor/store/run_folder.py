"""The folder of what a run leaves, and the files in it: hostile, for its task can write all of it.

A task can replace the folder or take it from us, make links, fifos and folders of its files, and fill them without end.
So what is in it is opened relative to the folder, never through a link, never waited for, and read up to a limit.
Called by `run_dirs`; knows nothing of what is in the files.
"""

from __future__ import annotations

import errno
import os

from air_executor.errors import CorruptFileError, PathBlockedError
from air_executor.store import files

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""To open a folder that could have been replaced by a link."""


def open_folder(path: str) -> int | None:
    """Open a folder, giving it back to us if its task has closed it; None if there is none, or something else there.

    Raises:
        StoreError: the volume refused, so nothing is known.
    """
    for again in (True, False):
        try:
            return os.open(path, FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            if not (again and error.errno == errno.EACCES and _restore_mode(path)):
                files.fail("open", path, error)
    return None


def _restore_mode(path: str) -> bool:
    """Give back to us a folder of ours whose mode a task has changed, and the one that it lies in."""
    if not hasattr(os, "O_PATH"):
        return False
    try:
        for folder in (os.path.dirname(path), path):
            fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.chmod(f"/proc/self/fd/{fd}", 0o755)  # noqa: S103 - as the manager makes them
            finally:
                os.close(fd)
    except OSError:
        return False
    return True


def read(name: str, limit: int, folder: int) -> tuple[bytes, float] | None:
    """Return content and modification time of a file of an open folder, as `files.read` does.

    Raises:
        CorruptFileError: it is no regular file, longer than `limit` bytes, or closed to us, which its task has done.
        StoreError: the volume refused.
    """
    try:
        return files.read(name, limit, folder)
    except PathBlockedError as error:
        raise CorruptFileError(str(error)) from error


def stamp(name: str, folder: int) -> tuple[int, int] | None:
    """Return size in bytes and modification time in nanoseconds of a file of an open folder; None if there is none."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


EFFECTS = (_restore_mode,)
"""What changes the volume; see `files`."""

"""How a folder that a task may have filled is removed: however deep, with bounded memory and descriptors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from air_executor.store import files


def remove_tree(path: str) -> None:
    """Remove a directory with all that is in it, as far as that can be done now."""
    for _ in removal(path):
        pass


def removal(path: str) -> Iterator[None]:
    """Remove a directory as `remove_tree` does, yielding after each file or folder, so that others may go first.

    A task may have nested folders deeper than any recursion, path or set of descriptors goes. So a folder with
    something in it is moved to the top before anybody looks into it.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        files.remove(path)
        return
    try:
        moved, removed = f".{files.random_hex(6)}", 1
        number = 0
        while removed:
            removed = 0
            for name in os.listdir(top):
                number = _empty(name, top, f"{moved}-", number)
                removed += _remove_entry(name, top)
                yield
    except OSError:
        pass  # removed meanwhile, or not ours to read
    finally:
        os.close(top)
    _remove_folder(path)


def _remove_folder(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _empty(name: str, top: int, prefix: str, number: int) -> int:
    """Remove what is in a folder in `top`, and move the folders in it to `top`; return the next free number."""
    try:
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    except OSError:
        return number  # no folder
    try:
        for entry in os.listdir(inner):
            if not _remove_entry(entry, inner):
                number += 1
                with contextlib.suppress(OSError):  # a mount, say: it stays, and the folder with it
                    os.rename(entry, f"{prefix}{number}", src_dir_fd=inner, dst_dir_fd=top)
    except OSError:
        pass
    finally:
        os.close(inner)
    return number


def _remove_entry(name: str, folder: int) -> bool:
    """Remove a file or an empty folder; tell whether that was done."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        pass
    except PermissionError:  # what some systems say of a folder
        pass
    except OSError:
        return False
    else:
        return True
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError:
        return False
    return True


EFFECTS = (remove_tree, _empty, _remove_entry, _remove_folder)
"""What changes the volume; see `files`."""

"""A name for the state directory's `bin/` that `PYTHONPATH` can hold: a colon in a path would split it in two.

The local backend calls this when it spawns. Where the path has a colon the name is a symlink in a folder of this user's
in the system's temporary directory, the same one each time, so that tasks outlive the manager that started them.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile


def folder_for(bin_dir: str) -> str:
    """Return `bin_dir`, or a symlink to it where its path has a colon.

    Without one that others cannot change, the path itself is returned: tasks then lack the in-task module, no more.
    """
    if os.pathsep not in bin_dir:
        return bin_dir
    folder = f"{_temporary()}/air-executor-{os.geteuid()}"
    link = f"{folder}/{hashlib.sha256(os.fsencode(bin_dir)).hexdigest()[:16]}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return bin_dir
        if not os.path.islink(link) or os.readlink(link) != bin_dir:
            staged = f"{link}.{os.getpid()}"
            os.symlink(bin_dir, staged)
            os.replace(staged, link)
    except OSError:
        return bin_dir
    return link


def _temporary() -> str:
    found = tempfile.gettempdir()
    return "/tmp" if os.pathsep in found else found  # noqa: S108 - the folder in it is checked

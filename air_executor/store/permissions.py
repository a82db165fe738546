"""Who may read and own what lies in the state directory, whatever account made it.

Called by whoever writes a file that others use. Knows nothing of what is in the files.
"""

from __future__ import annotations

import os

from air_executor.store import files


def let_read(path: str, *, executable: bool = False) -> None:
    """Let everybody read a file, or look into a directory, whatever our umask: runners may be other users than we are.

    `executable` files may also be run by everybody.

    Raises:
        StoreError: the volume refused.
    """
    try:
        os.chmod(path, 0o755 if executable or os.path.isdir(path) else 0o644)
    except PermissionError:
        pass  # another user made it, and has let us in
    except OSError as error:
        files.fail("change the mode of", path, error)


def hand_over(path: str, folder: str) -> None:
    """Give a path that root has created to the owner of `folder`, so that a manager without root can use it.

    Raises:
        StoreError: the volume refused.
        NotFoundError: there is no `path`.
    """
    if os.geteuid() != 0:
        return
    try:
        owner = os.stat(folder)
        if owner.st_uid != 0:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    except OSError as error:
        files.fail("hand over", path, error)


EFFECTS = (let_read, hand_over)

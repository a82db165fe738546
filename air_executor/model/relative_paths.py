"""Paths of files below a folder that a task may have filled: relative, and leading nowhere else."""

from __future__ import annotations

import os

from air_executor.errors import BadInputError

MAX_PARTS = 64
"""Folders of one path."""
MAX_NAME = 255


def parts_of(path: str) -> list[str]:
    """Return the names that a relative path consists of; none for the folder itself.

    Raises:
        BadInputError: it leads elsewhere, or is none.
    """
    parts = [] if path in ("", ".") else path.split("/")
    if len(parts) > MAX_PARTS or not all(map(_is_name, parts)):
        msg = f"path: must be relative, without . and .., got {path[:200]!r}"
        raise BadInputError(msg)
    return parts


def of_file(path: str) -> list[str]:
    """Return the names that the path of a file consists of. Raises as `parts_of`."""
    parts = parts_of(path)
    if not parts:
        raise BadInputError("path: must be that of a file")
    return parts


def _is_name(part: str) -> bool:
    try:
        return part not in ("", ".", "..") and "\0" not in part and len(os.fsencode(part)) <= MAX_NAME
    except UnicodeEncodeError:
        return False

"""What the result of a task depends on, as one hash: its command and surroundings, and the parts of its `key`.

Files count by their content. What a task can write is hostile: it is opened below its folder without following a link,
must be a regular file, and is read up to a limit.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from air_executor.errors import BadInputError, CorruptFileError
from air_executor.model import parsing
from air_executor.store import files

MOST_FILES = 100_000
MOST_BYTES = 256 * 1024**3
"""Of all files of one key."""
CHUNK = 1024 * 1024
DIGITS = 40
"""Hexadecimal digits of a key: 160 bits."""
_MISSING, _LINK = "missing", "link"


@dataclass(frozen=True, slots=True)
class MemoKey:
    """A key, and what it was made of."""

    digest: str
    depends: dict[str, Any]


def make_key(surroundings: dict[str, Any], parts: list[str | dict[str, str]], folders: dict[str, str]) -> MemoKey:
    """Return the key of a result.

    `surroundings`: what is always part of it; `parts`: as people write them; `folders`: by place, where files lie.

    Raises:
        BadInputError: the files are too many or too large.
        StoreError: the volume refused.
    """
    budget = _Budget()
    found: list[Any] = []
    for part in parts:
        if isinstance(part, str):
            found.append(part)
        else:
            place, path = next(iter(part.items()))
            found.append({place: path, "sha256": _hash_of(folders[place], path, budget)})
    depends = {**surroundings, "key": found}
    text = parsing.to_json({"format": 1, **depends})
    return MemoKey(hashlib.sha256(text).hexdigest()[:DIGITS], depends)


class _Budget:
    """How much may be read for one key."""

    def __init__(self) -> None:
        self._files = 0
        self._bytes = 0

    def take(self, count: int, size: int) -> None:
        self._files += count
        self._bytes += size
        if self._files > MOST_FILES or self._bytes > MOST_BYTES:
            msg = f"memoize.key: more than {MOST_FILES} files, or {MOST_BYTES // 1024**3} GiB"
            raise BadInputError(msg)


def open_below(folder: str, path: str) -> int | None:
    """Open a file or folder below a folder, following no link; None if there is none.

    Raises:
        CorruptFileError: something in the way is a link, or no folder, or a device.
        StoreError: the volume refused.
    """
    try:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        files.fail("open", folder, error)
    try:
        for part in path.split("/"):
            inner = _open(part, here, path)
            os.close(here)
            here = -1
            if inner is None:
                return None
            here = inner
        found, here = here, -1
        return found
    finally:
        if here >= 0:
            os.close(here)


def _open(name: str, folder: int, path: str) -> int | None:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"{path}: not a regular file or folder ({error.strerror})"
        raise CorruptFileError(msg) from error


def _hash_of(folder: str, path: str, budget: _Budget) -> str:
    """Return the hash of a file's content, or of all that is in a folder."""
    fd = open_below(folder, path)
    if fd is None:
        return _MISSING
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            return hash_file(fd, path, budget.take)
        total = hashlib.sha256()
        for name, digest in _entries(fd, budget):
            total.update(f"{len(name)}:{name}{digest}\n".encode(errors="surrogateescape"))
        return total.hexdigest()
    finally:
        os.close(fd)


def _entries(top: int, budget: _Budget) -> Iterator[tuple[str, str]]:
    """Yield path and hash of everything in a folder, in order. No recursion: folders can be nested deeply."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        fd = os.dup(top) if not prefix else _folder(prefix, top)
        try:
            for name in sorted(os.listdir(fd)):
                path = f"{prefix}/{name}" if prefix else name
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                budget.take(1, 0)
                if stat.S_ISDIR(info.st_mode):
                    waiting.append(path)
                elif stat.S_ISLNK(info.st_mode):
                    yield path, f"{_LINK} {os.readlink(name, dir_fd=fd)}"
                else:
                    inner = _open(name, fd, path)
                    if inner is not None:
                        try:
                            yield path, hash_file(inner, path, budget.take)
                        finally:
                            os.close(inner)
        except OSError as error:
            files.fail("read", prefix or "the folder", error)
        finally:
            os.close(fd)


def _folder(path: str, top: int) -> int:
    here = os.dup(top)
    for part in path.split("/"):
        try:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        except OSError as error:
            files.fail("open", path, error)
        finally:
            os.close(here)
        here = inner
    return here


def hash_file(fd: int, path: str, take: Callable[[int, int], None]) -> str:
    """Return the hash of an open file.

    Raises:
        CorruptFileError: it is not a regular one.
        StoreError: the volume refused.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        msg = f"{path}: not a regular file"
        raise CorruptFileError(msg)
    digest = hashlib.sha256()
    try:
        while data := os.read(fd, CHUNK):
            take(0, len(data))
            digest.update(data)
    except OSError as error:
        files.fail("read", path, error)
    return digest.hexdigest()

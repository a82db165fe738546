"""Results of tasks that later tasks may have, too: `cache/<key>/`, with an `entry.json` and the files beside it.

Called by the manager's side work. An entry is built aside and renamed into place, and never changed after that. One
that cannot be read, or whose files are others than it says, is moved away and counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat

from air_executor.errors import BadInputError, CorruptFileError, NotFoundError, StoreError
from air_executor.model import parsing
from air_executor.model.memo import CachedFile, CacheEntry
from air_executor.store import codec, files, permissions, trees
from air_executor.store.layout import Layout
from air_executor.store.memo_key import CHUNK, DIGITS, open_below

MAX_ENTRY = 1024 * 1024
MOST_KEPT = 4 * 1024**3
"""Bytes of the files of one entry."""
_KEY = re.compile(f"[0-9a-f]{{{DIGITS}}}")


class MemoCache:
    """The cache of one state directory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def find(self, key: str, now: float, age: float) -> CacheEntry | None:
        """Return the entry of a key that is not older than `age`; None: there is none.

        Raises:
            CorruptFileError: there was one that cannot be read; it is moved away.
            StoreError: the volume refused.
        """
        path = f"{self._layout.cache}/{key}"
        try:
            entry = self._read(path, key)
        except CorruptFileError as error:
            raise self._set_aside(path, error) from error
        return entry if entry is not None and now - age < entry.made_at <= now + age else None

    @staticmethod
    def _read(path: str, key: str) -> CacheEntry | None:
        found = files.read(f"{path}/entry.json", MAX_ENTRY)
        if found is None and os.path.isdir(path):  # another thread may have put it there since
            found = files.read(f"{path}/entry.json", MAX_ENTRY)
        if found is None:
            if os.path.isdir(path):
                msg = f"{path}: has no entry.json"
                raise CorruptFileError(msg)
            return None
        entry = codec.read_small(CacheEntry, found[0])
        if entry is None:
            msg = f"{path}/entry.json: no readable entry"
            raise CorruptFileError(msg)
        if entry.key != key:
            msg = f"{path}: is the entry of another key"
            raise CorruptFileError(msg)
        return entry

    def _set_aside(self, path: str, error: CorruptFileError) -> CorruptFileError:
        return CorruptFileError(f"{error}; moved to {files.quarantine(path)}")

    def restore(self, entry: CacheEntry, workspace: str, staging: str) -> None:
        """Put the files of an entry into a workspace. May be repeated.

        Raises:
            CorruptFileError: they are not what the entry says; it is moved away.
            StoreError: the volume refused, or something in the workspace is in the way.
        """
        path = f"{self._layout.cache}/{entry.key}"
        for number, file in enumerate(entry.files):
            copy = f"{staging}/cached-{files.random_hex(6)}"
            try:
                try:
                    made = _copy(f"{path}/files", str(number), copy)
                except CorruptFileError as error:
                    raise self._set_aside(path, error) from error
                if made is None or (made.size, made.sha256) != (file.size, file.sha256):
                    changed = CorruptFileError(f"{path}: the content of {file.path} is not the one that was kept")
                    raise self._set_aside(path, changed)
                os.chmod(copy, file.mode)
                permissions.hand_over(copy, workspace)
                _place(copy, workspace, file.path)
            finally:
                files.remove(copy)

    EFFECTS = (restore,)
    """What changes the volume; see `files`."""

    def store(self, entry: CacheEntry, outputs: list[str], workspace: str, staging: str, *, replaces: bool) -> bool:
        """Keep the result of a task, with files of its workspace; False: another run has kept one meanwhile.

        Raises:
            BadInputError: a file is missing, or they are too large together.
            StoreError: the volume refused, or a file is no regular one.
        """
        new, path = f"{staging}/entry-{files.random_hex(6)}", f"{self._layout.cache}/{entry.key}"
        files.make_dir(f"{new}/files")
        try:
            kept = []
            for number, name in enumerate(outputs):
                file = _copy(workspace, name, f"{new}/files/{number}")
                if file is None:
                    msg = f"memoize.outputs: there is no {name} in the workspace"
                    raise BadInputError(msg)
                kept.append(file)
                if sum(one.size for one in kept) > MOST_KEPT:
                    msg = f"memoize.outputs: more than {MOST_KEPT // 1024**3} GiB"
                    raise BadInputError(msg)
            whole = CacheEntry(
                **{name: getattr(entry, name) for name in entry.__slots__ if name != "files"}, files=kept
            )
            files.write_new(f"{new}/entry.json", parsing.dump_json(whole) + b"\n", sync=True)
            files.make_dir(self._layout.cache)
            age = entry.expires_at - entry.made_at
            if not replaces and self.find(entry.key, entry.made_at, age) is not None:
                return False
            if os.path.isdir(path):
                with contextlib.suppress(NotFoundError):  # another thread was first
                    files.move(path, f"{staging}/old-{files.random_hex(6)}")
            try:
                files.move(new, path)
            except StoreError:
                if os.path.isdir(path):
                    return False
                raise
        finally:
            trees.remove_tree(new)
        return True

    def prune(self, now: float) -> int:
        """Remove entries whose time is over; return how many. What cannot be read stays for people to look at."""
        removed = 0
        for name in files.list_folders(self._layout.cache):
            if _KEY.fullmatch(name) is None:
                continue
            path = f"{self._layout.cache}/{name}"
            try:
                entry = self._read(path, name)
            except StoreError:
                continue
            if entry is not None and entry.expires_at <= now:
                files.remove(f"{path}/entry.json")
                trees.remove_tree(path)
                removed += 1
        return removed


def _copy(folder: str, name: str, target: str) -> CachedFile | None:
    """Copy a file below a folder; return what it is, None if there is none."""
    fd = open_below(folder, name)
    if fd is None:
        return None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            msg = f"{name}: not a regular file"
            raise CorruptFileError(msg)
        digest, size = hashlib.sha256(), 0
        with open(target, "xb") as out:
            while data := os.read(fd, CHUNK):
                digest.update(data)
                size += out.write(data)
                if size > MOST_KEPT:
                    msg = f"{name}: more than {MOST_KEPT // 1024**3} GiB"
                    raise BadInputError(msg)
    except OSError as error:
        files.fail("copy", name, error)
    finally:
        os.close(fd)
    return CachedFile(path=name, size=size, sha256=digest.hexdigest(), mode=info.st_mode & 0o777)


def _place(source: str, workspace: str, path: str) -> None:
    """Rename a file to its place in a workspace, following no link there."""
    here = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *above, name = path.split("/")
        for part in above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=here)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = inner
        os.rename(source, name, dst_dir_fd=here)
    except OSError as error:
        files.fail("put a cached file in place of", path, error)
    finally:
        os.close(here)


EFFECTS = (_copy, _place)
"""What changes the volume; see `files`."""

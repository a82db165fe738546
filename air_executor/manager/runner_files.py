"""`bin/`: runners, helpers and the in-task API, which every task of every job needs.

The loop installs them when it acquires the directory; the scheduler has them restored before a start, because a local
task can remove or replace them. Knows no runner and no job.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from air_executor.errors import PathBlockedError, StoreError
from air_executor.manager.held_directory import HeldDirectory
from air_executor.runner import native
from air_executor.store import files, permissions
from air_executor.store.layout import Layout

log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int, int]


class RunnerFiles:
    """The content of `bin/` in one state directory."""

    def __init__(self, layout: Layout, content: Mapping[str, bytes], directory: HeldDirectory) -> None:
        """`content`: by path below `bin/`."""
        self._directory = directory
        self._layout = layout
        self._content = content
        self.machines = native.machines_in(content)
        """Those with a native runner of this installation. Another version's stays: it may be starting or running."""
        self._stamps: dict[str, _Stamp | None] = {}
        self._watched: list[str] = []
        """Files and folders of which one changes with whatever becomes of any file: links can only be replaced."""
        self._seen: list[_Stamp | None] = []

    def install(self) -> None:
        """Write those that are not there; names of one folder with the same content are one file, and links to it.

        Raises:
            StoreError: the volume refused.
        """
        folders = {os.path.dirname(f"{self._layout.bin}/{name}"): None for name in self._content}
        self._watched = list(folders)
        for folder in (self._layout.bin, *(folder for folder in folders if folder != self._layout.bin)):
            files.restore_dir(folder)
            permissions.let_read(folder)
        first: dict[tuple[str, bytes], str] = {}
        for name, content in self._content.items():
            path = f"{self._layout.bin}/{name}"
            twin = first.setdefault((os.path.dirname(name), content), name)
            if twin != name:
                files.replace_link(path, os.path.basename(twin), self._layout.tmp)
                continue
            if not _holds(path, content):  # a restart on a full volume needs no space
                files.replace_own(path, content, self._layout.tmp, sync=False)
            permissions.let_read(path, executable=content.startswith((b"#!", b"\x7fELF")))
            self._watched.append(path)
        self._stamps = {name: _stamp(f"{self._layout.bin}/{name}") for name in self._content}
        self._seen = [*map(_stamp, self._watched)]

    def restore(self) -> None:
        """Write them again if they aren't as they were installed; a few system calls if they are.

        Raises:
            StoreError: the volume refused.
        """
        seen = [*map(_stamp, self._watched)]
        if seen == self._seen and None not in seen:
            return
        now = {name: _stamp(f"{self._layout.bin}/{name}") for name in self._content}
        changed = [name for name, stamp in now.items() if stamp is None or stamp != self._stamps[name]]
        self._seen = [] if changed else seen  # Python caches the in-task API beside it
        if changed:
            log.warning("%s was changed, writing it again: %s", self._layout.bin, ", ".join(changed))
            self._directory.check_settled()
            try:
                self.install()
            except PathBlockedError as error:  # in the way of every job, not of the one that starts
                raise StoreError(str(error)) from error


def _stamp(path: str) -> _Stamp | None:
    try:
        info = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_mode


def _holds(path: str, content: bytes) -> bool:
    """Tell whether a file has this content already."""
    try:
        found = files.read(path, len(content))
    except StoreError:
        return False
    return found is not None and found[0] == content

"""What a task has changed in its workspace: found by comparison with a snapshot, and delivered as one file."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import IO

from .folders import SNAPSHOT, Folders, readable
from .growing import Growing
from .uplink import PIECE, Uplink

END = "end"
"""Last member of what is fetched, and last entry of what is delivered: without it something has broken off."""
CHANGES = ".changes"
"""File with what has changed, in our own folder, and name under which the manager takes it."""
Snapshot = dict[str, str]
"""What is in a folder, by path: kind, and what tells that it has changed. Short, for there may be very many."""


def snapshot(top: str) -> Snapshot:
    """Return what is in a folder. A folder that its owner cannot read is made readable: what is in it belongs to it."""
    found: Snapshot = {}
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with readable(f"{top}/{above}", os.scandir) as entries:
            for entry in entries:
                path = f"{above}{entry.name}"
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    found[path] = "folder"
                    waiting.append(f"{path}/")
                elif stat.S_ISREG(info.st_mode):
                    found[path] = f"file {info.st_size} {info.st_mtime_ns} {info.st_mode & 0o100} {info.st_ino}"
                elif stat.S_ISLNK(info.st_mode):
                    found[path] = f"link {os.readlink(entry.path)}"
    return found


def deliver_workspace(manager: Uplink, folders: Folders) -> None:
    """Deliver what the task has changed in the workspace."""
    with open(f"{folders.own}/{SNAPSHOT}", encoding="utf-8") as file:
        before: Snapshot = json.load(file)
    now = snapshot(folders.workspace)
    removed = [path for path in sorted(before, reverse=True) if kind(now.get(path)) != kind(before[path])]
    changed = [path for path in sorted(now) if now[path] != before.get(path)]
    if not removed and not changed:
        return
    path = f"{folders.own}/{CHANGES}"
    with open(path, "wb") as packed:
        for name in removed:
            add_entry(packed, kind="removed", path=name)
        for name in changed:
            with contextlib.suppress(FileNotFoundError):  # what the task has left running has removed it
                add_file(packed, f"{folders.workspace}/{name}", name)
        add_entry(packed, kind=END)
    Growing(manager, folders.own, CHANGES).send()
    manager.ask("POST", "workspace")


def kind(entry: str | None) -> str | None:
    """Return what of a snapshot's entry tells a file from a folder and a link."""
    return entry and entry.partition(" ")[0]


def add_entry(stream: IO[bytes], **entry: object) -> None:
    """Add a line about one path; see `workspace_archive.unpack`."""
    stream.write(json.dumps(entry).encode() + b"\n")


def add_file(stream: IO[bytes], path: str, name: str) -> None:
    """Add a file, a folder or a link. What else there is, such as a socket, cannot be delivered."""
    info = os.lstat(path)
    if stat.S_ISDIR(info.st_mode):
        add_entry(stream, kind="folder", path=name)
    elif stat.S_ISLNK(info.st_mode):
        add_entry(stream, kind="link", path=name, target=os.readlink(path))
    elif stat.S_ISREG(info.st_mode):
        with readable(path, lambda path: open(path, "rb")) as file:
            size = os.fstat(file.fileno()).st_size
            executable = bool(info.st_mode & 0o100)
            add_entry(stream, kind="file", path=name, size=size, changed=info.st_mtime_ns, executable=executable)
            while size > 0:
                part = file.read(min(size, PIECE)) or bytes(min(size, PIECE))  # it has been cut meanwhile
                stream.write(part)
                size -= len(part)

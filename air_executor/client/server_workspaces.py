"""The workspaces of the jobs behind a server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from air_executor.client.server_file import ServerFile
from air_executor.client.workspace_files import FoundFile
from air_executor.model.names import check_id
from air_executor.model.relative_paths import parts_of

if TYPE_CHECKING:
    from air_executor.client.connection import Connection

REPEAT_FOR = 60.0
"""Seconds for which sending a file is repeated, in addition to one second per mebibyte."""


class ServerWorkspaces:
    """See `WorkspaceAccess`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def files(self, job: str, path: str = "") -> Iterator[FoundFile]:
        """Yield the regular files at or below a path of a job's workspace."""
        for one in self._connection.json(f"/jobs/{check_id(job)}/workspace", [("path", path)])["files"]:
            parts_of(one["path"])  # a server does not choose where files are written
            yield FoundFile(one["path"], one["size"], one["executable"])

    def open(self, job: str, path: str) -> BinaryIO:
        """Open a file of a job's workspace for reading."""
        found = ServerFile(self._connection, f"/jobs/{check_id(job)}/workspace/file", [("path", path)])
        found.size()  # raises if there is none
        return cast("BinaryIO", found)

    def write(self, job: str, path: str, source: BinaryIO, *, executable: bool = False) -> None:
        """Write a file of a job's workspace whole, in place of another one; `source` is read from its start."""
        repeat_for = REPEAT_FOR + source.seek(0, io.SEEK_END) / (1 << 20)
        query = [("path", path), ("executable", "true" if executable else None)]
        target = f"/jobs/{check_id(job)}/workspace/file"
        kind = "application/octet-stream"
        self._connection.ask("PUT", target, query=query, body=source, kind=kind, repeat_for=repeat_for)

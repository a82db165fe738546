"""The workspaces of the jobs of a state directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO

from air_executor.client.workspace_files import FoundFile, list_files, open_file, replacing_file, write_file
from air_executor.errors import NotFoundError

if TYPE_CHECKING:
    from air_executor.client.directory_client import Client


class DirectoryWorkspaces:
    """See `WorkspaceAccess`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _root(self, job: str) -> str:
        state = self._client.status(job)
        root = self._client.layout.workspace(state.id)
        if not os.path.isdir(root):
            msg = f"job {state.id} has no workspace: it was archived, or has not started yet"
            raise NotFoundError(msg)
        return root

    def files(self, job: str, path: str = "") -> Iterator[FoundFile]:
        """Yield the regular files at or below a path of a job's workspace."""
        return list_files(self._root(job), path)

    def open(self, job: str, path: str) -> BinaryIO:
        """Open a file of a job's workspace for reading."""
        return open_file(self._root(job), path)

    def write(self, job: str, path: str, source: BinaryIO, *, executable: bool = False) -> None:
        """Write a file of a job's workspace whole, in place of another one."""
        write_file(self._root(job), path, source, executable=executable)

    def replacing(self, job: str, path: str, *, executable: bool = False) -> AbstractContextManager[BinaryIO]:
        """Return a new file of a job's workspace to be written within a block; see `replacing_file`."""
        return replacing_file(self._root(job), path, executable=executable)

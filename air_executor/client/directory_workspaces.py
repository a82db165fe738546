"""The workspaces of the jobs of a state directory: folders, or indexes of what is in an object store."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO, cast

from air_executor.client.workspace_files import (
    CHUNK,
    MOST_LISTED,
    FoundFile,
    Writable,
    list_files,
    open_file,
    remove_path,
    replacing_file,
)
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.relative_paths import parts_of
from air_executor.model.state import JobState

if TYPE_CHECKING:
    from air_executor.client.directory_client import Client
    from air_executor.store.object_workspaces import ObjectWorkspaces


class DirectoryWorkspaces:
    """See `WorkspaceAccess`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._objects = client.object_workspaces

    def _root(self, job: str) -> tuple[JobState, str]:
        state = self._client.status(job)
        root = self._client.layout.workspace(state.id)
        if not os.path.isdir(root):
            msg = f"job {state.id} has no workspace: it was archived, or has not started yet"
            raise NotFoundError(msg)
        if self._objects is None and os.path.exists(self._client.layout.workspace_index(state.id)):
            msg = f"the workspace of job {state.id} is in an object store: set AIR_WORKSPACE_STORE to it"
            raise BadInputError(msg)
        return state, root

    def files(self, job: str, path: str = "") -> Iterator[FoundFile]:
        """Yield the regular files at or below a path of a job's workspace."""
        state, root = self._root(job)
        if self._objects is None:
            return list_files(root, path)
        return _merged(self._objects, state.id, root, path)

    def open(self, job: str, path: str) -> BinaryIO:
        """Open a file of a job's workspace for reading."""
        state, root = self._root(job)
        found = None if self._objects is None else self._objects.index(state.id).get_file(path)
        if self._objects is None or found is None:
            return open_file(root, path)
        return cast("BinaryIO", self._objects.open(found))

    def write(self, job: str, path: str, source: BinaryIO, *, executable: bool = False) -> None:
        """Write a file of a job's workspace whole, in place of another one."""
        with self.replacing(job, path, executable=executable) as file:
            while data := source.read(CHUNK):
                file.write(data)

    def replacing(self, job: str, path: str, *, executable: bool = False) -> AbstractContextManager[Writable]:
        """Return a new file of a job's workspace to be written within a block; see `replacing_file`."""
        state, root = self._root(job)
        if self._objects is None:
            return replacing_file(root, path, executable=executable)
        return self._replacing(self._objects, state, path, executable=executable)

    @contextlib.contextmanager
    def _replacing(
        self, objects: ObjectWorkspaces, state: JobState, path: str, *, executable: bool
    ) -> Iterator[Writable]:
        from air_executor.store.object_workspaces import JobKey  # noqa: PLC0415 - for few commands

        def check() -> None:
            self._client.status(state.id, state.uid)

        key = JobKey(state.id, state.uid)
        with (
            objects.change(key, check) as change,
            change.replacing(path, None, time.time_ns(), executable=executable) as file,
        ):
            yield file
        remove_path(self._client.layout.workspace(state.id), path)  # what was given to the job at its submission


def _merged(objects: ObjectWorkspaces, job: str, root: str, path: str) -> Iterator[FoundFile]:
    """Yield the files of a workspace in an object store, and what was given to the job at its submission."""
    index = objects.index(job)
    above = "/".join(parts_of(path))
    found = [
        FoundFile(name, entry.size, entry.executable)
        for name, entry in index.entries.items()
        if entry.kind == "file" and (not above or name == above or name.startswith(f"{above}/"))
    ]
    if len(found) > MOST_LISTED:
        msg = f"{path or '.'}: has more than {MOST_LISTED:,} files; name a folder in it"
        raise BadInputError(msg)
    names = {one.path for one in found}
    try:
        found += [one for one in list_files(root, path) if one.path not in names]
    except (NotFoundError, BadInputError):
        if not found and above not in index.entries:
            raise
    yield from sorted(found, key=lambda one: one.path)

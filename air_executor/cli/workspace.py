"""`air-executor workspace`: move files into the workspace of a job, and out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.flags import check_action
from air_executor.cli.session import session_of
from air_executor.cli.terminal import note, print_json, say
from air_executor.client.workspace_files import list_files, open_file, write_file
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.relative_paths import parts_of

if TYPE_CHECKING:
    from air_executor.cli.session import Session
    from air_executor.client.job_access import WorkspaceAccess
    from air_executor.client.workspace_files import FoundFile

_ACTIONS = ("push", "pull", "list")


def workspace(
    ctx: typer.Context,
    action: Annotated[str | None, typer.Argument(metavar="ACTION")] = None,
    job: Annotated[str | None, typer.Argument(metavar="JOB")] = None,
    path: Annotated[str | None, typer.Argument(metavar="PATH", help="A file or a folder.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="DIR", help="Folder to put it into.")] = None,
) -> None:
    """Move files into the workspace of a job, and out of it.

    Actions: push JOB PATH, pull JOB [PATH], list JOB [PATH]. Files of the same names are replaced; links are left out.
    """
    session = session_of(ctx)
    action = check_action("workspace", action, _ACTIONS)
    if job is None:
        msg = f"workspace {action}: give a job"
        raise BadInputError(msg)
    files = _workspaces(session)
    if action == "list":
        found = list(files.files(job, path or ""))
        if session.json:
            print_json({"files": [{"path": one.path, "size": one.size} for one in found]})
        for one in [] if session.json else found:
            say(one.path)
        if not found:
            note("0 files")
        return
    moved = list(_push(files, job, path, to) if action == "push" else _pull(files, job, path, to))
    if session.json:
        print_json({"moved": moved})
    else:
        note(f"{len(moved)} file{'' if len(moved) == 1 else 's'}")


def _workspaces(session: Session) -> WorkspaceAccess:
    server = session.server_client()
    if server is not None:
        return server.workspaces
    from air_executor.client import Client  # noqa: PLC0415 - only on files

    settings = session.settings()
    return Client(settings.state_dir, settings.workspace_store).workspaces


def _push(files: WorkspaceAccess, job: str, path: str | None, to: str | None) -> Iterator[str]:
    if path is None:
        raise BadInputError("workspace push: give a file or a folder")
    above, name = os.path.split(os.path.abspath(path))
    if not os.path.lexists(path):
        msg = f"{path}: there is no such file or folder"
        raise NotFoundError(msg)
    for one in list_files(above, name):
        target = "/".join([*parts_of(to or ""), one.path])
        with open_file(above, one.path) as source:
            files.write(job, target, source, executable=one.executable)
        yield target


def _pull(files: WorkspaceAccess, job: str, path: str | None, to: str | None) -> Iterator[str]:
    parts = parts_of(path or "")
    folder = to or "."
    os.makedirs(folder, exist_ok=True)
    found: list[FoundFile] = list(files.files(job, path or ""))
    for one in found:
        target = "/".join(parts_of(one.path)[max(0, len(parts) - 1) :])
        with files.open(job, one.path) as source:
            write_file(os.path.realpath(folder), target, source, executable=one.executable)
        yield target

"""Before the task starts: claim the run, then fetch runner, inputs and workspace."""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
import tarfile
import urllib.parse

from .folders import BIN, CLAIM, SNAPSHOT, Folders
from .uplink import CONFLICT, AnswerError, Uplink
from .workspace_changes import END, snapshot

FETCHED, FILES = "fetched", "files"


def fetch(manager: Uplink, folders: Folders) -> None:
    """Claim the run, and fetch what it needs."""
    if os.path.lexists(f"{folders.out}/{CLAIM}"):  # a node that restarted its pod fetches once more
        raise AnswerError(CONFLICT, "the run has begun in this pod already")
    shutil.rmtree(folders.workspace, ignore_errors=True)
    for folder in (folders.out, folders.workspace, folders.own, f"{folders.root}/{BIN}"):
        os.makedirs(folder, exist_ok=True)
    manager.ask("POST", "claim")
    machine = urllib.parse.quote(platform.machine())
    manager.ask("GET", f"inputs?machine={machine}", use=lambda answer: unpack(answer, folders.root))
    fetched = f"{folders.own}/{FETCHED}"

    def unpack_workspace(answer: http.client.HTTPResponse) -> None:
        shutil.rmtree(fetched, ignore_errors=True)  # of an answer that broke off
        os.makedirs(f"{fetched}/{FILES}")
        unpack(answer, fetched)

    manager.ask("GET", "workspace", use=unpack_workspace)
    for name in os.listdir(f"{fetched}/{FILES}"):
        os.rename(f"{fetched}/{FILES}/{name}", f"{folders.workspace}/{name}")
    with open(f"{folders.own}/{SNAPSHOT}", "w", encoding="utf-8") as file:
        json.dump(snapshot(folders.workspace), file)


def unpack(answer: http.client.HTTPResponse, folder: str) -> None:
    """Unpack what the manager sends. Whatever a link in it leads to, is in the pod of its own task.

    Raises:
        tarfile.TarError, EOFError: it has broken off.
    """
    trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
    with tarfile.open(fileobj=answer, mode="r|") as tar:
        while (member := tar.next()) is not None:
            if member.name == END:
                return
            if member.isdir():
                member.mode |= 0o700  # else what belongs into it could not be written
            tar.extract(member, folder, **trusted)  # type: ignore[arg-type]
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
    raise EOFError("the answer has broken off")

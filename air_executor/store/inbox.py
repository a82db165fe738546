"""Requests to the manager, one file each, and how the client learns what became of them.

A request file that is gone was applied; a refused one lies in `inbox/refused/` with its reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from air_executor.errors import BadInputError, CorruptFileError, NotFoundError
from air_executor.model.names import check_id
from air_executor.store import files
from air_executor.store.layout import Layout

MAX_REQUEST = 64 * 1024 * 1024
OPS = frozenset({"wake", "add", "cancel", "pause", "resume", "retry", "confirm-gone"})


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks of the manager."""

    op: str
    job: str
    task: str | None = None
    tasks: Sequence[Mapping[str, Any]] = field(default=())
    """For `add`: tasks as written by the user."""
    name: str = ""
    """Of the file; given by `post`."""


class Inbox:
    """The inbox of one state directory."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def post(self, request: Request, now: float) -> str:
        """Write a request durably and return its name; names sort by time.

        Raises:
            StoreError: the volume refused; nothing was asked.
        """
        record: dict[str, Any] = {"op": request.op, "job": request.job}
        if request.task is not None:
            record["task"] = request.task
        if request.tasks:
            record["tasks"] = list(request.tasks)
        name = f"{int(now * 1000):013d}-{files.random_hex(4)}.json"
        files.make_dir(self.layout.tmp)
        files.make_dir(self.layout.refused)
        files.replace(f"{self.layout.inbox}/{name}", json.dumps(record).encode() + b"\n", self.layout.tmp)
        with contextlib.suppress(NotFoundError):  # taken up already
            files.hand_over(f"{self.layout.inbox}/{name}", self.layout.inbox)
        return name

    def pending(self) -> list[str]:
        """Return the names of waiting requests, oldest first.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        return sorted(name for name in files.list_dir(self.layout.inbox) if name.endswith(".json"))

    def read(self, name: str) -> Request | None:
        """Return one request, or None if it is gone.

        Raises:
            CorruptFileError: it is no request.
        """
        path = f"{self.layout.inbox}/{name}"
        found = files.read(path, MAX_REQUEST)
        if found is None:
            return None
        try:
            raw = json.loads(found[0])
            op, job, task, tasks = raw["op"], raw["job"], raw.get("task"), raw.get("tasks", [])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            msg = f"{path}: not a request ({error})"
            raise CorruptFileError(msg) from error
        well_formed = isinstance(op, str) and isinstance(job, str) and isinstance(task, str | None)
        well_formed = well_formed and isinstance(tasks, list) and all(isinstance(t, dict) for t in tasks)
        if not well_formed or op not in OPS:
            msg = f"{path}: not a request (op must be one of {', '.join(sorted(OPS))}, with a job)"
            raise CorruptFileError(msg)
        try:
            check_id(job, "job")  # it becomes a path
        except BadInputError as error:
            msg = f"{path}: not a request ({error})"
            raise CorruptFileError(msg) from error
        return Request(op, job, task, tasks, name)

    def done(self, name: str) -> bool:
        """Remove an applied request, which is the answer to whoever waits for it; False if the volume refused."""
        path = f"{self.layout.inbox}/{name}"
        files.remove(path)
        return not os.path.lexists(path)

    def refuse(self, name: str, reason: str) -> None:
        """Move a request to the refused ones, with the reason beside it.

        Raises:
            StoreError: the volume refused.
        """
        files.make_dir(self.layout.refused)
        note = json.dumps({"refused": reason}, ensure_ascii=True).encode() + b"\n"
        files.replace(f"{self.layout.refused}/{name}.reason", note, self.layout.tmp, sync=False)
        try:
            files.move(f"{self.layout.inbox}/{name}", f"{self.layout.refused}/{name}")
        except NotFoundError:
            return

    def refusal(self, name: str) -> str | None:
        """Return why a request was refused, or None if it was not."""
        found = files.read(f"{self.layout.refused}/{name}.reason", MAX_REQUEST)
        if found is None:
            return None
        try:
            return str(json.loads(found[0])["refused"])
        except (ValueError, KeyError, TypeError):
            return "refused"

    def waiting(self, name: str) -> bool:
        """Tell whether a request has not been answered yet."""
        return files.read(f"{self.layout.inbox}/{name}", MAX_REQUEST) is not None

    def wait(self, name: str, timeout: float) -> bool:
        """Wait up to `timeout` seconds for an answer; True if it was taken up (applied or refused)."""
        until = time.monotonic() + timeout
        pause = 0.002
        while self.waiting(name):
            if time.monotonic() >= until:
                return False
            time.sleep(pause)
            pause = min(0.05, pause * 1.5)
        return True

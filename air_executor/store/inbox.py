"""Requests to the manager, one file each, and how the client learns what became of them.

A request file that is gone was applied; a refused one lies in `inbox/refused/` with its reason.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from dataclasses import fields

from air_executor.errors import BadInputError, CorruptFileError, NotFoundError, StoreError
from air_executor.model import strict_json
from air_executor.model.problems import InvalidError, lines
from air_executor.model.records import Request
from air_executor.store import files, permissions, trees
from air_executor.store.layout import Layout

MAX_REQUEST = 32 * 1024 * 1024
"""Bytes of a request, as it is written and as it is read."""
MOST_SHOWN = 1000
"""Pending requests among which those of a job are looked for."""

_ORDER = itertools.count()
"""Keeps requests of one process in their order where they have the same millisecond."""


class Inbox:
    """The inbox of one state directory."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def post(self, request: Request, now: float) -> str:
        """Write a request durably and return its name; names sort by time, and those of one process in order.

        One that only wakes the manager is not synced: after a power failure the next manager looks at all jobs.

        Raises:
            BadInputError: it is too large to be read; nothing was asked.
            StoreError: the volume refused; nothing was asked.
        """
        text = _text(request)
        if len(text) > MAX_REQUEST:
            msg = f"{request.op}: {len(text)} bytes, more than the {MAX_REQUEST} of a request; ask in several"
            raise BadInputError(msg)
        name = f"{int(now * 1000):013d}-{next(_ORDER) % 16**6:06x}{files.random_hex(4)}.json"
        files.make_dir(self.layout.tmp)
        files.make_dir(self.layout.refused)
        files.replace(f"{self.layout.inbox}/{name}", text, self.layout.tmp, sync=request.op != "wake")
        with contextlib.suppress(NotFoundError):  # taken up already
            permissions.hand_over(f"{self.layout.inbox}/{name}", self.layout.inbox)
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
            StoreError: the volume refused: it may be another user's.
        """
        path = f"{self.layout.inbox}/{name}"
        found = files.read(path, MAX_REQUEST)
        if found is None:
            return None
        if not found[0]:  # a power failure has left the name of one that was not synced
            self.done(name)
            return None
        from air_executor.model import parsing  # noqa: PLC0415 - see the module

        try:
            return parsing.read(Request, strict_json.loads(found[0]))
        except InvalidError as error:
            why = "; ".join(lines(error.problems))
        except BadInputError as error:
            why = str(error)
        msg = f"{path}: not a request ({why})"
        raise CorruptFileError(msg)

    def peek(self, name: str) -> tuple[str, str, str | None] | None:
        """Return verb, job and task of a request, to show it; None: it is gone, or no request.

        Raises:
            StoreError: the volume refused: it may be another user's.
        """
        try:
            found = files.read(f"{self.layout.inbox}/{name}", MAX_REQUEST)
            raw = {} if found is None else json.loads(found[0])
            op, job, task = raw["op"], raw["job"], raw.get("task")
        except (CorruptFileError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return str(op), str(job), None if task is None else str(task)

    def shown(self, job: str | None = None) -> list[str]:
        """Return the oldest requests of one job or of all, for people, but those that only wake the manager.

        In place of what cannot be read stands why: of one request, if those of all jobs are asked for, or of all.
        """
        try:
            pending = self.pending()[:MOST_SHOWN]
        except StoreError as error:
            return [str(error)]
        found = []
        for name in pending:
            try:
                request = self.peek(name)
            except StoreError as error:
                found += [str(error)] if job is None else []
                continue
            if request is not None and request[0] != "wake" and job in (None, request[1]):
                found.append(" ".join(filter(None, request)))
        return found

    def size(self, name: str) -> int:
        """Return how many bytes a request has; 0 if it is gone."""
        return files.size(f"{self.layout.inbox}/{name}")

    def done(self, name: str) -> bool:
        """Remove an applied request, which is the answer to whoever waits for it; False if the volume refused."""
        path = f"{self.layout.inbox}/{name}"
        files.remove(path)
        if os.path.lexists(path):
            trees.remove_tree(path)  # somebody has put a folder there
        return not os.path.lexists(path)

    def refuse(self, name: str, reason: str, *, not_found: bool = False) -> None:
        """Move a request to the refused ones, with the reason beside it; `not_found`: what it names does not exist.

        Raises:
            StoreError: the volume refused.
        """
        files.restore_dir(self.layout.refused)
        record = {"refused": reason, **({"not_found": True} if not_found else {})}
        note = json.dumps(record, ensure_ascii=True).encode() + b"\n"
        files.replace(f"{self.layout.refused}/{name}.reason", note, self.layout.tmp, sync=False)
        try:
            files.move(f"{self.layout.inbox}/{name}", f"{self.layout.refused}/{name}")
        except NotFoundError:
            return

    def refusal(self, name: str) -> BadInputError | NotFoundError | None:
        """Return the error by which a request was refused, or None if it was not."""
        found = files.read(f"{self.layout.refused}/{name}.reason", MAX_REQUEST)
        if found is None:
            return None
        try:
            record = json.loads(found[0])
            return (NotFoundError if record.get("not_found") else BadInputError)(str(record["refused"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return BadInputError("refused")

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


def _text(request: Request) -> bytes:
    record = {f.name: value for f in fields(Request) if (value := getattr(request, f.name)) not in (None, [], {})}
    return json.dumps(record).encode() + b"\n"

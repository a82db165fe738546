"""What Airflow's side of a job has to remember on the volume: what was delivered, given up, and shown of its logs.

Small files in the folder `notes/` of the state directory, which nobody else writes; `prune --delete` removes them with
their jobs. Workers and triggerers come and go, on several hosts, so none of this can stay in a process. Knows nothing
of Airflow.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from air_executor.client import Client
from air_executor.errors import CorruptFileError
from air_executor.store import files

_LARGEST = 4096
_WIDTH = 32
"""Bytes of a line of the file of positions; divides a disk's page, so that none is ever half written."""


class JobRef(NamedTuple):
    """Which job is meant, and no other that has the same name later."""

    id: str
    uid: str


class Notes:
    """The notes on one job, or on all jobs of one task instance, by name."""

    def __init__(self, client: Client, about: str) -> None:
        self._layout = client.layout
        self._about = about

    def read(self, name: str) -> Any:
        """Return a note, or None if there is none.

        Raises:
            CorruptFileError: there is one that cannot be read.
        """
        path = self._layout.note(self._about, name)
        found = files.read(path, _LARGEST)
        if found is None:
            return None
        try:
            return json.loads(found[0])
        except ValueError as error:
            msg = f"{path} is no JSON ({error}): remove it"
            raise CorruptFileError(msg) from error

    def write(self, name: str, value: object) -> None:
        """Write a note, whole or not at all.

        Raises:
            StoreError: the volume refused.
        """
        files.make_dir(self._layout.notes)
        files.replace(self._layout.note(self._about, name), f"{json.dumps(value)}\n".encode(), self._layout.tmp)

    @contextmanager
    def shown(self) -> Iterator[ShownLogs]:
        """Hold what was shown of the job's logs; nobody else shows any meanwhile.

        Raises:
            StoreError: the volume refused.
        """
        files.make_dir(self._layout.notes)
        path = self._layout.note(self._about, "shown")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            files.fail("open", path, error)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield ShownLogs(fd, path)
        finally:
            os.close(fd)


def notes_on(client: Client, job: JobRef) -> Notes:
    """Return the notes on one job."""
    return Notes(client, f"{job.id}-{job.uid}")


class Position(NamedTuple):
    """How far the log of one run was shown, in bytes."""

    handed: int
    """What was handed to Airflow."""
    settled: int
    """Of that, what Airflow has had the time to write, so that it is not lost with the process that handed it over."""


class ShownLogs:
    """How far each run's log was shown: line n of the file is that of run n."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    def take_over(self, seq: int) -> tuple[int, int]:
        """Return from where on to show a run's log, and how many bytes of that were handed over before.

        Raises:
            StoreError: the volume refused.
        """
        handed, settled = self[seq]
        if handed > settled:
            self._write(seq, Position(settled, settled))
        return settled, handed - settled

    def hand(self, seq: int, at: int) -> None:
        """Note that a run's log was handed over up to here.

        Raises:
            StoreError: the volume refused.
        """
        handed, settled = self[seq]
        self._write(seq, Position(max(handed, at), settled))

    def settle(self, seq: int, at: int) -> None:
        """Note that up to here nothing can be lost any more.

        Raises:
            StoreError: the volume refused.
        """
        handed, settled = self[seq]
        self._write(seq, Position(max(handed, at), max(settled, at)))

    def __getitem__(self, seq: int) -> Position:
        handed, _, settled = os.pread(self._fd, _WIDTH, seq * _WIDTH).strip(b"\0 \n").partition(b" ")
        return Position(int(handed), int(settled)) if handed.isdigit() and settled.strip().isdigit() else Position(0, 0)

    def _write(self, seq: int, position: Position) -> None:
        half = _WIDTH // 2 - 1
        try:
            os.pwrite(self._fd, b"%*d %*d\n" % (half, position.handed, half, position.settled), seq * _WIDTH)
        except OSError as error:
            files.fail("write", self._path, error)

"""What Airflow's side of a job has to remember on the volume: what was delivered, given up, and shown of its logs.

One folder in the state directory, `airflow/`, with small files per job; nobody else writes them. Workers and triggerers
come and go, on several hosts, so nothing of this can stay in a process. Knows nothing of Airflow.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from air_executor.client import Client
from air_executor.core.state import JobState
from air_executor.errors import CorruptFileError
from air_executor.store import files

_LARGEST = 4096
_WIDTH = 16
"""Bytes of a line of the file of positions; divides a disk's page, so that none is ever half written."""


class Notes:
    """The notes on one job, or on all jobs of one task instance, by name."""

    def __init__(self, client: Client, about: str) -> None:
        self._aside = client.layout.tmp
        self._folder = f"{client.layout.root}/airflow"
        self._stem = f"{self._folder}/{about}"

    def read(self, name: str) -> Any:
        """Return a note, or None if there is none.

        Raises:
            CorruptFileError: there is one that cannot be read.
        """
        path = f"{self._stem}.{name}"
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
        files.make_dir(self._folder)
        files.replace(f"{self._stem}.{name}", f"{json.dumps(value)}\n".encode(), self._aside)

    @contextmanager
    def shown(self) -> Iterator[Shown]:
        """Hold what was shown of the job's logs; nobody else shows any meanwhile.

        Raises:
            StoreError: the volume refused.
        """
        files.make_dir(self._folder)
        path = f"{self._stem}.shown"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            files.fail("open", path, error)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield Shown(fd, path)
        finally:
            os.close(fd)


def notes_on(client: Client, job: JobState) -> Notes:
    """Return the notes on one job."""
    return Notes(client, f"{job.id}-{job.uid}")


class Shown:
    """How many bytes of each run's log were shown: line n of the file is that of run n."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    def __getitem__(self, seq: int) -> int:
        line = os.pread(self._fd, _WIDTH, seq * _WIDTH).strip(b"\0 \n")
        return int(line) if line.isdigit() else 0

    def __setitem__(self, seq: int, count: int) -> None:
        try:
            os.pwrite(self._fd, b"%*d\n" % (_WIDTH - 1, count), seq * _WIDTH)
        except OSError as error:
            files.fail("write", self._path, error)

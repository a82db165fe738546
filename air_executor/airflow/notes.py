"""What the Airflow integration keeps of a job on the volume: delivered, abandoned, and how much of its log was shown.

Small files in the folder `notes/` of the state directory, written by the Airflow integration alone; `prune --delete`
removes them together with their jobs. Workers and triggerers start and stop on several hosts, so nothing of this can be
kept in a process. Knows nothing of Airflow.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from air_executor.client import Client
from air_executor.errors import CorruptFileError
from air_executor.store import files

LOCK_TIMEOUT = 1.0
"""Seconds to wait for another process that shows lines of the same job."""
_LOCK_INTERVAL = 0.02
_MAX_BYTES = 4096
_RECORD = 32
"""Bytes of one record of log positions; a divisor of the disk's page size, so that no record is written in part."""


class JobRef(NamedTuple):
    """One job, and no later one that reuses its id."""

    id: str
    uid: str


class Notes:
    """The notes on one job, or on all jobs of one task instance; each has a name."""

    def __init__(self, client: Client, subject: str) -> None:
        self._layout = client.layout
        self._subject = subject

    def read(self, name: str) -> Any:
        """Return a note; None if there is none.

        Raises:
            CorruptFileError: the note cannot be read.
        """
        path = self._layout.note(self._subject, name)
        found = files.read(path, _MAX_BYTES)
        if found is None:
            return None
        try:
            return json.loads(found[0])
        except ValueError as error:
            msg = f"{path} is no JSON ({error}): remove it"
            raise CorruptFileError(msg) from error

    def write(self, name: str, value: object) -> None:
        """Write a note as a whole or not at all.

        Raises:
            StoreError: the volume refused.
        """
        files.make_dir(self._layout.notes)
        files.replace(self._layout.note(self._subject, name), f"{json.dumps(value)}\n".encode(), self._layout.tmp)

    @contextmanager
    def log_positions(self) -> Iterator[LogPositions | None]:
        """Lock the log positions of the job: no other process shows lines of its logs meanwhile.

        None: another process keeps them locked, such as a triggerer that was paused. So this waits for a moment only.

        Raises:
            StoreError: the volume refused.
        """
        files.make_dir(self._layout.notes)
        path = self._layout.note(self._subject, "shown")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            files.fail("open", path, error)
        try:
            yield LogPositions(fd, path) if _lock(fd) else None
        finally:
            os.close(fd)


def _lock(fd: int) -> bool:
    until = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(_LOCK_INTERVAL)
        else:
            return True


def notes_on(client: Client, job: JobRef) -> Notes:
    """Return the notes on one job."""
    return Notes(client, f"{job.id}-{job.uid}")


class LogPosition(NamedTuple):
    """How much of the log of one run was shown, in bytes from its start."""

    sent: int
    """Passed to Airflow's logger."""
    written: int
    """Written by Airflow for certain, so that the end of the process that sent it loses nothing."""


class LogPositions:
    """The positions of all runs of a job: line n of the file is that of run n."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    def resume(self, seq: int) -> tuple[int, int]:
        """Return the position to show a run's log from, and how many bytes after it had been sent before.

        Raises:
            StoreError: the volume refused.
        """
        sent, written = self[seq]
        if sent > written:
            self._write(seq, LogPosition(written, written))
        return written, sent - written

    def set_sent(self, seq: int, position: int) -> None:
        """Note that a run's log was sent up to this position.

        Raises:
            StoreError: the volume refused.
        """
        sent, written = self[seq]
        self._write(seq, LogPosition(max(sent, position), written))

    def set_written(self, seq: int, position: int) -> None:
        """Note that a run's log was written up to this position.

        Raises:
            StoreError: the volume refused.
        """
        sent, written = self[seq]
        self._write(seq, LogPosition(max(sent, position), max(written, position)))

    def __getitem__(self, seq: int) -> LogPosition:
        sent, _, written = os.pread(self._fd, _RECORD, seq * _RECORD).strip(b"\0 \n").partition(b" ")
        if sent.isdigit() and written.strip().isdigit() and int(written) <= int(sent):
            return LogPosition(int(sent), int(written))
        return LogPosition(0, 0)

    def _write(self, seq: int, position: LogPosition) -> None:
        width = _RECORD // 2 - 1
        try:
            os.pwrite(self._fd, b"%*d %*d\n" % (width, position.sent, width, position.written), seq * _RECORD)
        except OSError as error:
            files.fail("write", self._path, error)

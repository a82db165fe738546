"""What the manager decided since the last checkpoints, in order, in files that only grow.

The manager notes a decision, writes all that it noted in one append, and only then acts. Recovery reads every file as
one sequence. A file goes when checkpoints hold all its lines and the requests that it names are gone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from air_executor.errors import DirectoryLostError
from air_executor.model.events import Event, Requested, journal_line
from air_executor.model.notice import Notice
from air_executor.model.records import CountersRecord
from air_executor.model.state import JobState
from air_executor.store import codec, files
from air_executor.store.layout import Layout

log = logging.getLogger(__name__)

ROTATE_AT = 4 * 1024 * 1024
SYNC_EVERY = 0.1
"""Seconds: how much a power failure may cost at the most."""
MAX_FILE = 256 * 1024 * 1024


SPLIT_AT = 32 * 1024 * 1024
"""Bytes after which decisions that are written together go on in the next file."""
MAX_LINE = 128 * 1024 * 1024
"""Bytes of one line; together with `SPLIT_AT` less than `MAX_FILE`, so that whatever is written can be read back."""


@dataclass(slots=True)
class _File:
    """One journal file of ours, and what still needs it."""

    path: str
    jobs: dict[str, int] = field(default_factory=dict)
    """Newest version of each job in it that no checkpoint holds yet."""
    requests: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Batch:
    """Lines that are noted and not written yet: what goes into one file."""

    alone: bool
    """They begin a file; otherwise they go on in the one being written."""
    size: int = 0
    """Bytes of the lines."""
    lines: list[bytes] = field(default_factory=list)
    jobs: dict[str, int] = field(default_factory=dict)
    requests: set[str] = field(default_factory=set)

    def add(self, sealed: bytes) -> None:
        """Add a line."""
        self.lines.append(sealed)
        self.size += len(sealed)


class Journal:
    """The journal of one epoch.

    Raises (on creation):
        FileExistsError: the epoch is taken.
        StoreError: the volume refused.
    """

    def __init__(self, layout: Layout, epoch: int) -> None:
        self._layout = layout
        self.epoch = epoch
        self._number = 0
        self._pending: list[_Batch] = []
        """The first goes into the file being written, each further one into a file of its own."""
        self._seen: set[str] = set()
        """Jobs (by uid) whose starting point the newest file, or the batch for it, names."""
        self._counters = CountersRecord({}, {})
        """What was noted of counters; each new file begins with it, for those before may be gone when it is read."""
        self._files: list[_File] = []
        self._fd = -1
        self._length = 0
        self._torn = False
        """A failed append could not be cut back yet."""
        self._unsynced = threading.Event()
        self._lock = threading.Lock()
        """Guards the descriptor against the thread that syncs it."""
        self._open()
        threading.Thread(target=self.keep_syncing, name="journal-sync", daemon=True).start()

    def _open(self) -> None:
        path = self._layout.journal_file(self.epoch, self._number)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise
        except OSError as error:
            files.fail("create", path, error)
        try:
            if self._fd >= 0:
                os.fdatasync(self._fd)
        except OSError as error:
            os.close(fd)
            files.remove(path)
            files.fail("sync", self.path, error)
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = fd
        self._length = 0
        self._files.append(_File(path))
        files.fsync_dir(self._layout.journal)

    # Writing

    def append(self, state: JobState, event: Event, before: tuple[int, int], notices: Sequence[Notice] = ()) -> int:
        """Note the line of a decision that was applied to a job; nothing may act on it before `flush` has returned.

        Returns its size in bytes.

        `before` is the job's epoch and version before the decision; `notices` are what it queues.
        """
        batch = self._batch()
        first = state.uid not in self._seen
        line = journal_line(
            event,
            job=state.id,
            uid=state.uid,
            version=state.version,
            before=before if first else None,
            notices=notices,
        )
        sealed = codec.seal(line, state.spec.defaults)
        if len(sealed) > MAX_LINE:
            msg = f"job {state.id}: a decision of {len(sealed)} bytes, more than the {MAX_LINE} of a journal line"
            raise ValueError(msg)
        self._seen.add(state.uid)
        batch.add(sealed)
        batch.jobs[state.id] = state.version
        if isinstance(event, Requested) and event.request:
            batch.requests.add(event.request)
        return len(sealed)

    def note_counters(self, changes: CountersRecord) -> None:
        """Note what has changed in the counters, in the same write as the decisions that they count."""
        self._batch().add(codec.seal_counters(changes))
        self._counters.include(changes)

    def _batch(self) -> _Batch:
        """Return the batch that takes the next line. A file that is full is followed by one that stands alone."""
        if self._pending and self._pending[-1].size < SPLIT_AT:
            return self._pending[-1]
        alone = bool(self._pending) or self._length >= ROTATE_AT
        batch = _Batch(alone)
        if alone:  # the file before may be gone when this one is read
            self._seen.clear()
            batch.add(codec.seal_counters(self._counters))
        self._pending.append(batch)
        return batch

    @property
    def path(self) -> str:
        """The file being written."""
        return self._files[-1].path

    @property
    def pending(self) -> bool:
        """Whether there are decisions that no file holds yet."""
        return bool(self._pending)

    def flush(self) -> None:
        """Append all noted lines, one write a file; also checks, with nothing to write, that the journal is still ours.

        Raises:
            DirectoryLostError: the file is not at its path any more; nothing was written.
            StoreError: the volume refused; the file is as before and its lines are kept for the next try.
        """
        self.check()
        while self._pending:
            self._cut_back()
            batch = self._pending[0]
            if batch.alone and self._length:
                self._number += 1
                self._open()
            try:
                files.write_all(self._fd, b"".join(batch.lines))
            except OSError as error:
                self._torn = True
                self._cut_back()
                files.fail("write", self.path, error)
            self._length += batch.size
            self._files[-1].jobs |= batch.jobs
            self._files[-1].requests |= batch.requests
            del self._pending[0]
            self._unsynced.set()

    def _cut_back(self) -> None:
        if not self._torn:
            return
        try:
            os.ftruncate(self._fd, self._length)
        except OSError as error:
            files.fail("cut back", self.path, error)
        self._torn = False

    def check(self) -> None:
        """Check that the file being written is still the one at its path.

        Raises:
            DirectoryLostError: it is not.
        """
        path = self.path
        try:
            there = os.stat(path)
        except OSError:
            there = None
        mine = os.fstat(self._fd)
        if there is None or (there.st_ino, there.st_dev) != (mine.st_ino, mine.st_dev):
            msg = f"{path} is gone or was replaced"
            raise DirectoryLostError(msg)

    def sync(self) -> None:
        """Make everything flushed durable now.

        Raises:
            StoreError: the volume refused.
        """
        self._unsynced.clear()
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._unsynced.set()
            files.fail("sync", self.path, error)

    def keep_syncing(self) -> None:
        """Sync a moment after each append, until the journal is closed: what its thread does."""
        closed = threading.Event()
        failing = False
        while self._unsynced.wait():
            closed.wait(SYNC_EVERY)
            with self._lock:
                if self._fd < 0:
                    return
                fd = os.dup(self._fd)
            self._unsynced.clear()
            try:
                os.fdatasync(fd)
                failing = False
            except OSError as error:
                if not failing:
                    log.error("the journal cannot be synced: %s", error)  # noqa: TRY400 - a sick volume is no bug
                failing = True
                self._unsynced.set()
            finally:
                os.close(fd)

    # Letting go

    def checkpointed(self, job: str, version: int) -> None:
        """Note that a durable checkpoint of this job holds everything up to `version`."""
        for file in self._files:
            if file.jobs.get(job, version + 1) <= version:
                del file.jobs[job]
        self._drop()

    def answered(self, requests: Iterable[str]) -> None:
        """Note that these request files are gone."""
        gone = set(requests)
        for file in self._files:
            file.requests -= gone
        self._drop()

    def _drop(self) -> None:
        for file in self._files[:-1]:
            if not file.jobs and not file.requests:
                files.remove(file.path)
                self._files.remove(file)

    def close(self) -> None:
        """Stop writing; a file that nothing needs any more is removed."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1
        self._unsynced.set()
        for file in self._files:
            if not file.jobs and not file.requests and not self._pending:
                files.remove(file.path)

    EFFECTS = (_open, _cut_back, sync)
    """What changes the volume; see `files`."""

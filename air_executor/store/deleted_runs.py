"""`ledger/`: what the runs of deleted jobs have cost, a line for each, one file for each month. Append-only.

`prune --delete` appends the runs of a job before it deletes it; reports read them. A job whose deletion was
interrupted is written again, so lines are told apart by job and run. Never changed, and meant for git.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

from air_executor.core.ledger import Ledger, read
from air_executor.errors import NotFoundError, StoreError
from air_executor.model import parsing
from air_executor.model.ledger_line import LedgerLine
from air_executor.model.state import JobState
from air_executor.model.times import to_text
from air_executor.store import files
from air_executor.store.append_only import append_lines
from air_executor.store.layout import Layout

MAX_LINE = 1 << 20
LEDGER = "ledger/"
"""What stands for all files in messages; no job has such a name."""
UNDATED = "undated"
"""The file of runs known only as a sum, whose months are not known."""


class DeletedRuns:
    """The runs of deleted jobs of one state directory."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.ledger

    def add(self, job: JobState) -> None:
        """Append the runs of a job that is about to be deleted; they are on disk when this returns.

        Raises:
            StoreError: the volume refused; the job must not be deleted.
        """
        by_month: dict[str, list[bytes]] = {}
        for name, line in _lines_of(job, read([job])):
            by_month.setdefault(name, []).append(parsing.dump_json(line))
        if not by_month:
            return
        files.make_dir(self._folder)
        for name, lines in sorted(by_month.items()):
            append_lines(f"{self._folder}/{name}.jsonl", b"\n".join(lines) + b"\n", mode=0o644)
        files.fsync_dir(self._folder)

    def lines(self) -> Iterator[LedgerLine | tuple[str, str]]:
        """Yield each run once, and in place of a file that cannot be read its name and why.

        Lines that cannot be read are left out: half a line after a crash, say.
        """
        seen: set[tuple[str, int | None, str]] = set()
        try:
            names = sorted(files.list_dir(self._folder))
        except StoreError as error:
            yield LEDGER, str(error)
            return
        for name in names:
            if not name.endswith(".jsonl"):
                continue
            try:
                for line in self._read(f"{self._folder}/{name}"):
                    key = line.uid, None if line.attempt is None else line.attempt.seq, line.task
                    if key not in seen:
                        seen.add(key)
                        yield line
            except (StoreError, NotFoundError) as error:
                yield f"{LEDGER}{name}", str(error)

    def _read(self, path: str) -> Iterator[LedgerLine]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "rb") as file:
                yield from _read_lines(file)
        except OSError as error:
            files.fail("read", path, error)


def _read_lines(file: IO[bytes]) -> Iterator[LedgerLine]:
    while text := file.readline(MAX_LINE):
        if text.strip() and (line := parsing.read_json(LedgerLine, text)) is not None:
            yield line


def _lines_of(job: JobState, ledger: Ledger) -> Iterator[tuple[str, LedgerLine]]:
    """Yield the lines of a job, each with the name of its file: the month in which the run ended."""
    tasks = {one.seq: task.id for task in job.tasks.values() for one in task.attempts}
    for entry in ledger.entries:
        yield (
            to_text(entry.attempt.gone_at)[:7],
            LedgerLine(
                job=job.id,
                uid=job.uid,
                task=tasks[entry.attempt.seq],
                pool=entry.origin.pool,
                labels=dict(entry.origin.labels),
                attempt=entry.attempt,
                followed=entry.followed,
                requested=dict(entry.requested),
            ),
        )
    for sums in ledger.earlier:
        origin = sums.origin
        before = sums.before if sums.before < float("inf") else job.finished_at or 0.0
        yield (
            UNDATED,
            LedgerLine(
                job=job.id,
                uid=job.uid,
                pool=origin.pool,
                labels=dict(origin.labels),
                earlier=sums.usage,
                after=sums.after,
                before=before,
            ),
        )

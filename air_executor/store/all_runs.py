"""The runs of jobs, and of those that were deleted, as one ledger. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from air_executor.core.ledger import EarlierRuns, Ledger, Origin, entry_of, read
from air_executor.model.ledger_line import LedgerLine
from air_executor.model.state import JobState


def whole_ledger(jobs: Iterable[JobState], deleted: Iterable[LedgerLine]) -> Ledger:
    """Return the runs of jobs, and those in lines of deleted jobs.

    A job that is there tells of its runs itself: it was not deleted in the end.
    """
    uids: set[str] = set()

    def noted() -> Iterator[JobState]:
        for job in jobs:
            uids.add(job.uid)
            yield job

    ledger = read(noted())
    return _with_deleted(ledger, (line for line in deleted if line.uid not in uids))


def _with_deleted(ledger: Ledger, lines: Iterable[LedgerLine]) -> Ledger:
    entries, earlier = list(ledger.entries), list(ledger.earlier)
    for line in lines:
        origin, one = Origin(line.job, line.pool, line.labels), line.attempt
        if one is not None:
            entries.append(entry_of(origin, one, line.requested, followed=line.followed))
        elif line.earlier is not None:
            earlier.append(EarlierRuns(origin, line.earlier, line.after, line.before))
    return replace(ledger, entries=entries, earlier=earlier)

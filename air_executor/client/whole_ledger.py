"""The ledger of a state directory: the runs of its jobs, archived ones included, and of those that were deleted.

Used by the reports. Computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from air_executor.core.ledger import EarlierRuns, Entry, Ledger, Origin, read
from air_executor.model.state import JobState
from air_executor.model.times import from_text
from air_executor.store.deleted_runs import DeletedRuns

if TYPE_CHECKING:
    from air_executor.client.directory_client import Client
    from air_executor.model.ledger_line import LedgerLine


def read_ledger(client: Client, jobs: Sequence[str]) -> tuple[Ledger, list[tuple[str, str]]]:
    """Return all runs of some jobs or of all, and which jobs cannot be read, with the errors.

    Raises:
        NotFoundError: one of the jobs neither exists nor was deleted.
    """
    unreadable: list[tuple[str, str]] = []
    uids: set[str] = set()
    deleted = [line for line in DeletedRuns(client.layout).lines() if not jobs or line.job in jobs]
    for job in {*jobs} - {line.job for line in deleted}:
        client.status(job)  # raises if there is none

    def states() -> Iterator[JobState]:
        for found in client.ledger():
            if isinstance(found, JobState):
                uids.add(found.uid)
                if not jobs or found.id in jobs:
                    yield found
            elif not jobs or found[0] in jobs:
                unreadable.append(found)

    ledger = read(states())
    # A job that is there tells of its runs itself: it was not deleted in the end.
    return _with_deleted(ledger, [line for line in deleted if line.uid not in uids]), unreadable


def _with_deleted(ledger: Ledger, lines: Iterable[LedgerLine]) -> Ledger:
    entries, earlier = list(ledger.entries), list(ledger.earlier)
    for line in lines:
        origin, one = Origin(line.job, line.pool, line.labels), line.attempt
        if one is not None:
            queued = one.waited or 0.0
            ready_at = one.spawned - queued if one.ready_at is None else from_text(one.ready_at)
            entries.append(
                Entry(origin, one, ready_at, queued + one.start, followed=line.followed, requested=line.requested)
            )
        elif line.earlier is not None:
            earlier.append(EarlierRuns(origin, line.earlier, line.after, line.before))
    return replace(ledger, entries=entries, earlier=earlier)

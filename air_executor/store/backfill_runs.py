"""Backfills: the runs that a schedule would have had, created by the command line and by the API."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from air_executor.core.instantiation import read_schedule
from air_executor.core.timetable import Timetable
from air_executor.errors import BadInputError, CorruptFileError, FormatTooNewError, NotFoundError
from air_executor.model.definition import ScheduleFile
from air_executor.model.names import scheduled_id, scheduled_time
from air_executor.model.records import Request
from air_executor.model.state import CANCELLED, FAILED, JobState
from air_executor.model.times import from_text
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.named_runs import NamedRuns
from air_executor.store.schedules import Schedules

MOST = 10_000
"""Runs of one backfill."""


class Submitter(Protocol):
    """What submits the runs: a client."""

    jobs: Jobs
    inbox: Inbox
    named_runs: NamedRuns

    def wake(self, job: str) -> None:
        """Tell the manager of a job."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """What a backfill did, or would do."""

    created: list[str]
    """Ids of the runs."""
    left_out: list[JobState]
    """Runs that exist already."""
    retried: list[str]
    """Those of them that are retried, since they did not succeed."""


def backfill_runs(
    client: Submitter,
    name: str,
    since: str,
    until: str,
    *,
    max_active: int = 1,
    newest_first: bool = False,
    retry: bool = False,
    dry_run: bool = False,
) -> Backfill:
    """Create the runs of a schedule between two times; each is a day in UTC, of which the last one counts, or a time.

    With `retry`, runs that failed or were cancelled are retried; they wait for no others.

    Raises:
        NotFoundError: there is no such schedule.
        BadInputError: a time is wrong, there are too many, or the definition is wrong.
        StoreError: the volume refused; some of the runs may exist.
    """
    schedule = Schedules(client.jobs.layout).load(name)
    begin, end = _time("from", since, 0), _time("to", until, 1)
    if end <= begin:
        msg = f"to: {until} is before {since}"
        raise BadInputError(msg)
    times = _times(Timetable(name, read_schedule(schedule.definition)), begin, end)
    found = {at: client.jobs.find(scheduled_id(name, at)) for at in times}
    if dry_run:
        created = [scheduled_id(name, at) for at in times if found[at] is None]
    else:
        created = _create(client, schedule, times[::-1] if newest_first else times, max_active)
    there = [run for run in found.values() if run is not None]
    layout = client.jobs.layout
    failed = [
        run.id
        for run in there
        if retry and run.phase in (FAILED, CANCELLED) and os.path.isdir(layout.job(run.id))  # not an archived one
    ]
    for run in () if dry_run else failed:
        client.inbox.post(Request("retry", run), time.time())
    return Backfill(created, there, failed)


def cancel_runs(client: Submitter, name: str) -> list[str]:
    """Cancel all unfinished runs of a schedule that backfills made, and return their ids: the last to start first.

    Raises:
        StoreError: the volume refused; some of them may be cancelled.
    """
    found = []
    for one in client.jobs.ids():
        if scheduled_time(one, name) is not None:
            with contextlib.suppress(CorruptFileError, FormatTooNewError, NotFoundError):
                run = client.jobs.load(one)
                if run.backfill and run.spec.name == name and not run.ended:
                    found.append(run)
    found.sort(key=lambda run: -run.submitted_at)  # otherwise the end of one would start the next
    for run in found:
        client.inbox.post(Request("cancel", run.id), time.time())
    return [run.id for run in found]


def _create(client: Submitter, schedule: ScheduleFile, times: list[float], max_active: int) -> list[str]:
    """Create the runs; each waits for the end of the one that is `max_active` before it."""
    created: list[JobState] = []
    for at in times:
        earlier = created[-max_active:][:1] if len(created) >= max_active else []
        run = client.named_runs.create_scheduled(schedule, at, round(time.time(), 3), backfill=earlier)
        if run is not None:
            created.append(run)
            client.wake(run.id)
    return [run.id for run in created]


def _times(timetable: Timetable, since: float, until: float) -> list[float]:
    times = []
    for at in islice(timetable.times_after(since - 0.001), MOST + 1):
        if at >= until:
            break
        times.append(at)
    if len(times) > MOST:
        msg = f"more than {MOST} times; backfill in parts"
        raise BadInputError(msg)
    return times


def _time(field: str, text: str, days: int) -> float:
    """Return a time, or the beginning of a day plus `days`, in Unix seconds."""
    with contextlib.suppress(BadInputError):
        return from_text(f"{text}T00:00:00Z") + 86_400 * days
    try:
        return from_text(text)
    except BadInputError as error:
        msg = f"{field}: {error}; or a day, like 2026-01-31"
        raise BadInputError(msg) from None

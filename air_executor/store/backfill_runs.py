"""Backfills: the runs that a schedule would have had, created by the command line and by the API."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Protocol

from air_executor.core.timetable import Timetable
from air_executor.core.upcoming import timetable_of
from air_executor.errors import BadInputError, CorruptFileError, FormatTooNewError, NotFoundError
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
READ_APART = 0.002
"""Seconds between two requests that must be read in this order: their names sort by milliseconds."""


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

    Times that have not come yet are the schedule's own: a run for one would take its place.
    With `retry`, runs that failed or were cancelled are retried in their turn; an archived one has a new run.

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
    timetable = timetable_of(schedule)
    if timetable is None:
        msg = f"{name} has no schedule and runs on demand; there is nothing to backfill"
        raise BadInputError(msg)
    times = _times(timetable, begin, min(end, time.time()))
    found = Backfill([], [], [])
    turns: list[JobState] = []
    for at in times[::-1] if newest_first else times:
        run = client.jobs.find(scheduled_id(name, at))
        if run is not None and not (retry and run.phase in (FAILED, CANCELLED)):
            found.left_out.append(run)
            continue
        # Each waits for the end of the one that is `max_active` before it.
        earlier = turns[-max_active:][:1] if len(turns) >= max_active else []
        if run is not None and os.path.isdir(client.jobs.layout.job(run.id)):  # else it is archived
            found.left_out.append(run)
            found.retried.append(run.id)
            if not dry_run:
                _retry(client, run, earlier)
        elif dry_run:
            found.created.append(scheduled_id(name, at))
        else:
            run = client.named_runs.create_scheduled(
                schedule, at, round(time.time(), 3), backfill=earlier, again=run is not None
            )
            if run is None:
                continue
            client.wake(run.id)
            found.created.append(run.id)
        if run is not None:
            turns.append(run)
    return found


def _retry(client: Submitter, run: JobState, earlier: list[JobState]) -> None:
    """Ask for a retry."""
    client.inbox.post(Request("retry", run.id, earlier_runs={one.id: one.uid for one in earlier}), time.time())
    time.sleep(READ_APART)


def cancel_runs(client: Submitter, name: str) -> list[str]:
    """Cancel all unfinished runs of a schedule's backfills, and return their ids: the last to start first.

    Raises:
        StoreError: the volume refused; some of them may be cancelled.
    """
    found: dict[str, JobState] = {}
    for one in client.jobs.ids():
        if scheduled_time(one, name) is not None:
            with contextlib.suppress(CorruptFileError, FormatTooNewError, NotFoundError):
                run = client.jobs.load(one)
                if run.backfill and run.spec.name == name and not run.ended:
                    found[one] = run
    order = _last_first(found)
    for one in order:  # otherwise the end of one would start the next
        client.inbox.post(Request("cancel", one), time.time())
        time.sleep(READ_APART)
    return order


def _last_first(runs: Mapping[str, JobState]) -> list[str]:
    """Return the ids of the runs, each before those that it waits for."""
    waits = {one: [name for name in run.earlier_runs if name in runs] for one, run in sorted(runs.items())}
    try:
        return [*TopologicalSorter(waits).static_order()][::-1]
    except CycleError:  # written by something else
        return sorted(runs, reverse=True)


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

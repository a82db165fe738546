"""`air-executor backfill`: create the runs that a schedule would have had."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import session_of
from air_executor.cli.terminal import note, print_json, say
from air_executor.errors import BadInputError

if TYPE_CHECKING:
    from air_executor.client import Client
    from air_executor.core.timetable import Timetable
    from air_executor.model.definition import ScheduleFile
    from air_executor.model.state import JobState

MOST = 10_000
"""Runs of one backfill."""


def backfill(  # noqa: PLR0917 - a command has its options as arguments
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="First day (in UTC), or time.")],
    until: Annotated[
        str, typer.Option("--to", metavar="TIME", help="Last day, which counts, or time, which does not.")
    ],
    max_active: Annotated[
        int, typer.Option("--max-active", metavar="N", min=1, help="Maximum number of these runs at once.")
    ] = 1,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Begin with the newest time.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the runs, and create none.")] = False,
) -> None:
    """Create the runs that a schedule would have had, oldest first.

    Times that have a run already are left out. The running manager, or the next one, runs them.
    """
    session = session_of(ctx)
    from air_executor.core.definition import read_schedule  # noqa: PLC0415 - only for this command
    from air_executor.core.timetable import Timetable  # noqa: PLC0415
    from air_executor.model.names import scheduled_id  # noqa: PLC0415
    from air_executor.store.schedules import Schedules  # noqa: PLC0415

    client = session.client()
    schedule = Schedules(client.layout).load(name)
    times = _times(Timetable(name, read_schedule(schedule.definition)), _time(since, 0), _time(until, 1))
    found = {at: client.jobs.find(scheduled_id(name, at)) for at in times}
    created: list[str] = []
    if dry_run:
        created = [scheduled_id(name, at) for at in times if found[at] is None]
    else:
        created = [run.id for run in _create(client, schedule, times[::-1] if newest_first else times, max_active)]
    there = [run for run in found.values() if run is not None]
    if session.json:
        print_json({"created": created, "left_out": [run.id for run in there], "dry_run": dry_run})
        return
    for run in created:
        say(run)
    if there:
        failed = [run.id for run in there if run.phase in ("failed", "cancelled")]
        again = f"; {len(failed)} of them did not succeed: `air-executor retry {failed[0]}`" if failed else ""
        note(f"{len(there)} times have a run already{again}")
    if not times:
        note(f"{name} has no time between these")


def _create(client: Client, schedule: ScheduleFile, times: list[float], max_active: int) -> list[JobState]:
    """Create the runs; each waits for the end of the one that is `max_active` before it."""
    created: list[JobState] = []
    for at in times:
        earlier = created[-max_active:][:1] if len(created) >= max_active else []
        run = client.named_runs.create_scheduled(schedule, at, round(time.time(), 3), backfill=earlier)
        if run is not None:
            created.append(run)
            client.wake(run.id)
    return created


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


def _time(text: str, days: int) -> float:
    """Return a time, or the beginning of a day plus `days`, in Unix seconds."""
    from air_executor.model.times import from_text  # noqa: PLC0415

    try:
        return from_text(f"{text}T00:00:00Z") + 86_400 * days
    except BadInputError:
        return from_text(text)

"""`air-executor schedule`: definitions that run by themselves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from air_executor.cli.flags import check_action
from air_executor.cli.session import Session, session_of
from air_executor.cli.table import Cell, print_lines, table, terminal_width
from air_executor.cli.terminal import note, print_json, say
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.times import format_duration, from_text

if TYPE_CHECKING:
    from air_executor.client.job_access import JobAccess, ScheduleAccess, ScheduleRecord
    from air_executor.model.state import JobState
    from air_executor.store.presence import Presence


ON_DEMAND = "on demand"


def schedule(
    ctx: typer.Context,
    action: Annotated[str | None, typer.Argument(metavar="ACTION")] = None,
    words: Annotated[list[str] | None, typer.Argument(metavar="FILE | NAME…")] = None,
    *,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="Value of a parameter for `run`. Repeatable."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="Number of times for `next`.")] = 5,
) -> None:
    """Let jobs with a `schedule` run by themselves, and keep definitions to run on demand.

    Actions: apply FILE…, list, next NAME, pause NAME…, resume NAME…, delete NAME…, run NAME.
    """
    session = session_of(ctx)
    actions: dict[str, Callable[[Session, list[str]], None]] = {
        "apply": _apply,
        "list": _list,
        "next": lambda session, names: _next(session, names, count),
        "pause": lambda session, names: _pause(session, names, paused=True),
        "resume": lambda session, names: _pause(session, names, paused=False),
        "delete": _delete,
        "run": lambda session, names: _run(session, names, param or ()),
    }
    action = check_action("schedule", action, actions)
    if not words and action != "list":
        msg = f"schedule {action}: give {'a job file' if action == 'apply' else 'the name of a schedule'}"
        raise BadInputError(msg)
    actions[action](session, words or [])


def _apply(session: Session, paths: list[str]) -> None:
    from air_executor.store.job_file import read_bytes  # noqa: PLC0415 - only for this command

    client = session.client()
    applied = client.schedules.apply([(path, read_bytes(path)) for path in paths])
    for path, one in zip(paths, applied, strict=True):
        say(f"{one.record['name']}: {_when(one.record)}" if one.changed else f"{path}: unchanged")
    _note_rest(client, [one.record for one in applied])


def _list(session: Session, _: list[str]) -> None:
    found, unreadable = session.client().schedules.all()
    for _name, problem in unreadable:
        note(f"✗ {problem}")
    if session.json:
        print_json({"schedules": found})
        return
    if not found and not unreadable:
        say("no schedules; apply a job file that has one: `air-executor schedule apply FILE`")
        return
    rows = [
        [
            Cell(one["name"], "bold"),
            Cell(_times(one["schedule"])),
            Cell(_when(one).removeprefix(f"{ON_DEMAND}: ")),  # the column before it says so
        ]
        for one in found
    ]
    print_lines(table(("schedule", "when", "next"), rows, terminal_width()) if rows else [])
    _note_rest(session.client(), found)


def _times(raw: Mapping[str, Any] | None) -> str:
    if raw is None:
        return ON_DEMAND
    cron = raw.get("cron", "")
    when = f"every {raw['every']}" if "every" in raw else cron if isinstance(cron, str) else ", ".join(cron)
    return f"{when} ({raw['timezone']})" if "timezone" in raw else when


def _next(session: Session, names: list[str], count: int) -> None:
    schedules = session.client().schedules
    times = {name: schedules.next_times(name, count) for name in names}
    if session.json:
        print_json({"next": times})
        return
    stored = [one for one in schedules.all()[0] if one["name"] in times]
    paused = {one["name"] for one in stored if one["paused"]}
    for name, found in times.items():
        if not found:
            note(f"{name} has no time to come; to run it now: `air-executor schedule run {name}`")
        if name in paused:
            note(f"{name} is paused; to go on: `air-executor schedule resume {name}`")
        for text in found:
            say(text if len(times) == 1 else f"{name} {text}")
    _note_rest(session.client(), stored)


def _pause(session: Session, names: list[str], *, paused: bool) -> None:
    for one in session.client().schedules.pause(names, paused=paused):
        say(f"{one['name']}: {_when(one)}")


def _run(session: Session, names: list[str], pairs: Sequence[str]) -> None:
    if len(names) > 1:
        raise BadInputError("schedule run: give one name")
    from air_executor.cli.submit import print_submitted  # noqa: PLC0415 - only for this command
    from air_executor.model.pairs import read_pairs  # noqa: PLC0415

    print_submitted(session, [session.client().schedules.run(names[0], read_pairs(pairs, "--param"))])


def _delete(session: Session, names: list[str]) -> None:
    for one in session.client().schedules.delete(names):
        if one["source"] is not None:
            note(f"{one['name']} follows {one['source']} in AIR_JOBS_DIR; it comes back when that file changes")
        say(f"{one['name']}: deleted; its runs stay")


def upcoming(schedules: ScheduleAccess, now: float, *names: str) -> list[str]:
    """Return when these schedules run next, or all: one line each, unreadable ones and then the soonest first."""
    readable, unreadable = schedules.all()
    found = [
        (-math.inf, text if "/" in name else f"schedule {name} cannot run: {text}")
        for name, text in unreadable
        if name in (names or [name])
    ]
    for one in readable:
        if one["name"] in names or (not names and one["schedule"] is not None):
            at = math.inf if one["paused"] or one["next_at"] is None else from_text(one["next_at"])
            found.append((at, f"schedule {one['name']}: {_when(one, now)}"))
    return [text for _, text in sorted(found)]


def upcoming_of(client: JobAccess, job: JobState, now: float) -> list[str]:
    """Return when the schedule of a run's definition runs next; nothing if it has none."""
    if job.spec.name is None:
        return []
    try:
        client.schedules.next_times(job.spec.name, 1)
    except (NotFoundError, BadInputError):
        return []
    return upcoming(client.schedules, now, job.spec.name)


def why_at_rest(manager: Presence) -> str | None:
    """Return why no schedule starts a run now; None: a manager takes care of them, or may do so."""
    from air_executor.core.explanation import jobs_text  # noqa: PLC0415 - after the schedules
    from air_executor.store.presence import start_command  # noqa: PLC0415

    if manager.running is False:
        return f"no manager is running, so no schedule starts a run: start one with `{start_command()}`"
    if manager.only:
        return f"the running manager handles only {jobs_text(manager.only)}, so no schedule starts a run"
    return None


def _note_rest(client: JobAccess, shown: Sequence[ScheduleRecord]) -> None:
    """Say why nothing is started, unless all that is shown runs on demand alone."""
    if any(one["schedule"] is not None for one in shown) and (why := why_at_rest(client.presence())) is not None:
        note(why)


def _run_command(schedule: ScheduleRecord) -> str:
    return f"`air-executor schedule run {schedule['name']}`"


def _when(schedule: ScheduleRecord, now: float | None = None) -> str:
    if schedule["paused"]:
        return "paused"
    if "problem" in schedule:
        return str(schedule["problem"])
    if schedule["schedule"] is None:
        return f"{ON_DEMAND}: {_run_command(schedule)}"
    if schedule["next_at"] is None:
        return "no time to come"
    left = from_text(schedule["next_at"]) - (time.time() if now is None else now)
    return f"next at {schedule['next_at']}, in {format_duration(max(0, round(left)))}"

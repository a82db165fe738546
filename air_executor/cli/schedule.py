"""`air-executor schedule`: definitions that run by themselves."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import Session, session_of
from air_executor.cli.table import Cell, print_lines, table, terminal_width
from air_executor.cli.terminal import note, print_json, say
from air_executor.errors import AirExecutorError, BadInputError, StoreError

if TYPE_CHECKING:
    from air_executor.model.definition import ScheduleFile
    from air_executor.store.layout import Layout
    from air_executor.store.schedules import Schedules


def schedule(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="ACTION")],
    words: Annotated[list[str] | None, typer.Argument(metavar="FILE | NAME")] = None,
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="Number of times for `next`.")] = 5,
) -> None:
    """Let jobs with a `schedule` run by themselves.

    Actions: apply FILE…, list, next NAME, pause NAME…, resume NAME…, delete NAME….
    """
    session = session_of(ctx)
    actions: dict[str, Callable[[Session, list[str]], None]] = {
        "apply": _apply,
        "list": _list,
        "next": lambda session, names: _next(session, names, count),
        "pause": lambda session, names: _pause(session, names, paused=True),
        "resume": lambda session, names: _pause(session, names, paused=False),
        "delete": _delete,
    }
    if action not in actions:
        from air_executor.model.problems import nearest  # noqa: PLC0415

        guess = nearest(action, actions)
        hint = f"did you mean {guess}?" if guess else f"there are: {', '.join(actions)}"
        msg = f"schedule {action}: unknown; {hint}"
        raise BadInputError(msg)
    if not words and action != "list":
        msg = f"schedule {action}: give {'a job file' if action == 'apply' else 'the name of a schedule'}"
        raise BadInputError(msg)
    actions[action](session, words or [])


def _schedules(session: Session) -> Schedules:
    from air_executor.store.schedules import Schedules  # noqa: PLC0415 - only for this command

    return Schedules(session.client().layout)


def _apply(session: Session, paths: list[str]) -> None:
    from air_executor.store.schedule_file import schedule_from  # noqa: PLC0415 - only for this command

    schedules = _schedules(session)
    session.client().jobs.prepare()
    now = round(time.time(), 3)
    # All are checked before any is applied.
    found = [(path, schedule_from(path, now, schedules)) for path in paths]
    for path, made in found:
        if made is None:
            say(f"{path}: unchanged")
            continue
        schedules.save(made)
        say(f"{made.name}: {_when(made, now)}")
    from air_executor.store.presence import read_presence, start_command  # noqa: PLC0415 - after the schedules

    if read_presence(session.client().layout).running is False:
        note(f"no manager is running; start one: `{start_command()}`")


def _list(session: Session, _: list[str]) -> None:
    schedules = _schedules(session)
    found: list[ScheduleFile] = []
    for name in schedules.names():
        try:
            found.append(schedules.load(name))
        except StoreError as error:
            note(f"✗ {error}")
    now = time.time()
    if session.json:
        from air_executor.model.times import to_text  # noqa: PLC0415

        times = {one.name: _times(one, now, 1) for one in found}
        print_json(
            {
                "schedules": [
                    {
                        "name": one.name,
                        "paused": one.paused,
                        "source": one.source,
                        "schedule": one.definition["schedule"],
                        "next_at": to_text(times[one.name][0]) if times[one.name] else None,
                    }
                    for one in found
                ]
            }
        )
        return
    if not found:
        say("no schedules; apply a job file that has one: `air-executor schedule apply FILE`")
        return
    rows = []
    for one in found:
        raw = one.definition["schedule"]
        cron = raw.get("cron", "")
        when = f"every {raw['every']}" if "every" in raw else cron if isinstance(cron, str) else ", ".join(cron)
        zone = f" ({raw['timezone']})" if "timezone" in raw else ""
        rows.append([Cell(one.name, "bold"), Cell(f"{when}{zone}"), Cell(_when(one, now))])
    print_lines(table(("schedule", "when", "next"), rows, terminal_width()))


def _next(session: Session, names: list[str], count: int) -> None:
    from air_executor.model.times import to_text  # noqa: PLC0415

    now = time.time()
    loaded = [_schedules(session).load(name) for name in names]
    times = {one.name: [to_text(at) for at in _times(one, now, count)] for one in loaded}
    if session.json:
        print_json({"next": times})
        return
    for one in loaded:
        if one.paused:
            note(f"{one.name} is paused; to go on: `air-executor schedule resume {one.name}`")
        for text in times[one.name]:
            say(text if len(loaded) == 1 else f"{one.name} {text}")


def _pause(session: Session, names: list[str], *, paused: bool) -> None:
    schedules = _schedules(session)
    now = round(time.time(), 3)
    for found in [schedules.load(name) for name in names]:
        if not paused and found.paused:
            found.since = now  # what passed meanwhile is not caught up
        found.paused = paused
        schedules.save(found)
        say(f"{found.name}: {_when(found, now)}")


def _delete(session: Session, names: list[str]) -> None:
    schedules = _schedules(session)
    for found in [schedules.load(name) for name in names]:
        if found.source is not None:
            note(f"{found.name} follows {found.source} in AIR_JOBS_DIR; it comes back when that file changes")
        schedules.delete(found.name)
        say(f"{found.name}: deleted; its runs stay")


def upcoming(layout: Layout, now: float, *names: str) -> list[str]:
    """Return when these schedules run next, or all: one line each, the soonest first; unreadable ones are left out."""
    from air_executor.store.schedules import Schedules  # noqa: PLC0415 - only where there are schedules

    schedules = Schedules(layout)
    found = []
    for name in names or schedules.names():
        with contextlib.suppress(AirExecutorError):
            one = schedules.load(name)
            times = [] if one.paused else _times(one, now, 1)
            found.append((times[0] if times else math.inf, f"schedule {name}: {_when(one, now)}"))
    return [text for _, text in sorted(found)]


def _when(schedule: ScheduleFile, now: float) -> str:
    from air_executor.model.times import format_duration, to_text  # noqa: PLC0415

    if schedule.paused:
        return "paused"
    try:
        times = _times(schedule, now, 1)
    except AirExecutorError as error:
        return str(error)
    return f"next at {to_text(times[0])}, in {format_duration(round(times[0] - now))}" if times else "no time to come"


def _times(schedule: ScheduleFile, now: float, count: int) -> list[float]:
    """Return when the next runs start."""
    from air_executor.core.definition import read_schedule  # noqa: PLC0415 - only for this command
    from air_executor.core.timetable import Timetable  # noqa: PLC0415

    timetable = Timetable(schedule.name, read_schedule(schedule.definition))
    return [timetable.starts_at(at) for at in islice(timetable.times_after(now), count)]

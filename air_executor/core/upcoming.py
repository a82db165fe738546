"""When a stored schedule runs next, and the schedule as data. Pure; times in Unix seconds."""

from __future__ import annotations

from itertools import islice
from typing import Any

from air_executor.core.instantiation import read_schedule
from air_executor.core.timetable import Timetable
from air_executor.errors import AirExecutorError
from air_executor.model.definition import ScheduleFile
from air_executor.model.problems import InvalidError, lines
from air_executor.model.times import to_text


def timetable_of(schedule: ScheduleFile) -> Timetable | None:
    """Return the times of a schedule; None if it runs on demand.

    Raises:
        InvalidError: its definition is wrong.
        BadInputError: the time zone or an expression is wrong.
    """
    found = read_schedule(schedule.definition)
    return None if found is None else Timetable(schedule.name, found)


def times_of(schedule: ScheduleFile, now: float, count: int) -> list[float]:
    """Return when the next runs start. Raises as `timetable_of`."""
    timetable = timetable_of(schedule)
    if timetable is None:
        return []
    return [timetable.starts_at(at) for at in islice(timetable.times_after(now), count)]


def schedule_record(schedule: ScheduleFile, now: float) -> dict[str, Any]:
    """Return a schedule with its next time, or with the `problem` of one that has none because it is wrong."""
    record: dict[str, Any] = {
        "name": schedule.name,
        "paused": schedule.paused,
        "source": schedule.source,
        "schedule": schedule.definition.get("schedule"),
        "next_at": None,
    }
    try:
        times = times_of(schedule, now, 1)
    except InvalidError as error:
        return {**record, "problem": "; ".join(lines(error.problems))}
    except AirExecutorError as error:
        return {**record, "problem": str(error)}
    return {**record, "next_at": to_text(times[0]) if times else None}

"""From a job file with a `name` to the schedule that is stored: all of it checked, as a run would be.

Without a `schedule` in the file it has no times, and runs on demand.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping
from typing import Any

from air_executor.core.instantiation import read_schedule
from air_executor.core.param_values import declared_params
from air_executor.core.submission import read_definition
from air_executor.core.timetable import Timetable
from air_executor.errors import BadInputError, CorruptFileError, NotFoundError
from air_executor.model.definition import ScheduleFile
from air_executor.model.names import check_id
from air_executor.model.problems import InvalidError, Path, bad_input, lines
from air_executor.store.job_file import load_placed, read_bytes
from air_executor.store.schedules import Schedules


def schedule_from(path: str, now: float, schedules: Schedules, *, source: str | None = None) -> ScheduleFile | None:
    """Return the schedule of a job file; None if it has none, or is stored already. `now` in Unix seconds.

    What was paused stays so, and an unchanged timetable goes on where it is.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it is wrong, or a value of a parameter is missing; each problem with its field and its line.
    """
    return schedule_of(read_bytes(path), path, now, schedules, source=source)


def schedule_of(
    data: bytes, path: str, now: float, schedules: Schedules, *, source: str | None = None
) -> ScheduleFile | None:
    """Return the schedule of the content of a job file; as `schedule_from`."""
    made = checked_schedule(data, path, now, source=source)
    return None if made is None else unless_stored(made, schedules)


def checked_schedule(data: bytes, path: str, now: float, *, source: str | None = None) -> ScheduleFile | None:
    """Return the schedule of the content of a job file, as if it were new; None if it is a job that runs once.

    Raises:
        BadInputError: as `schedule_from`.
    """
    raw, place = load_placed(data, path)
    if "schedule" not in raw and "name" not in raw:
        return None
    if raw.get("name") is None:
        msg = f"{path}: name: is missing: the runs of a schedule are named after it"
        raise BadInputError(msg)
    name = check_id(str(raw["name"]), f"{path}: name")
    try:
        schedule = read_schedule(raw)
        read_definition(raw, {}, now)
    except InvalidError as error:
        asked = _asked(raw)
        if problems := [one for one in error.problems if one.at not in asked]:
            raise bad_input(lines(problems, place), path) from None
    try:
        if schedule is not None:
            Timetable(name, schedule)
    except BadInputError as error:
        msg = f"{path}: schedule.{error}"
        raise BadInputError(msg) from None
    definition: dict[str, Any] = _as_json(raw)
    return ScheduleFile(name=name, since=now, applied_at=now, source=source, definition=definition)


def _asked(raw: Mapping[str, Any]) -> list[Path]:
    """Return the parameters whose values may be missing, for whoever starts a run on demand gives them."""
    if raw.get("schedule") is None:
        with contextlib.suppress(InvalidError):
            declared = declared_params(raw.get("params", {}))
            return [["params", name] for name, param in declared.items() if param.default is None]
    return []


def unless_stored(made: ScheduleFile, schedules: Schedules) -> ScheduleFile | None:
    """Return a schedule with what stays of the stored one of its name; None if it is stored as it is."""
    with contextlib.suppress(NotFoundError, CorruptFileError):
        before = schedules.load(made.name)
        if (before.definition, before.source) == (made.definition, made.source):
            return None
        made.paused = before.paused
        if before.definition.get("schedule") == made.definition.get("schedule"):
            made.since = before.since
    return made


def _as_json(value: Any) -> Any:  # noqa: ANN401 - data of a file
    """Return data of a file as JSON has it: dates as text, and numbers as they were written where that matters."""
    if isinstance(value, dict):
        return {str(key): _as_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    if isinstance(value, dt.date):
        return value.isoformat()
    written = getattr(value, "source", None)
    if written is not None:
        return int(value) if str(int(value)) == written else written
    return value

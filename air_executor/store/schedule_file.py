"""From a job file with a `schedule` to the schedule that is stored: all of it checked, as a run would be."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Any

from air_executor.core.definition import instantiate, read_schedule
from air_executor.core.submission import read_job
from air_executor.core.timetable import Timetable
from air_executor.errors import BadInputError, CorruptFileError, NotFoundError
from air_executor.model.definition import ScheduleFile
from air_executor.model.problems import InvalidError, bad_input, lines
from air_executor.store.job_file import load_placed, read_bytes
from air_executor.store.schedules import Schedules


def schedule_from(path: str, now: float, schedules: Schedules, *, source: str | None = None) -> ScheduleFile | None:
    """Return the schedule of a job file; None if it has none, or is stored already. `now` in Unix seconds.

    What was paused stays so, and an unchanged timetable goes on where it is.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it is wrong, or a value of a parameter is missing; each problem with its field and its line.
    """
    raw, place = load_placed(read_bytes(path), path)
    if "schedule" not in raw:
        return None
    instance = None
    try:
        schedule = read_schedule(raw)
        instance = instantiate(raw, {}, now)
        job = read_job(instance.raw)
    except InvalidError as error:
        problems = error.problems if instance is None else instance.placed(error.problems)
        raise bad_input(lines(problems, place), path) from None
    if job.name is None:
        msg = f"{path}: name: is missing: the runs of a schedule are named after it"
        raise BadInputError(msg)
    try:
        Timetable(job.name, schedule)
    except BadInputError as error:
        msg = f"{path}: schedule.{error}"
        raise BadInputError(msg) from None
    definition: dict[str, Any] = _as_json(raw)
    made = ScheduleFile(name=job.name, since=now, applied_at=now, source=source, definition=definition)
    with contextlib.suppress(NotFoundError, CorruptFileError):
        before = schedules.load(job.name)
        if (before.definition, before.source) == (definition, source):
            return None
        made.paused = before.paused
        if before.definition.get("schedule") == definition["schedule"]:
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

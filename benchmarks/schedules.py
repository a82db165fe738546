"""What 10,000 schedules cost: a manager that waits for their times, and a minute in which 1,000 of them fire."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from air_executor.model.names import scheduled_id
from air_executor.model.state import JobState
from air_executor.model.times import to_text
from benchmarks.place import LOOK, PATIENCE, Place
from benchmarks.table import Line, Row

_MANY = 10_000
_AT_ONCE = 1_000
_MINUTE = 60.0


def idle(*, quick: bool) -> Sequence[Line]:
    """Measure a manager with schedules of which none fires meanwhile, and one that follows a folder of job files."""
    many, seconds = (1_000, 5) if quick else (_MANY, 65)
    with Place() as stored, Place() as followed:
        for number in range(many):
            _write(stored, number, _cron(time.time() - 7200 + number % 3600))
        folder = _job_files(followed, many)
        stored.start()
        followed.env["AIR_JOBS_DIR"] = folder
        followed.start()
        _until_applied(followed, many)
        shares = []
        for place in (stored, followed):
            before = place.cpu_exactly()
            time.sleep(seconds)
            shares.append((place.cpu_exactly() - before) / seconds * 100)
    note = f"over {seconds} s, a rescan included"
    return [
        Line("schedules", f"{many} schedules: CPU, % of a core", shares[0], 0.5, at_most=True, note=note),
        Line("schedules", "the same with a folder of as many job files", shares[1], 0.5, at_most=True),
    ]


def firing(*, quick: bool) -> Sequence[Line]:
    """Measure schedules with the same time, among others, and the same jobs submitted before the manager starts."""
    many, at_once = (1_000, 100) if quick else (_MANY, _AT_ONCE)
    with Place(AIR_MAX_RUNNERS="4") as submitted, Place(AIR_MAX_RUNNERS="4") as place:
        for number in range(at_once):
            submitted.submit(_name(number), [{"id": "work", "command": ["true"]}])
        begin = time.time()
        submitted.start()
        rate = max(_begun(submitted, _name(number)) for number in range(at_once)) - begin
        submitted.stop()
        minute = (time.time() + 2 * _MINUTE) // _MINUTE * _MINUTE
        for number in range(many):
            _write(place, number, _cron(minute if number < at_once else minute - 7200 + number % 3600))
        place.start()
        if time.time() > minute - 1:
            msg = "the machine is too slow to start before the schedules' time"
            raise RuntimeError(msg)
        names = [scheduled_id(_name(number), minute) for number in range(at_once)]
        time.sleep(minute - time.time())
        before = place.cpu()
        begun = sorted(_begun(place, name) - minute for name in names)
        place.wait(names)
        cost = (place.cpu() - before) / at_once * 1000
    what = f"{at_once} of {many} schedules at one time"
    note = f"4 runners; the first {begun[0]:.2f} s, the middle one {begun[at_once // 2]:.1f} s"
    return [
        Line("firing", f"{what}: until the last run began, s", begun[-1], _MINUTE, at_most=True, note=note),
        Line("firing", "the same ÷ that of as many jobs submitted beforehand", begun[-1] / rate, 2, at_most=True),
        Line("firing", "the manager's own CPU for each, run included, ms", cost),
    ]


def _name(number: int) -> str:
    return f"job{number:05d}"


def _cron(when: float) -> str:
    """Return the expression for one minute of each day."""
    at = datetime.fromtimestamp(when, UTC)
    return f"{at.minute} {at.hour} * * *"


def _definition(number: int, cron: str) -> dict[str, object]:
    return {"name": _name(number), "schedule": {"cron": cron}, "tasks": [{"id": "work", "command": ["true"]}]}


def _write(place: Place, number: int, cron: str) -> None:
    """Store a schedule; without the syncs of `schedule apply`, of which so many would take minutes."""
    os.makedirs(place.layout.schedules, exist_ok=True)
    now = to_text(time.time())
    stored = {"format": 1, "name": _name(number), "since": now, "applied_at": now}
    with open(place.layout.schedule(_name(number)), "w", encoding="utf-8") as file:
        json.dump(stored | {"definition": _definition(number, cron)}, file)


def _job_files(place: Place, many: int) -> str:
    folder = f"{place.folder}/jobs"
    os.mkdir(folder)
    for number in range(many):
        with open(f"{folder}/{_name(number)}.json", "w", encoding="utf-8") as file:
            json.dump(_definition(number, _cron(time.time() - 7200 + number % 3600)), file)
    return folder


def _until_applied(place: Place, many: int) -> None:
    until = time.monotonic() + PATIENCE
    while not os.path.isdir(place.layout.schedules) or len(os.listdir(place.layout.schedules)) < many:
        if time.monotonic() > until:
            msg = f"the folder is not applied:\n{place.log()}"
            raise RuntimeError(msg)
        time.sleep(1)
    time.sleep(2)  # until what follows is over


def _begun(place: Place, name: str) -> float:
    """Wait until a run's task has ended once, and return when its runner was spawned, in Unix seconds."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if os.path.isfile(place.layout.state(name)) and place.has_ended(name):
            state: JobState = place.client.status(name)
            return state.tasks["work"].attempts[0].spawned
        time.sleep(LOOK)
    msg = f"job {name} did not run:\n{place.log()}"
    raise RuntimeError(msg)


ROWS = (Row("schedules", idle),)
ON_REQUEST = (Row("firing", firing),)
"""Waits for a full minute, twice."""

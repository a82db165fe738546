"""The schedules of a state directory with their next times, for the page: read again only where files have changed.

All viewers share it. Thread-safe; knows nothing of HTTP.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from air_executor.core.timetable import Timetable
from air_executor.core.upcoming import timetable_of
from air_executor.errors import AirExecutorError
from air_executor.model.problems import InvalidError, lines
from air_executor.store.schedules import ABSENT, Schedules
from air_executor.web.rest import Rest

REST = 100
"""Seconds for which a look that took one second is not repeated."""
NEVER = float("inf")


@dataclass(slots=True)
class ScheduleEntry:
    """One schedule."""

    name: str
    stamp: tuple[int, int]
    paused: bool = False
    problem: str | None = None
    on_demand: bool = False
    """It has no times of its own."""
    timetable: Timetable | None = None
    params: object = None
    """Its `params`, as the definition has them."""
    next_at: float = NEVER
    """Unix seconds; `NEVER` if there is no time to come."""

    @property
    def never(self) -> float:
        """The next time of a schedule that has none."""
        return NEVER

    def advance(self, now: float) -> None:
        """Bring the next time up to date."""
        if self.timetable is not None and self.next_at <= now:
            upcoming = self.timetable.next_after(now)
            self.next_at = NEVER if upcoming is None else self.timetable.starts_at(upcoming)


class ScheduleList:
    """The schedules, as last read."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules
        self._lock = threading.Lock()
        self._entries: dict[str, ScheduleEntry] = {}
        self._rest = Rest(REST)
        self._rests_until = 0.0

    def entries(self, now: float) -> list[ScheduleEntry]:
        """Return all schedules."""
        with self._lock:
            self._look(now)
            for entry in self._entries.values():
                entry.advance(now)
            return list(self._entries.values())

    def changed(self) -> None:
        """Take note of a change: who made it shall see it, however long looking takes."""
        with self._lock:
            self._rests_until = 0.0

    def named(self, name: str, now: float) -> ScheduleEntry | None:
        """Return the schedule of a name as it is now, or None: whoever has just changed it sees that."""
        with self._lock:
            stamp = self._schedules.changed_at(name)
            if stamp == ABSENT:
                self._entries.pop(name, None)
                return None
            entry = self._entries.get(name)
            if entry is None or entry.stamp != stamp:
                entry = self._entries[name] = self._read(name, stamp, now)
            entry.advance(now)
            return entry

    def _look(self, now: float) -> None:
        begun = time.monotonic()
        if begun < self._rests_until:
            return
        try:
            stamps = {name: self._schedules.changed_at(name) for name in self._schedules.names()}
        except AirExecutorError:
            return  # the page shows what it knows
        known = self._entries
        self._entries = {
            name: known[name] if name in known and known[name].stamp == stamp else self._read(name, stamp, now)
            for name, stamp in stamps.items()
        }
        self._rests_until = self._rest.until(begun)

    def _read(self, name: str, stamp: tuple[int, int], now: float) -> ScheduleEntry:
        entry = ScheduleEntry(name, stamp)
        try:
            found = self._schedules.load(name)
            entry.paused = found.paused
            entry.params = found.definition.get("params", {})
            if not found.paused:
                entry.timetable = timetable_of(found)
                entry.on_demand = entry.timetable is None
                entry.next_at = NEVER if entry.on_demand else now
        except InvalidError as error:
            entry.problem = "; ".join(lines(error.problems))
        except AirExecutorError as error:
            entry.problem = str(error)
        return entry

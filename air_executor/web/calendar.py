"""The next days of all schedules, as a calendar. Days are those of UTC, like all times of the page.

No files, no HTTP. All viewers share one `Calendar`, which is thread-safe.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from air_executor.web.rest import Rest
from air_executor.web.schedule_list import NEVER, ScheduleEntry

WEEKS = 2
DAY = 86_400.0
SCHEDULES = 30
"""Schedules in the calendar: those that come next."""
MOST_TIMES = 24
"""Times of one schedule on one day that are counted."""
REST = 100
"""Seconds for which a calendar that took one second is not made again."""


@dataclass(frozen=True, slots=True)
class DayEntry:
    """What one schedule does on one day."""

    name: str
    first: float
    """Unix seconds."""
    times: int
    more: bool
    """There are more times than were counted."""


@dataclass(slots=True)
class CalendarDay:
    """One day, in the order of what comes first."""

    begin: float
    """Unix seconds."""
    entries: list[DayEntry] = field(default_factory=list)

    @property
    def date(self) -> datetime:
        """The day, in UTC."""
        return datetime.fromtimestamp(self.begin, UTC)


class Calendar:
    """The calendar, as last made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._days: list[CalendarDay] = []
        self._rest = Rest(REST)
        self._rests_until = 0.0

    def days(self, schedules: Iterable[ScheduleEntry], now: float) -> list[CalendarDay]:
        """Return the days; change nothing in them."""
        with self._lock:
            begun = time.monotonic()
            if begun >= self._rests_until:
                self._days = days_of(schedules, now)
                self._rests_until = self._rest.until(begun)
            return self._days


def days_of(schedules: Iterable[ScheduleEntry], now: float) -> list[CalendarDay]:
    """Return two weeks from the Monday of this week on; days and times that have passed are empty."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today.timestamp() - today.weekday() * DAY
    days = [CalendarDay(monday + number * DAY) for number in range(7 * WEEKS)]
    coming = [one for one in schedules if one.next_at != NEVER]
    for one in heapq.nsmallest(SCHEDULES, coming, key=lambda entry: (entry.next_at, entry.name)):
        _add(one, days, now)
    for day in days:
        day.entries.sort(key=lambda entry: (entry.first, entry.name))
    return days


def _add(schedule: ScheduleEntry, days: Sequence[CalendarDay], now: float) -> None:
    assert schedule.timetable is not None  # noqa: S101 - it has a next time
    for day in days:
        end = day.begin + DAY
        if schedule.next_at >= end or now >= end:
            continue
        found: list[float] = []
        for at in schedule.timetable.times_after(max(day.begin - 1, now)):
            if at >= end:
                break
            found.append(at)
            if len(found) > MOST_TIMES:
                break
        if found:
            counted = min(len(found), MOST_TIMES)
            day.entries.append(DayEntry(schedule.name, found[0], counted, len(found) > MOST_TIMES))

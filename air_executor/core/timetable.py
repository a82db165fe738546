"""The times of a schedule: which come next, and which of those that have passed are to be caught up.

Pure: times are Unix seconds, and `now` is an argument. What cron expressions mean is `cronsim`'s business, which
follows Debian's cron over changes of summer time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from air_executor.errors import BadInputError

if TYPE_CHECKING:
    from datetime import tzinfo

    from air_executor.model.definition import Schedule

CAUGHT_UP = 1000
"""Most times that are caught up at once; older ones are left out."""
FIELDS = 5
"""Fields of a cron expression."""
ON_TIME = 60.0
"""Seconds after which a time counts as missed."""


class Timetable:
    """The times of one schedule."""

    def __init__(self, name: str, schedule: Schedule) -> None:
        """`name` spreads the jitter.

        Raises:
            BadInputError: the time zone or an expression is wrong.
        """
        self._name = name
        self._schedule = schedule
        self._zone = _zone(schedule.timezone)
        self.next_after(0.0)  # an expression that is wrong is refused here

    def next_after(self, when: float) -> float | None:
        """Return the first time after `when`, or None if there is none."""
        return next(self.times_after(when), None)

    def times_after(self, when: float) -> Iterator[float]:
        """Yield the times after `when`, in order."""
        return self._times(when, reverse=False)

    def starts_at(self, time: float) -> float:
        """Return when the run for one of the times starts: later with `jitter`, always the same, before the next."""
        jitter = self._schedule.jitter
        if not jitter:
            return time
        following = self.next_after(time)  # otherwise times would overtake each other
        longest = jitter if following is None else min(jitter, following - time)
        digest = hashlib.sha256(f"{self._name} {time}".encode()).digest()
        return time + longest * int.from_bytes(digest[:4], "big") / 2**32

    def due(self, last: float, now: float) -> tuple[list[float], float]:
        """Return the times for which a run is to start now, in order, and the newest time that is settled then.

        `last` is the newest time that was settled before.
        """
        schedule = self._schedule
        deadline = schedule.starting_deadline
        if schedule.catch_up == "none":
            deadline = ON_TIME if deadline is None else min(deadline, ON_TIME)
        most = CAUGHT_UP if schedule.catch_up == "all" else 1
        found: list[float] = []
        newest = last
        for time in self._times(now + 0.001, reverse=True):
            starts = self.starts_at(time)
            if time <= last:
                break
            if starts > now:
                continue
            newest = max(newest, time)
            if len(found) >= most or (deadline is not None and now - starts > deadline):
                break
            found.append(time)
        return found[::-1], newest

    def _times(self, when: float, *, reverse: bool) -> Iterator[float]:
        if self._schedule.every is not None:
            yield from _steps(when, float(self._schedule.every), reverse=reverse)
            return
        upcoming = [_Upcoming(expression, when, self._zone, reverse=reverse) for expression in self._schedule.cron]
        pick: Callable[..., _Upcoming] = max if reverse else min
        seen: float | None = None
        while upcoming:
            first = pick(upcoming, key=lambda one: one.time)
            if first.time != seen:
                yield first.time
            seen = first.time
            if not first.advance():
                upcoming.remove(first)


class _Upcoming:
    """The times of one expression, and the next of them."""

    def __init__(self, expression: str, when: float, zone: tzinfo, *, reverse: bool) -> None:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only with a schedule

        if len(expression.split()) != FIELDS:  # `CronSim` takes six, too: the first is seconds then
            msg = f"cron: {expression!r} is no cron expression: it has five fields, like '0 2 * * 1-5'"
            raise BadInputError(msg)
        try:
            self._times = CronSim(expression, datetime.fromtimestamp(when, zone), reverse=reverse)
            self.time = next(self._times).timestamp()
        except CronSimError as error:
            msg = f"cron: {expression!r} is no cron expression: {error}"
            raise BadInputError(msg) from None
        except StopIteration:
            msg = f"cron: {expression!r} names no time that ever comes"
            raise BadInputError(msg) from None

    def advance(self) -> bool:
        """Go on to the next time; False if there is none."""
        try:
            self.time = next(self._times).timestamp()
        except StopIteration:
            return False
        return True


def _steps(when: float, step: float, *, reverse: bool) -> Iterator[float]:
    number = when // step
    if reverse and number * step < when:
        yield number * step
    while True:
        number += -1 if reverse else 1
        if number < 0:
            return
        yield number * step


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - only with a schedule

    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        msg = f"timezone: {name!r} is unknown here; use a name like Europe/Paris"
        raise BadInputError(msg) from None

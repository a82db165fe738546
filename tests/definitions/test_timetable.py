"""The times of a schedule: cron expressions over summer time and leap days, intervals, what is caught up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.core.instantiation import read_schedule
from air_executor.core.timetable import CAUGHT_UP, ON_TIME, Timetable
from air_executor.errors import BadInputError
from air_executor.model.problems import InvalidError, lines


def at(text: str) -> float:
    """Return Unix seconds of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def timetable(**schedule: Any) -> Timetable:  # noqa: ANN401 - JSON
    """Return a timetable."""
    found = read_schedule({"schedule": schedule})
    assert found is not None
    return Timetable("n", found)


def upcoming(table: Timetable, when: str, count: int) -> list[str]:
    """Return the next times in UTC."""
    return [datetime.fromtimestamp(t, UTC).isoformat()[:16] for t in islice(table.times_after(at(when)), count)]


@pytest.mark.parametrize(
    ("cron", "zone", "when", "expected"),
    [
        # A time that summer time skips comes right after the gap, one that it repeats comes once (Debian's cron).
        ("30 2 * * *", "Europe/Paris", "2026-03-28", ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]),
        ("30 2 * * *", "Europe/Paris", "2026-10-24", ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]),
        # A job of every hour keeps its distance.
        ("0 * * * *", "Europe/Paris", "2026-10-24T23:30", ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"]),
        ("0 12 29 2 *", "UTC", "2026-01-01", ["2028-02-29T12:00", "2032-02-29T12:00"]),
        ("0 2 * * 1-5", "UTC", "2026-01-30", ["2026-01-30T02:00", "2026-02-02T02:00"]),
    ],
)
def test_cron_expressions(cron: str, zone: str, when: str, expected: list[str]) -> None:
    """In their own time zone."""
    assert upcoming(timetable(cron=cron, timezone=zone), when, len(expected)) == expected


def test_several_expressions_are_one_timetable() -> None:
    """A time that two of them name comes once."""
    table = timetable(cron=["0 1 * * *", "0 1,2 * * *"])
    assert upcoming(table, "2026-01-01", 3) == ["2026-01-01T01:00", "2026-01-01T02:00", "2026-01-02T01:00"]


def test_an_interval() -> None:
    """Its times are the same wherever and whenever a manager starts."""
    assert upcoming(timetable(every="15m"), "2026-01-01T00:07", 2) == ["2026-01-01T00:15", "2026-01-01T00:30"]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({}, "schedule.cron: is missing; or give `every`"),
        ({"cron": "* * * * *", "every": 60}, "schedule.every: cannot be used together with cron"),
        ({"every": 0.5}, "schedule.every: must be at least 1s"),
        ({"crom": "* * * * *"}, "schedule.crom: is not a field; did you mean cron?"),
        ({"every": "1h", "catch_up": "some"}, 'schedule.catch_up: must be "none", "last" or "all"'),
    ],
)
def test_a_wrong_schedule_is_refused(schedule: dict[str, Any], message: str) -> None:
    """With its field."""
    with pytest.raises(InvalidError) as caught:
        timetable(**schedule)
    assert lines(caught.value.problems)[0].startswith(message)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"cron": "0 * * * * *"}, "cron: '0 \\* \\* \\* \\* \\*' is no cron expression: it has five fields"),
        ({"cron": "61 * * * *"}, "cron: '61 \\* \\* \\* \\*' is no cron expression"),
        ({"cron": "0 0 30 2 *"}, "cron: '0 0 30 2 \\*' "),
        ({"every": 60, "timezone": "Mars/Olympus"}, "timezone: 'Mars/Olympus' is unknown here"),
        ({"every": 60, "timezone": "../../etc/passwd"}, "timezone: '../../etc/passwd' is unknown here"),
    ],
)
def test_a_wrong_expression_or_zone_is_refused(schedule: dict[str, Any], message: str) -> None:
    """When the schedule is applied."""
    with pytest.raises(BadInputError, match=message):
        timetable(**schedule)


NOON = at("2026-01-01T12:00")


@pytest.mark.parametrize(
    ("schedule", "last", "now", "due", "settled"),
    [
        ({}, NOON, NOON + 59, [], NOON),
        ({}, NOON, NOON + 60, [60], NOON + 60),
        ({}, NOON, NOON + 250, [240], NOON + 240),
        ({"catch_up": "all"}, NOON, NOON + 250, [60, 120, 180, 240], NOON + 240),
        ({"catch_up": "all", "starting_deadline": 100}, NOON, NOON + 250, [180, 240], NOON + 240),
        ({"catch_up": "none"}, NOON, NOON + 250, [240], NOON + 240),
        ({"catch_up": "none", "starting_deadline": 5}, NOON, NOON + 250, [], NOON + 240),
        ({"catch_up": "last", "starting_deadline": 5}, NOON, NOON + 250, [], NOON + 240),
        ({}, NOON + 240, NOON + 100, [], NOON + 240),  # the clock was set back
    ],
)
def test_what_is_due(schedule: dict[str, Any], last: float, now: float, due: list[float], settled: float) -> None:
    """By what was settled before, and by what is to be caught up."""
    assert timetable(every=60, **schedule).due(last, now) == ([NOON + one for one in due], settled)


def test_no_more_than_a_thousand_are_caught_up() -> None:
    """The newest ones."""
    found, settled = timetable(every=1, catch_up="all").due(NOON, NOON + 10_000)
    assert (len(found), found[-1], settled) == (CAUGHT_UP, NOON + 10_000, NOON + 10_000)


def test_jitter_is_the_same_each_time() -> None:
    """Within its bound; a time whose delay is not over is not due."""
    table = timetable(every=3600, jitter=600)
    starts = [table.starts_at(NOON + 3600 * number) - (NOON + 3600 * number) for number in range(50)]
    assert starts == [table.starts_at(NOON + 3600 * number) - (NOON + 3600 * number) for number in range(50)]
    assert 0 <= min(starts) < 100
    assert 500 < max(starts) < 600
    first = table.starts_at(NOON + 3600)
    assert table.due(NOON, first - 1) == ([], NOON)
    assert table.due(NOON, first + 1) == ([NOON + 3600], NOON + 3600)


@given(
    minute=st.sampled_from(["0", "*/7", "5,35", "*"]),
    hour=st.sampled_from(["*", "3", "*/5", "9-17"]),
    weekday=st.sampled_from(["*", "1-5", "0"]),
    start=st.integers(0, 60 * 24 * 365),
    looks=st.lists(st.integers(1, 60 * 30), min_size=1, max_size=12),
)
def test_each_time_is_due_once(minute: str, hour: str, weekday: str, start: int, looks: list[int]) -> None:
    """However often somebody looks: the same times as an enumeration of all minutes."""
    table = timetable(cron=f"{minute} {hour} * * {weekday}", catch_up="all")
    last = now = NOON + 60 * start
    fired: list[float] = []
    for minutes in looks:
        now += 60 * minutes
        found, last = table.due(last, now)
        fired += found
    expected = [
        NOON + 60 * (start + one)
        for one in range(1, sum(looks) + 1)
        if _matches(datetime.fromtimestamp(NOON + 60 * (start + one), UTC), minute, hour, weekday)
    ]
    if all(looks[number] < CAUGHT_UP for number in range(len(looks))):
        assert fired == expected


ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata")
"""By half an hour, by an hour, at midnight, and never."""
AROUND = (
    "2024-02-28",
    "2026-03-07",
    "2026-03-28",
    "2026-04-04",
    "2026-04-23",
    "2026-10-03",
    "2026-10-24",
    "2026-10-29",
)
"""Days before a leap day or a change of summer time in one of the zones."""


@given(
    cron=st.tuples(
        st.sampled_from(["0", "30", "*/7", "5,35", "*"]),
        st.sampled_from(["*", "0", "1", "2", "3", "*/5", "9-17"]),
        st.sampled_from(["*", "1-5", "0"]),
    ),
    zone=st.sampled_from(ZONES),
    day=st.sampled_from(AROUND),
    looks=st.lists(st.integers(1, 60 * 20), min_size=1, max_size=8),
    catch_up=st.sampled_from(["none", "last", "all"]),
)
def test_times_around_a_change_of_summer_time(
    cron: tuple[str, str, str], zone: str, day: str, looks: list[int], catch_up: str
) -> None:
    """Each is due once, by policy: compared with a walk over all minutes that follows Debian's cron."""
    start = at(day)
    last = now = start
    fired, expected = [], []
    walked = list(_walk(cron, ZoneInfo(zone), start, sum(looks)))
    expression = f"{cron[0]} {cron[1]} * * {cron[2]}"
    for minutes in looks:
        table = timetable(cron=expression, timezone=zone, catch_up=catch_up)  # a manager's start
        found, last = table.due(last, now + 60 * minutes)
        fired += found
        passed = [one for one in walked if now < one <= now + 60 * minutes]
        now += 60 * minutes
        newest = [one for one in passed[-1:] if catch_up == "last" or now - one <= ON_TIME]
        expected += passed[-CAUGHT_UP:] if catch_up == "all" else newest
    assert fired == expected


def _walk(cron: tuple[str, str, str], zone: ZoneInfo, start: float, minutes: int) -> Iterator[float]:
    """Yield the times of an expression. One with fixed hours comes once in a repeated hour, and right after a gap."""
    fixed = not cron[0].startswith("*") and not cron[1].startswith("*")
    before = datetime.fromtimestamp(start, zone)
    for number in range(1, minutes + 1):
        when = datetime.fromtimestamp(start + 60 * number, zone)
        clock = [when.replace(tzinfo=None, fold=0)]
        gap = int((clock[0] - before.replace(tzinfo=None, fold=0)).total_seconds()) // 60
        if fixed:
            clock = [] if when.fold else [clock[0] - timedelta(minutes=one) for one in range(gap)]
        if any(_matches(one, *cron) for one in clock):
            yield start + 60 * number
        before = when


def _matches(when: datetime, minute: str, hour: str, weekday: str) -> bool:
    return _in(when.minute, minute) and _in(when.hour, hour) and _in(when.isoweekday() % 7, weekday)


def _in(value: int, text: str) -> bool:
    if text == "*":
        return True
    if text.startswith("*/"):
        return value % int(text[2:]) == 0
    if "-" in text:
        low, high = text.split("-")
        return int(low) <= value <= int(high)
    return value in [int(part) for part in text.split(",")]

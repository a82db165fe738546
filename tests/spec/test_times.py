"""Times and durations as text."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.errors import BadInputError
from air_executor.model.times import (
    DURATION_PATTERN,
    MAX_DURATION,
    format_duration,
    from_text,
    parse_duration,
    to_text,
)


@given(st.floats(-62_135_596_800, 253_402_300_799))
def test_a_time_survives_being_written(seconds: float) -> None:
    """To the millisecond, and what was read is written the same again: state files do not drift."""
    text = to_text(seconds)
    assert abs(from_text(text) - seconds) <= 0.0005001 + abs(seconds) * 2**-51
    assert to_text(from_text(text)) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-31T12:00:00.123Z", 1769860800.123),
        ("2026-01-31T13:00:00+01:00", 1769860800),
        ("2026-01-31T06:30:00.5-05:30", 1769860800.5),
    ],
)
def test_times_with_their_zone_are_read(text: str, seconds: float) -> None:
    """`Z` or an offset, with or without a fraction."""
    assert from_text(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
        "2026-02-31T12:00:00Z",
        "20260131T120000Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:00:00Z\n",
        "2026-01-31T12:00:00+99:00",
        5,
        None,
    ],
)
def test_anything_else_is_no_time(text: object) -> None:
    """No guessing of zones and orders; the message shows a time that would do."""
    with pytest.raises(BadInputError, match="2026-01-31T12:00:00Z"):
        from_text(text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (90, 90),
        (0, 0),
        (0.25, 0.25),
        ("90", 90),
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("2d", 172_800),
        ("1d1h1m1s1ms", 90_061.001),
        (timedelta(minutes=2), 120),
    ],
)
def test_durations_are_read(value: float | str | timedelta, seconds: float) -> None:
    """Numbers are seconds; whole ones come back as ints, so that state files show 90 and not 90.0."""
    parsed = parse_duration(value)
    assert parsed == seconds
    assert isinstance(parsed, int) == (seconds == int(seconds))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "s",
        "1x",
        "-1",
        "1m1h",
        "1s1s",
        "1 h",
        "1e3",
        " 1",
        "1\n",
        "\u0661s",
        "9" * 101,
        "1H",
        "nan",
        "inf",
        -1,
        -0.001,
        float("nan"),
        float("inf"),
        MAX_DURATION + 1,
        pytest.param(10**5000, id="huge"),
        True,
        None,
        [1],
        timedelta(seconds=-1),
    ],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    """The message says what is accepted, on one line however odd the value is."""
    with pytest.raises(BadInputError, match="1h30m") as caught:
        parse_duration(value)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@given(st.integers(0, MAX_DURATION))
def test_whole_seconds_survive_being_shown(seconds: int) -> None:
    """What people see can be typed in again."""
    shown = format_duration(seconds)
    assert parse_duration(shown) == seconds
    assert re.fullmatch(DURATION_PATTERN, shown)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (0.0123, "12ms"), (0.9999, "1s"), (1.314, "1.31s"), (59.999, "1m"), (5400, "1h30m"), (-90, "-1m30s")],
)
def test_durations_are_short_for_people(seconds: float, shown: str) -> None:
    """As precise as anyone reads them."""
    assert format_duration(seconds) == shown

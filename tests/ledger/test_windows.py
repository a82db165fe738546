"""Windows, keys and filters of a report: runs are divided at borders, so that the reports of a year add up."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.core.cost_query import (
    BEFORE,
    LONGEST,
    CostWindow,
    group,
    keep,
    key_of,
    parse_filter,
    parse_keys,
    period_bounds,
    period_of,
    pieces,
)
from air_executor.core.cost_report import cost_report
from air_executor.core.job_cost import sum_costs
from air_executor.core.ledger import EarlierRuns, Entry, Ledger, Origin, UnfinishedRun, read
from air_executor.errors import BadInputError
from air_executor.model.memo import Reused
from air_executor.model.state import JobState
from air_executor.model.times import from_text
from air_executor.model.usage import Usage
from tests.ledger.strategies import BEGIN, histories
from tests.records import make_attempt

HOUR = 3600.0
MONTH = from_text("2026-02-01T00:00:00Z")
"""The first moment of a month of 28 days."""
MONTH_END = from_text("2026-03-01T00:00:00Z")
JOBS = st.tuples(histories("one"), histories("two"))


def run(at: float, seconds: float, reason: str = "ok", **labels: str) -> Entry:
    """Return a run of a euro per hour."""
    attempt = make_attempt(
        1, 0, at, 0.0, seconds, 0.0, reason, 0, cost=seconds / HOUR, price={"runner": 1.0}, currency="EUR"
    )
    return Entry(Origin("j", labels.pop("pool", "default"), labels), attempt, at, 0.0, followed=False, requested={})


@given(JOBS, st.lists(st.floats(0, 400), min_size=1, max_size=6))
@settings(max_examples=60)
def test_adjacent_windows_add_up(jobs: tuple[JobState, ...], borders: list[float]) -> None:
    """Wherever the borders are: in seconds, money, waste and runs."""
    ledger = read(jobs)
    whole = sum_costs(Ledger(ledger.entries))
    edges = [None, *(BEGIN + border for border in sorted(set(borders))), None]
    parts = [sum_costs(CostWindow(since, until).cut(Ledger(ledger.entries))) for since, until in pairwise(edges)]
    for name in ("runs", "succeeded", "unpriced", "clock_stepped"):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name)
    for name in ("start_seconds", "work_seconds", "finish_seconds", "cpu_seconds", "waste_seconds"):
        assert math.fsum(getattr(part, name) for part in parts) == pytest.approx(getattr(whole, name), abs=0.01)
    for currency, cost in whole.costs.items():
        assert math.fsum(part.costs.get(currency, 0.0) for part in parts) == pytest.approx(cost, abs=1e-9)


def test_a_run_over_the_end_of_a_month() -> None:
    """An hour and a half, half an hour of it in the old month; it is a run of the new one."""
    old, new = (sum_costs(part) for part in group(Ledger([run(MONTH - HOUR / 2, 1.5 * HOUR)]), ["month"]).values())
    assert (old.runs, old.runner_seconds, old.costs) == (0, HOUR / 2, {"EUR": 0.5})
    assert (new.runs, new.runner_seconds, new.costs) == (1, HOUR, {"EUR": 1.0})


def test_a_long_run_is_in_every_day() -> None:
    """Each has its share, and several keys make one group for each combination."""
    ledger = Ledger([run(MONTH - 36 * HOUR, 48 * HOUR, team="a", pool="gpu")])
    found = {name: sum_costs(part).costs["EUR"] for name, part in group(ledger, ["day", "label=team", "month"]).items()}
    assert found == {
        ("2026-01-30", "a", "2026-01"): 12.0,
        ("2026-01-31", "a", "2026-01"): 24.0,
        ("2026-02-01", "a", "2026-02"): 12.0,
    }
    assert [part.counts for part in pieces(ledger.entries[0], "day")] == [False, False, True]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, (0, 10, 20, 10, 4.0, 8.0, 5.0, {"rows": 40.0}, True)),
        (None, 10, (0, 10, 0, 0, 1.0, 2.0, 5.0, {"rows": 10.0}, False)),
        (5, 20, (5, 5, 10, 0, 1.5, 3.0, None, {"rows": 15.0}, False)),
        (20, 30.5, (20, 0, 10, 0.5, 1.05, 2.1, None, {"rows": 10.5}, False)),
        (30, 40, (30, 0, 0, 10, 1.0, 2.0, None, {"rows": 10.0}, False)),
        (30, None, (30, 0, 0, 10, 1.0, 2.0, None, {"rows": 10.0}, True)),
        (40, None, (40, 0, 0, 0, 0.0, 0.0, None, {"rows": 0.0}, True)),
        (None, 0, None),
        (40.5, None, None),
    ],
)
def test_what_of_a_run_is_in_a_window(since: float | None, until: float | None, expected: tuple[object, ...]) -> None:
    """Of its stages, what they lasted in there; of what it used, as much as of its time; its wait, where it began."""
    attempt = make_attempt(
        1, 0, MONTH, 10.0, 20.0, 10.0, "ok", cost=4.0, cpu=8.0, node_wait=5.0, reported={"rows": 40.0}
    )
    whole = Entry(Origin("j", "default", {}), attempt, MONTH, 0.0, followed=False, requested={})
    window = CostWindow(*(None if border is None else MONTH + border for border in (since, until)))
    found = window.part_of(whole)
    assert expected == (None if found is None else seen(found))


def seen(part: Entry) -> tuple[object, ...]:
    """Return what a window tells of a part of a run: when, its stages, what it used, and whether it counts."""
    one = part.attempt
    used = (one.cost, one.cpu, one.node_wait, one.reported)
    return (one.spawned - MONTH, one.start, one.work, one.finish, *used, part.counts)


def test_a_part_of_a_part() -> None:
    """Has its share of that, and is no run either."""
    part = CostWindow(None, MONTH + 20).part_of(run(MONTH, 40))
    assert part is not None
    first, second = (window.part_of(part) for window in (CostWindow(None, MONTH + 5), CostWindow(MONTH + 5)))
    assert [(one.attempt.work, one.counts) for one in (first, second) if one] == [(5.0, False), (15.0, False)]


def test_what_is_not_known_of_a_run_is_not_known_of_its_parts() -> None:
    """Its CPU time."""
    assert [part.attempt.cpu for part in pieces(run(MONTH - HOUR, 2 * HOUR), "day")] == [None, None]


@pytest.mark.parametrize(
    ("since", "until", "included", "undated"),
    [
        (None, None, True, 0),
        (10, 20, True, 0),
        (10.5, None, False, 3),
        (20, None, False, 3),
        (20.5, None, False, 0),
        (None, 19.5, False, 3),
        (None, 10.5, False, 3),
        (None, 10, False, 0),
    ],
)
def test_runs_known_only_as_a_sum(since: float | None, until: float | None, undated: int, *, included: bool) -> None:
    """They were between two moments: a window has all of them, perhaps some, or none."""
    sums = EarlierRuns(Origin("j", "default", {}), Usage(3), 10.0, 20.0)
    ledger, window = Ledger(earlier=[sums]), CostWindow(since, until)
    assert (window.cut(ledger).earlier, window.undated(ledger)) == ([sums] if included else [], undated)


def test_open_runs_and_results_of_earlier_runs_in_a_window() -> None:
    """A run that begins at its end is not in it, nor is a result that was taken then."""
    opened = [UnfinishedRun(Origin("j", "default", {}), at, at) for at in (5.0, 10.0)]
    reused = [(at, Reused(key="0" * 16, job="other", run="1-a")) for at in (4.0, 5.0, 10.0)]
    ledger = Ledger((), opened, (), reused)
    for found in (CostWindow(5.0, 10.0).cut(ledger), CostWindow(5.0, 10.0).ended(ledger)):
        assert (found.open, found.reused) == (opened[:1], reused[1:2])


@pytest.fixture(params=["UTC0", "<+14>-14", "<-12>12"])
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """The time zone of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.parametrize(
    ("kind", "name", "bounds"),
    [
        ("day", "2026-03-01", ("2026-03-01", "2026-03-02")),
        ("week", "2026-W09", ("2026-02-23", "2026-03-02")),
        ("month", "2026-03", ("2026-03-01", "2026-04-01")),
    ],
)
@pytest.mark.usefixtures("zone")
def test_periods_are_those_of_utc(kind: str, name: str, bounds: tuple[str, str]) -> None:
    """From their first moment until their last, wherever the report is made."""
    for time_of_day in ("00:00:00.000Z", "12:00:00.000Z", "23:59:59.999Z"):
        at = from_text(f"2026-03-01T{time_of_day}")
        assert period_of(kind, at) == name
        assert period_bounds(kind, at) == tuple(from_text(f"{day}T00:00:00Z") for day in bounds)


def test_a_run_is_divided_no_more_often_than_needed() -> None:
    """At the borders of the periods that are asked for; of several kinds, at those of days. Of none, not at all."""
    one = run(MONTH - 36 * HOUR, 80 * HOUR)
    assert [len(list(pieces(one, kind))) for kind in ("day", "week", "month")] == [4, 2, 2]
    parts = [
        [len(part.entries) for part in group(Ledger([one]), keys).values()]
        for keys in (["job"], ["month"], ["month", "day"], ["month", "month"])
    ]
    assert parts == [[1], [1, 1], [1, 1, 1, 1], [1, 1]]
    assert len(list(pieces(run(MONTH, LONGEST), "month"))) > 100


def test_groups_are_sorted_and_have_the_runs_that_are_known_only_as_a_sum() -> None:
    """Which no period has; what has no such label comes last."""
    entries = [run(MONTH, HOUR), run(MONTH, HOUR, team="b"), run(MONTH, HOUR, team="a")]
    sums = [EarlierRuns(Origin("j", "default", labels), Usage(3)) for labels in ({}, {"team": "a"})]
    found = group(
        Ledger(entries, [UnfinishedRun(Origin("j", "default", {}), MONTH, MONTH)], sums), ["month", "label=team"]
    )
    assert list(found.items()) == [
        (("2026-02", "a"), Ledger(entries[2:], (), ())),
        (("2026-02", "b"), Ledger(entries[1:2], (), ())),
        (("2026-02", None), Ledger(entries[:1], (), ())),
        ((BEFORE, "a"), Ledger((), (), sums[1:])),
        ((BEFORE, None), Ledger((), (), sums[:1])),
    ]


def test_periods() -> None:
    """Weeks are those of ISO 8601: the first days of a year may be in the last week of the one before."""
    new_year = from_text("2027-01-01T12:00:00Z")
    assert [period_of(kind, new_year) for kind in ("day", "week", "month")] == ["2027-01-01", "2026-W53", "2027-01"]
    start, end = period_bounds("week", new_year)
    assert (period_of("day", start), period_of("day", end)) == ("2026-12-28", "2027-01-04")
    assert period_bounds("month", MONTH) == (MONTH, MONTH_END)


def test_keys_and_filters() -> None:
    """Several keys in one text, labels with commas in their names among them; what is none is refused."""
    assert parse_keys("month,label=team,pool") == ("month", "label=team", "pool")
    assert parse_keys("label=a,b") == ("label=a,b",)
    assert parse_filter("label=team=a=b") == ("label=team", "a=b")
    assert [parse_filter(f"{key}=x") for key in ("job", "pool", "dag")] == [("job", "x"), ("pool", "x"), ("dag", "x")]
    assert key_of("dag", Origin("j", "p", {"airflow-dag": "etl"})) == "etl"
    accepted = "job, pool, dag, day, week, month or label=NAME, several separated by commas"
    for wrong in ("", "year", "label=", "job,", "job,year"):
        with pytest.raises(BadInputError, match=f"^by: must be {accepted}, got '{wrong}'$"):
            parse_keys(wrong)
    for wrong in ("", "pool", "month=2026-01", "label=team", "=x"):
        with pytest.raises(BadInputError, match="filter: must be"):
            parse_filter(wrong)


def test_filters_leave_what_fits() -> None:
    """In the total, too; of open runs as well."""
    entries = [run(MONTH, HOUR, team="a"), run(MONTH, HOUR, team="b"), run(MONTH, HOUR, team="a", pool="gpu")]
    still_open = [UnfinishedRun(Origin("j", "default", {"team": "b"}), MONTH, MONTH)]
    filters = [("label=team", "a"), ("pool", "default")]
    found = cost_report(Ledger(entries, still_open), MONTH + 2 * HOUR, filters=filters)
    assert (found.total.runs, found.open_runs) == (1, 0)
    sums = [EarlierRuns(Origin("j", pool, {"team": "a"}), Usage(3)) for pool in ("default", "gpu")]
    assert keep(Ledger(earlier=sums), filters).earlier == sums[:1]


def test_a_month_that_is_closed() -> None:
    """It is compared with the whole month before, and needs no forecast."""
    before = run(MONTH - 100 * HOUR, 10 * HOUR)
    ledger = Ledger([before, run(MONTH, 15 * HOUR, "error"), run(MONTH_END, HOUR)])
    found = cost_report(ledger, MONTH_END + 9 * HOUR, since=MONTH, until=MONTH_END)
    assert found.total.costs == {"EUR": 15.0}
    assert found.total.waste_costs == {"EUR": 15.0}
    assert found.previous is not None
    assert (found.previous.since, found.previous.until) == (from_text("2026-01-01T00:00:00Z"), MONTH)
    assert found.previous.costs == {"EUR": 10.0}
    assert found.forecast is None


def test_a_month_that_is_not_over() -> None:
    """A quarter of it cost 7 euros, an open run one more. Of the month before, as much is compared."""
    now = MONTH + (MONTH_END - MONTH) / 4
    open_run = UnfinishedRun(Origin("j", "default", {}), now - HOUR, now - HOUR, 1, {"runner": 1.0}, "EUR")
    found = cost_report(Ledger([run(MONTH, 7 * HOUR)], [open_run]), now, since=MONTH)
    assert found.forecast is not None
    assert found.forecast.until == MONTH_END
    assert found.forecast.costs == {"EUR": pytest.approx(7 + 1 + 3 * 7)}
    assert found.previous is not None
    assert found.previous.until - found.previous.since == pytest.approx(now - MONTH)


@pytest.mark.parametrize("since", [None, MONTH])
def test_a_forecast_has_the_runs_that_are_known_only_as_a_sum(since: float | None) -> None:
    """Half of them were in the month, for they are taken as spread evenly: 60 euros of 120, with a quarter to come."""
    now = MONTH + (MONTH_END - MONTH) * 3 / 4
    usage = Usage(1000, cost=120.0, currency="EUR")
    sums = EarlierRuns(Origin("j", "default", {}), usage, MONTH - (now - MONTH), now)
    found = cost_report(Ledger([], [], [sums]), now, since=since)
    assert found.forecast is not None
    assert found.forecast.costs == {"EUR": pytest.approx(60 + 60 / 3)}


def test_absurd_times() -> None:
    """A run of a wrong clock takes no steps, and the end of the calendar is no error."""
    odd = run(MONTH, 1e15)
    assert list(group(Ledger([odd]), ["day"])) == [("2026-02-01",)]
    late = from_text("9999-12-31T23:00:00Z")
    assert period_bounds("month", late)[0] < late
    assert cost_report(Ledger([run(MONTH, HOUR)]), MONTH_END, since=late).total.runs == 0

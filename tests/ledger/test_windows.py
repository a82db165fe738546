"""Windows, keys and filters of a report: runs are divided at borders, so that the reports of a year add up."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.core.cost_query import (
    CostWindow,
    group,
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
    assert parse_filter("pool=gpu") == ("pool", "gpu")
    assert key_of("dag", Origin("j", "p", {"airflow-dag": "etl"})) == "etl"
    for wrong in ("", "year", "label=", "job,", "job,year"):
        with pytest.raises(BadInputError, match="by: must be"):
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


def test_an_empty_window_is_refused() -> None:
    """Its borders were confused."""
    with pytest.raises(BadInputError, match="until: must be after since"):
        cost_report(Ledger(), MONTH, since=MONTH, until=MONTH)

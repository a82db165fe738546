"""The numbers of a report, one by one: what it compares, with what, and what the present month will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from air_executor.core.always_on import Waits
from air_executor.core.cost_report import CostReport, Savings, cost_report, open_costs
from air_executor.core.ledger import EarlierRuns, Entry, Ledger, Origin, UnfinishedRun
from air_executor.errors import BadInputError
from air_executor.model.memo import Reused
from air_executor.model.times import from_text
from air_executor.model.usage import Usage
from tests.records import make_attempt

HOUR = 3600.0
DAY = 24 * HOUR
MONTH = from_text("2026-02-01T00:00:00Z")
"""The first moment of a month of 28 days."""
ORIGIN = Origin("j", "default", {"team": "a"})


def run(begin: float, end: float, currency: str | None = "EUR", **more: Any) -> Entry:  # noqa: ANN401 - as in the record
    """Return a run that was ready half a second before `begin`, in seconds of the month; it cost one per hour."""
    cost = 0.0 if currency is None else (end - begin) / HOUR
    price = None if currency is None else {"runner": 1.0}
    fields = {"cost": cost, "price": price, "currency": currency, **more}
    attempt = make_attempt(1, 0, MONTH + begin, 0.0, end - begin, 0.0, "ok", 0, **fields)
    return Entry(ORIGIN, attempt, MONTH + begin - 0.5, 0.5, followed=False, requested={"cpu": 4})


def still_open(begin: float, currency: str | None = "EUR") -> UnfinishedRun:
    """Return an open run that was ready two seconds before; it costs two per hour."""
    price = None if currency is None else {"runner": 2.0}
    return UnfinishedRun(ORIGIN, MONTH + begin, MONTH + begin - 2, 2, price, currency)


def sums(begin: float, end: float, **costs: float) -> EarlierRuns:
    """Return three runs that are known only as a sum."""
    (currency, cost), *others = costs.items()
    usage = Usage(3, 60.0, work_seconds=60.0, cost=cost, currency=currency, other_costs=dict(others))
    return EarlierRuns(ORIGIN, usage, MONTH + begin, MONTH + end)


def report(
    ledger: Ledger,
    now: float,
    since: float | None = None,
    until: float | None = None,
    **more: Any,  # noqa: ANN401 - as of `cost_report`
) -> CostReport:
    """Return a report whose times are seconds of the month."""
    begin, end = (None if at is None else MONTH + at for at in (since, until))
    return cost_report(ledger, MONTH + now, since=begin, until=end, **more)


ONE = Ledger([run(10, 20)])
TWO = Ledger([run(10, 20), run(10, 20)])
WITH_OPEN = Ledger([run(10, 20)], [still_open(15)])
STEPPED = Ledger([run(10, 20, clock_stepped=True), run(30, 35), run(15, 25)])


@pytest.mark.parametrize(
    ("ledger", "asked", "expected"),
    [
        (ONE, {"now": 50}, (1, 9.5, 20, 10)),
        (ONE, {"now": 18}, (1, 9.5, 18, 8.5)),
        (ONE, {"now": 50, "since": 0}, (1, 9.5, 50, 10)),
        (ONE, {"now": 50, "since": 15}, (1, 15, 50, 10)),
        (ONE, {"now": 50, "until": 30}, (1, 9.5, 30, 10)),
        (ONE, {"now": 25, "until": 30}, (1, 9.5, 25, 10)),
        (ONE, {"now": 50, "since": 5, "until": 30}, (1, 9.5, 30, 10)),
        (WITH_OPEN, {"now": 50}, (2, 9.5, 50, 45)),
        (Ledger((), [still_open(15)]), {"now": 50}, (1, 13, 50, 35)),
        (Ledger((), [still_open(15)]), {"now": 10}, (1, 13, 13, 0)),
        (TWO, {"now": 50}, (2, 9.5, 20, 20)),
        (TWO, {"now": 50, "pool_size": 1}, (1, 9.5, 29.5, 20)),
        (TWO, {"now": 22, "pool_size": 1}, (1, 9.5, 29.5, 20)),
        (TWO, {"now": 22, "pool_size": 1, "since": 0}, (1, 9.5, 22, 12.5)),
        (TWO, {"now": 22, "pool_size": 3}, (3, 9.5, 20, 20)),
        (STEPPED, {"now": 50}, (1, 29.5, 35, 5)),
        (STEPPED, {"now": 50, "since": 32}, (1, 32, 50, 5)),
    ],
)
def test_the_pool_that_runs_are_compared_with(
    ledger: Ledger, asked: Mapping[str, Any], expected: tuple[float, ...]
) -> None:
    """It exists from the first run on, or from the begin of the window, until now, if something runs or a window ends.

    Otherwise until the last run has ended. What was before the clock was set is not compared.
    """
    found = report(ledger, **asked)
    pool = found.always_on
    assert pool is not None
    assert [pool.size, pool.start - MONTH, pool.end - MONTH, pool.busy_seconds] == [*expected]
    assert found.size_given is ("pool_size" in asked)


def test_without_a_run_there_is_no_pool() -> None:
    """Nor a price, nor anything to compare with."""
    found = report(Ledger(), 50)
    assert (found.always_on, found.hour_price, found.cost_of(1.0), found.previous, found.forecast) == (None,) * 5
    assert (found.waits, found.used_seconds, found.used_work) == (Waits(0.0, 0.0), 0.0, 0.0)
    assert report(Ledger([run(10, 20, clock_stepped=True)]), 50).always_on is None


def test_what_is_compared() -> None:
    """The runs after the clock was set, and open ones, whose seconds until now, or the window's end, are all work."""
    entry = run(10, 20)
    ledger = Ledger([run(0, 5, clock_stepped=True), entry], [still_open(15), still_open(40)], [sums(0, 1, EUR=5.0)])
    found = report(ledger, 60, until=30)
    assert (found.compared.runs, found.compared.runner_seconds, found.waits) == (1, 10.0, Waits(1.25, 2.0))
    assert (found.open_runs, found.open_seconds) == (1, 15.0)
    assert found.open_costs == pytest.approx({"EUR": 30 / HOUR})
    assert (found.used_seconds, found.used_work) == (25.0, 25.0)
    assert (found.by, found.since, found.until, found.currency) == (("job",), None, MONTH + 30, "EUR")
    assert (found.total.runs, list(found.groups), found.groups["j",].runs) == (5, [("j",)], 5)


@pytest.mark.parametrize(
    ("entries", "asked", "price", "currency"),
    [
        ([run(10, 20), run(30, 40)], {}, 1.0, "EUR"),
        ([run(10, 20), run(30, 40, cost=30 / HOUR)], {}, 2.0, "EUR"),
        ([run(10, 20), run(30, 40, None)], {}, None, "EUR"),
        ([run(10, 20), run(30, 40, "USD")], {}, None, "USD"),
        ([run(10, 20, ""), run(30, 40, "")], {}, 1.0, ""),
        ([run(10, 20, cost=0.0)], {}, 0.0, None),
        ([run(10, 10)], {}, None, None),
        ([run(10, 10.5)], {}, 1.0, "EUR"),
        ([run(10, 20), run(15, 60, "USD")], {"until": 30}, None, "USD"),
        ([run(10, 20, cost=0.0), run(15, 60, "USD")], {"until": 30}, 0.0, "USD"),
    ],
)
def test_the_mean_price_of_an_hour(
    entries: Sequence[Entry], asked: Mapping[str, Any], price: float | None, currency: str | None
) -> None:
    """In the currency of the report, if all that is compared was paid in it, or was free."""
    found = report(Ledger(entries, (), [sums(0, 5, CHF=1.0)] if currency == "EUR" else ()), 100, **asked)
    assert (found.hour_price, found.currency) == (None if price is None else pytest.approx(price), currency)
    assert found.cost_of(HOUR / 2) == (None if price is None else pytest.approx(price / 2))


def test_advice_is_given_by_label_or_by_job() -> None:
    """Where several keys are asked for, by job."""
    ledger = Ledger([run(10 * n, 10 * n + 5, cpu=1.0) for n in range(20)])
    keys = ("label=team", "job", "pool", "label=team,label=other")
    assert [[one.group for one in report(ledger, 900, by=by).advice] for by in keys] == [["a"], ["j"], ["j"], ["j"]]


def test_what_was_saved() -> None:
    """Tasks, and by currency what the runs had cost whose results they had."""
    costs = [("EUR", 1.5), ("USD", 2.5), ("EUR", 3.5), (None, 0.0)]
    reused = [
        (MONTH + at, Reused(key="0" * 16, job="other", run="1-a", seconds=10.0 * at, cost=cost, currency=currency))
        for at, (currency, cost) in enumerate(costs, 1)
    ]
    assert report(Ledger(reused=reused), 50).reused == Savings(4, 100.0, {"EUR": 5.0, "USD": 2.5})
    assert report(Ledger(reused=reused), 50, since=3).reused == Savings(2, 70.0, {"EUR": 3.5})


def test_what_open_runs_have_cost() -> None:
    """From their begin, or a later moment, until now; one without a price costs nothing."""
    opened = [still_open(0), still_open(900), still_open(0, "USD"), still_open(0, None), still_open(1800, "")]
    ledger = Ledger((), opened)
    assert open_costs(ledger, MONTH + HOUR) == {"EUR": 3.5, "USD": 2.0, "": 1.0}
    assert open_costs(ledger, MONTH + HOUR, MONTH + HOUR / 2) == {"EUR": 2.0, "USD": 1.0, "": 1.0}
    nameless = UnfinishedRun(ORIGIN, MONTH, MONTH, 1, {"runner": 4.0})
    assert open_costs(Ledger((), [nameless]), MONTH + HOUR) == {"": 4.0}


@pytest.mark.parametrize(
    ("since", "until", "now", "before", "before_end"),
    [
        ("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z", None, "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", None, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("2026-03-01T00:00:00Z", None, "2026-03-05T06:00:00Z", "2026-02-01T00:00:00Z", "2026-02-05T06:00:00Z"),
        (
            "2026-03-01T00:00:00Z",
            "2026-04-01T00:00:00Z",
            "2026-03-05T06:00:00Z",
            "2026-02-01T00:00:00Z",
            "2026-03-01T00:00:00Z",
        ),
        ("2026-03-01T00:00:00Z", "2026-03-30T00:00:00Z", None, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("2026-03-01T00:00:00Z", "2026-04-02T00:00:00Z", None, "2026-01-28T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z", None, "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"),
        ("2026-03-02T00:00:00Z", None, "2026-03-02T01:00:00Z", "2026-03-01T23:00:00Z", "2026-03-02T00:00:00Z"),
        ("1970-01-01T00:10:00Z", "1970-01-02T00:00:00Z", None, "1970-01-01T00:00:00Z", "1970-01-01T00:10:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z", None, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ],
)
def test_the_window_before(since: str, until: str | None, now: str | None, before: str, before_end: str) -> None:
    """It is as long; of a month, or of as much of it as has passed, it is that of the month before."""
    begin, end = from_text(before), from_text(before_end)
    attempts = [
        make_attempt(1, 0, at, 0.0, 60.0, 0.0, "ok", 0, cost=cost, price={"runner": 1.0}, currency="EUR")
        for at, cost in ((max(0.0, begin - 60.0), 1.0), (begin, 2.0), (end, 4.0))
    ]
    entries = [Entry(ORIGIN, one, one.spawned, 0.0, followed=False, requested={}) for one in attempts]
    ledger = Ledger(entries, (), [EarlierRuns(ORIGIN, Usage(1, cost=8.0, currency="EUR"), begin, begin)])
    found = cost_report(
        ledger,
        from_text(now or "2026-12-01T00:00:00Z"),
        since=from_text(since),
        until=None if until is None else from_text(until),
    ).previous
    assert found is not None
    assert (found.since, found.until) == (begin, end)
    if begin > 0:
        assert (found.costs, found.runner_seconds) == ({"EUR": 2.0}, 60.0)


FEBRUARY = 28 * DAY


@pytest.mark.parametrize(
    ("ledger", "asked", "costs"),
    [
        (Ledger([run(0, 7 * DAY)]), {"now": 7 * DAY}, {"EUR": 4 * 7 * 24}),
        (Ledger([run(7 * DAY, 14 * DAY)]), {"now": 14 * DAY}, {"EUR": 3 * 7 * 24}),
        (Ledger([run(0, 7 * DAY)]), {"now": 14 * DAY, "since": 0}, {"EUR": 2 * 7 * 24}),
        (Ledger([run(0, 7 * DAY)]), {"now": 14 * DAY, "since": 0, "until": FEBRUARY}, {"EUR": 2 * 7 * 24}),
        (Ledger([run(-7 * DAY, 7 * DAY)]), {"now": 7 * DAY}, {"EUR": 4 * 7 * 24}),
        (
            Ledger([run(0, 7 * DAY), run(0, 7 * DAY, "USD", cost=5.0)]),
            {"now": 7 * DAY},
            {"EUR": 4 * 7 * 24, "USD": 20.0},
        ),
        (Ledger([run(0, 7 * DAY)], [still_open(6 * DAY)]), {"now": 7 * DAY}, {"EUR": 4 * 7 * 24 + 2 * 24}),
        (Ledger([run(-DAY, DAY)], [still_open(-DAY)]), {"now": DAY, "since": 0}, {"EUR": 28 * 24 + 2 * 24}),
        (Ledger([run(0, DAY)]), {"now": DAY, "until": DAY}, None),
        (Ledger([run(0, DAY)]), {"now": DAY, "until": DAY - 1}, None),
        (Ledger([run(0, DAY)]), {"now": DAY, "since": 2 * DAY}, None),
        (Ledger([run(0, DAY)]), {"now": 0}, None),
        (Ledger((), (), [sums(0, 7 * DAY, EUR=7.0)]), {"now": DAY, "since": DAY}, None),
        (Ledger((), (), [sums(0, 7 * DAY, EUR=7.0)]), {"now": DAY, "since": 2 * DAY}, None),
        (Ledger([run(0, 0.5)]), {"now": 0.5}, {"EUR": 28 * 24}),
        (Ledger([run(-7 * DAY, -5 * DAY)]), {"now": 7 * DAY}, {"EUR": 48 / 14 * 21}),
        (Ledger([run(26 * DAY, 30 * DAY)]), {"now": 27 * DAY}, {"EUR": 48 + 96}),
        (Ledger([run(0, DAY, None)]), {"now": 2 * DAY}, None),
        (Ledger((), [still_open(0)]), {"now": 2 * DAY}, None),
        (Ledger((), (), [sums(0, 7 * DAY, EUR=7.0)]), {"now": 14 * DAY}, {"EUR": 14.0}),
        (Ledger((), (), [sums(-7 * DAY, 7 * DAY, EUR=14.0)]), {"now": 7 * DAY}, {"EUR": 7 + 21.0}),
        (
            Ledger((), (), [sums(-7 * DAY, 7 * DAY, EUR=14.0, USD=2.0)]),
            {"now": 14 * DAY, "since": 0},
            {"EUR": 14.0, "USD": 2.0},
        ),
        (Ledger((), (), [sums(7 * DAY, 99 * DAY, EUR=7.0)]), {"now": 14 * DAY}, {"EUR": 21.0}),
        (Ledger((), (), [sums(7 * DAY, 7 * DAY, EUR=7.0)]), {"now": 14 * DAY}, {"EUR": 21.0}),
        (Ledger((), (), [sums(-9 * DAY, -7 * DAY, EUR=7.0)]), {"now": 14 * DAY, "since": 0}, {"EUR": 0.0}),
        (Ledger([run(0, 7 * DAY)], (), [sums(-DAY, 0, EUR=8.0)]), {"now": 7 * DAY}, {"EUR": 168 + 176 / 8 * 21}),
        (Ledger([run(0, 7 * DAY)], (), [EarlierRuns(ORIGIN, Usage(1))]), {"now": 7 * DAY}, {"EUR": 4 * 7 * 24}),
    ],
)
def test_the_cost_of_the_present_month(
    ledger: Ledger, asked: Mapping[str, Any], costs: dict[str, float] | None
) -> None:
    """What it has cost, and for the rest of it the mean rate of the window; open runs until now.

    Runs that are known only as a sum are spread evenly over their time.
    """
    found = report(ledger, **asked).forecast
    if costs is None:
        assert found is None
    else:
        assert found is not None
        assert found.until == MONTH + FEBRUARY
        assert found.costs == pytest.approx(costs)


def test_an_empty_window_is_refused() -> None:
    """Its borders were confused."""
    for until in (5, 10):
        with pytest.raises(BadInputError, match=r"^until: must be after since$"):
            report(ONE, 50, since=10, until=until)
    assert report(ONE, 50, since=10, until=10.5).total.runs == 0


def test_runs_that_may_have_been_in_the_window() -> None:
    """Are counted where it is said that they are missing."""
    ledger = Ledger((), (), [sums(0, 20, EUR=1.0)])
    assert [report(ledger, 50, since=at).undated_runs for at in (0, 10, 30)] == [0, 3, 0]

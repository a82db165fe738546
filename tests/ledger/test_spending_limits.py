"""Budgets: what the manager sums as runs end is what a report finds in the ledger, over the borders of periods."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.core.ledger import Entry, Ledger, Origin, UnfinishedRun
from air_executor.core.spending_limits import Spending, SpendingLimit, SpendingMeter, spendings
from air_executor.model.times import from_text
from air_executor.model.usage import Moments
from tests.records import make_attempt

HOUR = 3600.0
SUNDAY = from_text("2026-02-01T00:00:00Z")
"""The last day of a week, and the first one of a month."""
LIMITS = [
    SpendingLimit(None, 10.0, "month", "EUR"),
    SpendingLimit(("pool", "gpu"), 5.0, "day", "EUR", stops=True),
    SpendingLimit(("label=team", "ml"), 5.0, "week", "EUR"),
]
RUNS = st.tuples(
    st.floats(-40 * HOUR, 40 * HOUR),
    st.floats(0, 30 * HOUR),
    st.sampled_from(["gpu", "default"]),
    st.sampled_from([{}, {"team": "ml"}]),
    st.sampled_from(["EUR", "EUR", "USD"]),
)


def entry(at: float, seconds: float, pool: str, labels: dict[str, str], currency: str) -> Entry:
    """Return a run of one unit of money per hour."""
    attempt = make_attempt(
        1, 0, SUNDAY + at, 0.0, seconds, 0.0, "ok", 0, cost=seconds / HOUR, price={"runner": 1.0}, currency=currency
    )
    return Entry(Origin("j", pool, labels), attempt, SUNDAY + at, 0.0, followed=False, requested={})


def count(meter: SpendingMeter, one: Entry) -> None:
    """Tell the meter of a run at the moment of its end."""
    run = one.attempt
    gone = run.gone_at
    meter.ended(one.origin, Moments(run.spawned, run.spawned, gone, gone), run.cost, run.currency, gone)


@given(st.lists(RUNS, max_size=8), st.integers(0, 8))
@settings(max_examples=60)
def test_the_sums_are_those_of_the_ledger(
    runs: list[tuple[float, float, str, dict[str, str], str]], known: int
) -> None:
    """However many of the runs had ended when the manager started."""
    entries = sorted((entry(*run) for run in runs), key=lambda one: one.attempt.gone_at)
    meter = SpendingMeter(LIMITS)
    began = entries[:known]
    meter.begin(Ledger(began), began[-1].attempt.gone_at if began else SUNDAY - 50 * HOUR)
    for one in entries[known:]:
        count(meter, one)
    now = SUNDAY + 71 * HOUR
    if entries:
        now = max(entries[-1].attempt.gone_at, SUNDAY)
    found = meter.used([], now)
    expected = spendings(LIMITS, Ledger(entries), now)
    assert [(one.limit, one.since, one.until) for one in found] == [(x.limit, x.since, x.until) for x in expected]
    exact = 1e-8  # moments are kept in microseconds
    assert [one.used for one in found] == pytest.approx([one.used for one in expected], abs=exact)


def test_open_runs_count_with_what_they_have_cost_in_the_period() -> None:
    """Not with what they cost the day before, and not in another pool, or currency."""
    opened = [
        UnfinishedRun(Origin("j", "gpu", {}), SUNDAY - HOUR, SUNDAY - HOUR, 1, {"runner": 2.0}, "EUR"),
        UnfinishedRun(Origin("j", "gpu", {}), SUNDAY, SUNDAY, 2, {"runner": 2.0}, "USD"),
        UnfinishedRun(Origin("j", "default", {}), SUNDAY, SUNDAY, 3, {"runner": 2.0}, "EUR"),
    ]
    meter = SpendingMeter(LIMITS)
    meter.begin(Ledger(), SUNDAY)
    used = [one.used for one in meter.used(opened, SUNDAY + HOUR)]
    assert used == pytest.approx([4.0, 2.0, 0.0])
    assert used == [one.used for one in spendings(LIMITS, Ledger((), opened), SUNDAY + HOUR)]


@pytest.mark.parametrize(
    ("used", "stops", "why"),
    [
        (4.99, True, None),
        (5.0, False, None),
        (
            5.0,
            True,
            "the budget pool=gpu is used up (5.00 of 5.00 EUR for this day); the next one begins on 2026-02-02",
        ),
    ],
)
def test_only_a_hard_budget_that_is_used_up_refuses(used: float, why: str | None, *, stops: bool) -> None:
    """With what is used, and until when."""
    limit = SpendingLimit(("pool", "gpu"), 5.0, "day", "EUR", stops=stops)
    said = Spending(limit, SUNDAY, SUNDAY + 24 * HOUR, used).refusal()
    assert said == why if why is None else (said or "").startswith(why)

"""A report as data: each number under its name, readable again by the client of a server; its groups as a table."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import Any

import pytest

from air_executor.core.advice import Advice
from air_executor.core.always_on import AlwaysOnPool, Waits
from air_executor.core.cost_query import CostGroup
from air_executor.core.cost_report import CostReport, Forecast, Previous, Savings
from air_executor.core.cost_tables import as_csv, as_record, read_report, sums_record
from air_executor.core.job_cost import CostSums
from air_executor.core.spending_limits import Spending, SpendingLimit
from air_executor.model.times import from_text

BEGIN = from_text("2026-02-01T00:00:00Z")
END = from_text("2026-03-01T00:00:00Z")
NOTHING = CostReport(
    by=("job",),
    since=None,
    until=None,
    groups={},
    total=CostSums(),
    currency=None,
    open_runs=0,
    open_seconds=0.0,
    open_costs={},
    undated_runs=0,
    compared=CostSums(),
    waits=Waits(0.0, 0.0),
    always_on=None,
    size_given=False,
    hour_price=None,
    advice=[],
    reused=Savings(0, 0.0, {}),
    budgets=[],
)
"""The report of a directory without runs."""
EUROS = CostSums(
    runs=5,
    succeeded=3,
    start_seconds=1.2500014,
    work_seconds=20.6000014,
    finish_seconds=0.7500014,
    cpu_seconds=9.5000014,
    node_wait_seconds=4.2500014,
    waste={"failed": 1.5000014, "retried": 2.5000014, "cancelled": 3.5000014, "lost": 4.5000014},
    waste_costs={"EUR": 0.5000000000014},
    costs={"EUR": 6.5000000000014},
    reported={"rows": 7.5},
    unpriced=1,
    clock_stepped=2,
    earlier=4,
    first_spawned=BEGIN,
    last_gone=BEGIN + 30.5,
    peak_runners=6,
)
EUROS_RECORD: dict[str, Any] = {
    "runner_seconds": 22.600004,
    "work_seconds": 20.600001,
    "start_seconds": 1.250001,
    "finish_seconds": 0.750001,
    "idle_seconds": 2.000003,
    "cpu_seconds": 9.500001,
    "node_wait_seconds": 4.250001,
    "efficiency": 0.911504,
    "runs": 5,
    "succeeded": 3,
    "waste_seconds": 12.000006,
    "waste_failed_seconds": 1.500001,
    "waste_retried_seconds": 2.500001,
    "waste_cancelled_seconds": 3.500001,
    "waste_lost_seconds": 4.500001,
    "waste_cost": 0.500000000001,
    "cost": 6.500000000001,
    "currency": "EUR",
    "cost_per_success": 2.166666666667,
    "reported": {"rows": 7.5},
    "unpriced_runs": 1,
    "clock_stepped_runs": 2,
    "earlier_runs": 4,
    "first_spawned_at": "2026-02-01T00:00:00.000Z",
    "last_gone_at": "2026-02-01T00:00:30.500Z",
    "peak_runners": 6,
}
NO_RECORD: dict[str, Any] = {
    **dict.fromkeys(EUROS_RECORD, 0),
    **dict.fromkeys(("efficiency", "currency", "cost_per_success", "first_spawned_at", "last_gone_at")),
    "reported": {},
}
POOL = AlwaysOnPool(2, BEGIN, BEGIN + 50.2500014, 40.1250014, Waits(1.5000014, 2.5000014))
ADVICE = Advice("j", "cpu", 2.0, 20, 0.4000014, 0.5000014, 0.6000014)
FULL = replace(
    NOTHING,
    by=("job", "label=team"),
    since=BEGIN,
    until=END,
    groups={("j", "a"): EUROS, ("j", None): CostSums()},
    total=EUROS,
    currency="EUR",
    open_runs=7,
    open_seconds=8.5000014,
    open_costs={"EUR": 0.7500000000014},
    undated_runs=9,
    waits=Waits(3.5000014, 4.5000014),
    always_on=POOL,
    size_given=True,
    hour_price=37.013,
    advice=[ADVICE],
    reused=Savings(10, 11.5000014, {"EUR": 0.1250000000014}),
    previous=Previous(BEGIN - 86_400, BEGIN, 12.5000014, {"EUR": 1.7500000000014}),
    forecast=Forecast(END, {"EUR": 13.5000000000014}),
    budgets=[
        Spending(SpendingLimit(None, 90.0, "month", "EUR"), BEGIN, END, 14.5000000000014),
        Spending(SpendingLimit(("label=team", "a"), 5.0, "day", "CHF", stops=True), BEGIN, BEGIN + 86_400, 1.0),
    ],
)
FULL_RECORD: dict[str, Any] = {
    "by": "job,label=team",
    "since": "2026-02-01T00:00:00.000Z",
    "until": "2026-03-01T00:00:00.000Z",
    "groups": [{"key": ["j", "a"], **EUROS_RECORD}, {"key": ["j", None], **NO_RECORD, "currency": "EUR"}],
    "total": EUROS_RECORD,
    "open": {"runs": 7, "runner_seconds": 8.500001, "costs": {"EUR": 0.750000000001}},
    "cached": {"tasks": 10, "saved_runner_seconds": 11.500001, "saved_costs": {"EUR": 0.125000000001}},
    "previous": {
        "since": "2026-01-31T00:00:00.000Z",
        "until": "2026-02-01T00:00:00.000Z",
        "runner_seconds": 12.500001,
        "costs": {"EUR": 1.750000000001},
    },
    "forecast": {"until": "2026-03-01T00:00:00.000Z", "costs": {"EUR": 13.500000000001}},
    "budgets": [
        {
            "name": "all",
            "period": "month",
            "since": "2026-02-01T00:00:00.000Z",
            "until": "2026-03-01T00:00:00.000Z",
            "amount": 90.0,
            "used": 14.500000000001,
            "currency": "EUR",
            "stops": False,
        },
        {
            "name": "label=team=a",
            "period": "day",
            "since": "2026-02-01T00:00:00.000Z",
            "until": "2026-02-02T00:00:00.000Z",
            "amount": 5.0,
            "used": 1.0,
            "currency": "CHF",
            "stops": True,
        },
    ],
    "undated_runs": 9,
    "compared": {**NO_RECORD, "currency": "EUR"},
    "waits": {"mean": 3.500001, "p95": 4.500001},
    "pool": {
        "size": 2,
        "given": True,
        "from": "2026-02-01T00:00:00.000Z",
        "to": "2026-02-01T00:00:50.250Z",
        "window_seconds": 50.250001,
        "runner_seconds": 100.500003,
        "busy_seconds": 40.125001,
        "idle_seconds": 60.375001,
        "waits": {"mean": 1.500001, "p95": 2.500001},
        "cost": 1.033279612749,
        "used_seconds": 8.500001,
        "used_cost": 0.08739181995,
    },
    "advice": [
        {
            "key": "j",
            "resource": "cpu",
            "requested": 2.0,
            "runs": 20,
            "p95": 0.400001,
            "most": 0.500001,
            "enough": 0.600001,
            "verdict": "less",
        }
    ],
    "unreadable": [{"id": "broken", "problem": "not JSON"}],
}


def test_a_report_as_data() -> None:
    """Seconds are written to the microsecond, money to twelve decimals, times as text."""
    assert as_record(FULL, [("broken", "not JSON")]) == FULL_RECORD


def test_a_report_without_runs_as_data() -> None:
    """What there is none of is null; one key is no list."""
    found = as_record(replace(NOTHING, groups={("j",): CostSums()}), [])
    assert (found["groups"], found["total"]) == ([{"key": "j", **NO_RECORD}], NO_RECORD)
    assert [name for name, value in found.items() if value is None] == [
        "since",
        "until",
        "previous",
        "forecast",
        "pool",
    ]
    assert as_record(replace(FULL, hour_price=None), [])["pool"]["cost"] is None


@pytest.mark.parametrize(
    ("costs", "wasted", "currency", "expected"),
    [
        ({}, {}, "EUR", {"cost": 0.0, "waste_cost": 0.0, "cost_per_success": 0.0}),
        ({}, {}, None, {"cost": 0.0, "waste_cost": 0.0, "cost_per_success": None}),
        ({"": 3.0}, {"": 1.5}, None, {"cost": 3.0, "waste_cost": 1.5, "cost_per_success": None}),
        (
            {"EUR": 3.0, "USD": 2.0000000000014},
            {"EUR": 1.5, "USD": 0.5000000000014},
            "EUR",
            {
                "cost": 3.0,
                "waste_cost": 1.5,
                "cost_per_success": None,
                "other_costs": {"USD": 2.000000000001},
                "other_waste_costs": {"USD": 0.500000000001},
            },
        ),
        (
            {"USD": 2.0},
            {"USD": 0.5},
            "EUR",
            {
                "cost": 0.0,
                "waste_cost": 0.0,
                "cost_per_success": None,
                "other_costs": {"USD": 2.0},
                "other_waste_costs": {"USD": 0.5},
            },
        ),
    ],
)
def test_money(
    costs: dict[str, float], wasted: dict[str, float], currency: str | None, expected: dict[str, object]
) -> None:
    """Of one currency, and by name of all others."""
    found = sums_record(CostSums(runs=2, succeeded=2, costs=costs, waste_costs=wasted), currency)
    assert {name: value for name, value in found.items() if "cost" in name} == expected
    assert found["currency"] == currency


def exact(
    costs: dict[str, float] | None = None, waste_costs: dict[str, float] | None = None, unpriced: int = 0
) -> CostSums:
    """Return sums of three runs that no digit is cut off from when they are written."""
    return replace(
        EUROS,
        runs=3,
        start_seconds=1.5,
        work_seconds=2.5,
        finish_seconds=3.5,
        cpu_seconds=4.5,
        node_wait_seconds=5.5,
        waste={"failed": 1.0, "retried": 2.0, "cancelled": 3.0, "lost": 4.0},
        waste_costs=waste_costs or {},
        costs=costs or {},
        unpriced=unpriced,
    )


EXACT = replace(
    FULL,
    groups={("j", "a"): exact(costs={"EUR": 6.5}, waste_costs={"EUR": 0.5}), ("j", None): CostSums()},
    total=exact(costs={"EUR": 6.5}, waste_costs={"EUR": 0.5}),
    hour_price=36.0,
    compared=replace(exact(costs={"EUR": 1.25}), first_spawned=None, last_gone=None),
    open_seconds=3592.5,
    open_costs={"EUR": 0.75},
    waits=Waits(3.5, 4.5),
    always_on=replace(POOL, end=BEGIN + 50.25, busy_seconds=40.5, waits=Waits(1.5, 2.5)),
    advice=[Advice("j", "cpu", 2.0, 20, 0.4, 0.5, 0.6), Advice(None, "memory", 4096.0, 21, 1.0, 2.0, 3.0)],
    reused=Savings(10, 11.5, {"EUR": 0.125}),
    previous=Previous(BEGIN - 86_400, BEGIN, 12.5, {"EUR": 1.75}),
    forecast=Forecast(END, {"EUR": 13.5}),
    budgets=[replace(one, used=1.5) for one in FULL.budgets],
)


@pytest.mark.parametrize(
    "report",
    [
        NOTHING,
        EXACT,
        replace(EXACT, by=("job",), groups={("j",): exact(costs={"EUR": 1.0}), (None,): CostSums()}, size_given=False),
        replace(EXACT, hour_price=None, previous=None, forecast=None, budgets=[]),
        replace(EXACT, total=exact(costs={"EUR": 6.5, "USD": 2.5}, waste_costs={"EUR": 0.5, "USD": 0.25})),
        replace(EXACT, total=exact(costs={"USD": 2.5}, waste_costs={"USD": 0.25})),
        replace(EXACT, currency=None, total=exact(costs={"": 2.5}, waste_costs={"": 0.25})),
        replace(EXACT, total=exact(costs={"EUR": 0.0}, unpriced=2)),
        replace(EXACT, total=exact(unpriced=3)),
        replace(EXACT, currency=None, total=exact(unpriced=2)),
    ],
)
def test_a_client_reads_what_its_server_has_written(report: CostReport) -> None:
    """Everything of it."""
    assert read_report(as_record(report, [])) == report


def test_a_client_reads_what_an_earlier_server_has_written() -> None:
    """It compared nothing with the window before, had no forecast and no budgets, and did not know what waste costs."""
    record = as_record(replace(EXACT, until=None), [])
    for name in ("until", "previous", "forecast", "budgets"):
        del record[name]
    del record["total"]["waste_cost"]
    found = read_report(record)
    assert (found.until, found.previous, found.forecast, list(found.budgets)) == (None, None, None, [])
    assert (found.total.waste_costs, found.groups) == ({}, EXACT.groups)


def test_nothing_used_has_no_price() -> None:
    """A pool may be compared with no runner-second at all."""
    unused = replace(EXACT, open_seconds=0.0, compared=CostSums())
    assert read_report(as_record(unused, [])).hour_price is None
    assert read_report(as_record(replace(unused, open_seconds=0.5), [])).hour_price == 36.0


def test_groups_as_a_table() -> None:
    """A header, a line for each group, and a further one for each further currency; no cell begins a formula."""
    plain = CostSums(runs=1, succeeded=1, costs={"USD": 2.0})
    mixed = CostSums(
        runs=2, succeeded=2, costs={"CHF": 4.0, "USD": 1.0, "EUR": 8.0}, waste_costs={"CHF": 3.0, "USD": 0.5}
    )
    unpaid = CostSums(runs=4, unpriced=4)
    groups: dict[CostGroup, CostSums] = {
        ("a", "=x"): EUROS,
        ("b", None): plain,
        ("c", "@x,y"): mixed,
        ("d", "-x"): unpaid,
    }
    *lines, end = as_csv(replace(FULL, groups=groups)).split("\n")
    assert end == ""
    assert lines[0] == ",".join(["job", "label=team", *EUROS_RECORD])
    [first, *_] = csv.DictReader(lines)
    cells = {name: "" if value is None else str(value) for name, value in EUROS_RECORD.items()}
    assert first == {"job": "a", "label=team": "'=x", **cells, "reported": '{"rows": 7.5}'}
    columns = lines[0].split(",")
    money = [columns.index(name) for name in ("runs", "waste_cost", "cost", "currency", "cost_per_success")]
    rest = [line.replace('"\'@x,y"', "'@x").split(",") for line in lines[2:]]
    assert [(*row[:2], *(row[at] for at in money)) for row in rest] == [
        ("b", "", "1", "0.0", "2.0", "USD", "2.0"),
        ("c", "'@x", "2", "0.0", "8.0", "EUR", ""),
        ("c", "'@x", "", "3.0", "4.0", "CHF", ""),
        ("c", "'@x", "", "0.5", "1.0", "USD", ""),
        ("d", "'-x", "4", "0.0", "0.0", "EUR", ""),
    ]
    assert not any(row[at] for row in rest[2:4] for at in range(2, len(columns)) if at not in money)


def test_money_without_a_currency_in_a_table() -> None:
    """Has one line, as any other, with an empty cell."""
    lines = as_csv(replace(NOTHING, groups={("\tj",): CostSums(runs=1, costs={"": 2.0})})).splitlines()
    assert [line.split(",")[0] for line in lines] == ["job", "'\tj"]

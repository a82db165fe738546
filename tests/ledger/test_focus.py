"""Charges in the format of FOCUS: one for each job, day, price and set of labels, and all of the ledger's money."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.core.focus_export import COLUMNS, as_focus_csv, charges
from air_executor.core.ledger import Entry, Ledger, Origin
from air_executor.model.times import from_text
from tests.records import make_attempt

HOUR = 3600.0
BEGIN = from_text("2026-02-27T12:00:00Z")
"""A day and a half before the end of a month."""


def run(  # noqa: PLR0917 - what a run's charge depends on
    at: float,
    hours: float,
    price: float | None,
    job: str = "j",
    reason: str = "ok",
    labels: dict[str, str] | None = None,
) -> Entry:
    """Return a run that began so many hours after `BEGIN`; `price`: euros per hour."""
    spawned = BEGIN + at * HOUR
    money: dict[str, Any] = (
        {} if price is None else {"price": {"cpu": price / 4, "memory": price * 3 / 4}, "currency": "EUR"}
    )
    attempt = make_attempt(1, 0, spawned, 0.0, hours * HOUR, 0.0, reason, 0, cost=hours * (price or 0.0), **money)
    origin = Origin(job, "default", labels or {})
    return Entry(origin, replace(attempt, backend="docker"), spawned, 0.0, followed=False, requested={})


RUNS = st.builds(
    run,
    st.integers(0, 40),
    st.sampled_from([0.25, 3.0, 30.0]),
    st.sampled_from([None, 1.0, 2.0]),
    st.sampled_from(["one", "two"]),
    st.sampled_from(["ok", "error"]),
    st.sampled_from([{}, {"team": "a"}]),
)


def total(rows: list[dict[str, Any]], column: str) -> float:
    """Return the sum of a column."""
    return math.fsum(row[column] for row in rows)


@given(st.lists(RUNS, max_size=8))
def test_charges_add_up_to_the_ledger(runs: list[Entry]) -> None:
    """Money, time, waste and runs of all that has a price; no two rows are of the same thing."""
    rows: list[dict[str, Any]] = list(charges(Ledger(runs)))
    paid = [one for one in runs if one.attempt.price is not None]
    assert total(rows, "BilledCost") == pytest.approx(math.fsum(one.attempt.cost for one in paid))
    assert total(rows, "PricingQuantity") == pytest.approx(math.fsum(one.attempt.runner_seconds for one in paid) / HOUR)
    assert total(rows, "x_WasteCost") == pytest.approx(math.fsum(one.attempt.cost for one in paid if one.waste))
    assert total(rows, "x_Runs") == len(paid)
    keys = [(row["ChargePeriodStart"], row["ResourceId"], row["SkuPriceId"], row["Tags"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert [key[:2] for key in keys] == sorted(key[:2] for key in keys)
    for row in rows:
        assert row.keys() == set(COLUMNS)
        assert row["BilledCost"] == row["ContractedCost"] == row["EffectiveCost"] == row["ListCost"]
        assert row["ListCost"] == pytest.approx(row["ListUnitPrice"] * row["PricingQuantity"])
        begin, end = from_text(row["ChargePeriodStart"]), from_text(row["ChargePeriodEnd"])
        assert end - begin == 24 * HOUR
        assert from_text(row["BillingPeriodStart"]) <= begin < end <= from_text(row["BillingPeriodEnd"])


def test_one_charge() -> None:
    """All that it says, as CSV, with a run over midnight in two rows."""
    entry = run(10.0, 4.0, 0.5, "count", "error", {"team": "ä", "app": "x"})
    text = as_focus_csv(Ledger([entry]))
    assert "\r" not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [tuple(row) for row in rows] == [COLUMNS] * 2
    said = [{name: value for name, value in row.items() if value} for row in rows]
    first = {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "x_WasteCost"), "1"),
        **dict.fromkeys(("ContractedUnitPrice", "ListUnitPrice"), "0.5"),
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), "2"),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), "Hours"),
        **dict.fromkeys(("ProviderName", "PublisherName", "InvoiceIssuerName", "ServiceName"), "Air-Executor"),
        "BillingAccountId": "air-executor",
        "BillingAccountType": "State directory",
        "BillingCurrency": "EUR",
        "BillingPeriodStart": "2026-02-01T00:00:00Z",
        "BillingPeriodEnd": "2026-03-01T00:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeDescription": "Runners of job count",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": "2026-02-27T00:00:00Z",
        "ChargePeriodEnd": "2026-02-28T00:00:00Z",
        "PricingCategory": "Standard",
        "ResourceId": "count",
        "ResourceName": "count",
        "ResourceType": "Job",
        "ServiceCategory": "Compute",
        "ServiceSubcategory": "Containers",
        "SkuId": "docker-runner",
        "SkuMeter": "Runner Hours",
        "SkuPriceId": "docker-runner-0.5-EUR",
        "SubAccountId": "default",
        "SubAccountName": "default",
        "Tags": '{"app": "x", "team": "ä"}',
        "x_Runs": "0",
    }
    assert said[0] == first
    second = {"ChargePeriodStart": "2026-02-28T00:00:00Z", "ChargePeriodEnd": "2026-03-01T00:00:00Z", "x_Runs": "1"}
    assert said[1] == {**first, **second}


@pytest.mark.parametrize(
    ("backend", "sku", "category"),
    [
        ("kubernetes", "kubernetes-runner", "Containers"),
        ("local", "local-runner", "Other (Compute)"),
        (None, "local-runner", "Other (Compute)"),
    ],
)
def test_where_it_ran(backend: str | None, sku: str, category: str) -> None:
    """Runs of versions that noted neither backend nor currency were local, and their prices dollars."""
    entry = run(0.0, 1.0, 0.5)
    entry = replace(entry, attempt=replace(entry.attempt, backend=backend, currency=None))
    (row,) = charges(Ledger([entry]))
    assert (row["SkuId"], row["ServiceSubcategory"], row["BillingCurrency"]) == (sku, category, "USD")
    assert json.loads(str(row["Tags"])) == {}

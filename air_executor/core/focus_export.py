"""The ledger as charges of the FinOps Open Cost and Usage Specification (FOCUS), version 1.2.

A row is what the runs of one job with one price and the same labels used in one UTC day, so that no charge crosses the
border of a billing period, which is a month. Runs without a price are no charges. Pure; `report --focus` prints it.
Column names and allowed values: focus.finops.org, version 1.2.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

from air_executor.core.cost_query import period_bounds, pieces
from air_executor.core.ledger import Entry, Ledger
from air_executor.model.times import to_text

PROVIDER = "Air-Executor"
COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
    "x_Runs",
    "x_WasteCost",
)
HOURS = 3600.0


@dataclass(slots=True)
class _Charge:
    seconds: float = 0.0
    cost: float = 0.0
    runs: int = 0
    waste: float = 0.0

    def add(self, entry: Entry) -> None:
        self.seconds += entry.attempt.runner_seconds
        self.cost += entry.attempt.cost
        self.runs += entry.counts
        self.waste += entry.attempt.cost if entry.waste else 0.0


_Key = tuple[float, str, str, str, str, float, str]
"""Day, job, pool, backend, currency, price per hour, and labels."""


def _key(part: Entry) -> _Key:
    one, origin = part.attempt, part.origin
    labels = json.dumps(dict(sorted(origin.labels.items())), ensure_ascii=False)
    price = round(sum((one.price or {}).values()), 12)
    day, _ = period_bounds("day", one.spawned)
    return day, origin.job, origin.pool, one.backend or "local", one.currency or "USD", price, labels


def charges(ledger: Ledger) -> Iterator[dict[str, object]]:
    """Yield the rows, by day and job. Runs known only as a sum have no day and are left out."""
    found: dict[_Key, _Charge] = {}
    for entry in ledger.entries:
        if entry.attempt.price is not None:
            for part in pieces(entry, "day"):
                found.setdefault(_key(part), _Charge()).add(part)
    for (day, job, pool, backend, currency, price, labels), charge in sorted(found.items()):
        month, month_end = period_bounds("month", day)
        cost, hours = round(charge.cost, 12), round(charge.seconds / HOURS, 12)
        sku = f"{backend}-runner"
        yield {
            **dict.fromkeys(COLUMNS),
            **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
            **dict.fromkeys(("ContractedUnitPrice", "ListUnitPrice"), price),
            **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), hours),
            **dict.fromkeys(("ConsumedUnit", "PricingUnit"), "Hours"),
            **dict.fromkeys(("ProviderName", "PublisherName", "InvoiceIssuerName", "ServiceName"), PROVIDER),
            "BillingAccountId": "air-executor",
            "BillingAccountType": "State directory",
            "BillingCurrency": currency,
            "BillingPeriodStart": _time(month),
            "BillingPeriodEnd": _time(month_end),
            "ChargeCategory": "Usage",
            "ChargeDescription": f"Runners of job {job}",
            "ChargeFrequency": "Usage-Based",
            "ChargePeriodStart": _time(day),
            "ChargePeriodEnd": _time(period_bounds("day", day)[1]),
            "PricingCategory": "Standard",
            "ResourceId": job,
            "ResourceName": job,
            "ResourceType": "Job",
            "ServiceCategory": "Compute",
            "ServiceSubcategory": "Containers" if backend in {"docker", "kubernetes"} else "Other (Compute)",
            "SkuId": sku,
            "SkuMeter": "Runner Hours",
            "SkuPriceId": f"{sku}-{_decimal(price)}-{currency}",
            "SubAccountId": pool,
            "SubAccountName": pool,
            "Tags": labels,
            "x_Runs": charge.runs,
            "x_WasteCost": round(charge.waste, 12),
        }


def as_focus_csv(ledger: Ledger) -> str:
    """Return the charges as CSV with a header."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in charges(ledger):
        table.writerow({name: _decimal(one) if isinstance(one, float) else one for name, one in row.items()})
    return text.getvalue()


def _decimal(amount: float) -> str:
    """Return an amount without an exponent: the specification takes none of the form `1e-05`."""
    return f"{amount:.12f}".rstrip("0").rstrip(".")


def _time(at: float) -> str:
    """Return a time as the specification has it: UTC, to the second."""
    return f"{to_text(at)[:19]}Z"

"""The cost report as data, for `--json` and `--csv`. `report` does the layout for people.

Fields that `usage` in `state.json` also has carry the same names.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from air_executor.core.advice import Advice
from air_executor.core.always_on import AlwaysOnPool, Waits
from air_executor.core.cost_query import parse_filter, parse_keys
from air_executor.core.cost_report import CostReport, Forecast, Previous, Savings
from air_executor.core.job_cost import CostSums
from air_executor.core.ledger import WASTE
from air_executor.core.spending_limits import ALL, Spending, SpendingLimit
from air_executor.model.times import from_text, to_text

_MONEY = ("waste_cost", "cost", "currency", "cost_per_success")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def sums_record(one: CostSums, currency: str | None) -> dict[str, Any]:
    """Return sums as data; `other_costs` only if there are some."""
    per_success = None if currency is None else one.cost_per_success(currency)
    record: dict[str, Any] = {
        "runner_seconds": round(one.runner_seconds, 6),
        "work_seconds": round(one.work_seconds, 6),
        "start_seconds": round(one.start_seconds, 6),
        "finish_seconds": round(one.finish_seconds, 6),
        "idle_seconds": round(one.idle_seconds, 6),
        "cpu_seconds": round(one.cpu_seconds, 6),
        "node_wait_seconds": round(one.node_wait_seconds, 6),
        "efficiency": _rounded(one.efficiency),
        "runs": one.runs,
        "succeeded": one.succeeded,
        "waste_seconds": round(one.waste_seconds, 6),
        **{f"waste_{kind}_seconds": round(seconds, 6) for kind, seconds in one.waste.items()},
        "waste_cost": round(one.waste_costs.get(currency or "", 0.0), 12),
        "cost": round(one.costs.get(currency or "", 0.0), 12),
        "currency": currency,
        "cost_per_success": None if per_success is None else round(per_success, 12),
        "reported": one.reported,
        "unpriced_runs": one.unpriced,
        "clock_stepped_runs": one.clock_stepped,
        "earlier_runs": one.earlier,
        "first_spawned_at": _time(one.first_spawned),
        "last_gone_at": _time(one.last_gone),
        "peak_runners": one.peak_runners,
    }
    others = {name: round(cost, 12) for name, cost in one.costs.items() if name != (currency or "")}
    wasted = {name: round(cost, 12) for name, cost in one.waste_costs.items() if name != (currency or "")}
    record |= {"other_costs": others} if others else {}
    return record | {"other_waste_costs": wasted} if wasted else record


def as_record(found: CostReport, unreadable: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the whole report as data."""
    return {
        "by": ",".join(found.by),
        "since": _time(found.since),
        "until": _time(found.until),
        "groups": [
            {"key": name[0] if len(name) == 1 else list(name), **sums_record(one, found.currency)}
            for name, one in found.groups.items()
        ],
        "total": sums_record(found.total, found.currency),
        "open": {
            "runs": found.open_runs,
            "runner_seconds": round(found.open_seconds, 6),
            "costs": {name: round(cost, 12) for name, cost in found.open_costs.items()},
        },
        "cached": {
            "tasks": found.reused.tasks,
            "saved_runner_seconds": round(found.reused.seconds, 6),
            "saved_costs": {name: round(cost, 12) for name, cost in found.reused.costs.items()},
        },
        "previous": None if found.previous is None else _previous_record(found.previous),
        "forecast": None if found.forecast is None else _forecast_record(found.forecast),
        "budgets": [
            {
                "name": one.limit.name,
                "period": one.limit.period,
                "since": _time(one.since),
                "until": _time(one.until),
                "amount": one.limit.amount,
                "used": round(one.used, 12),
                "currency": one.limit.currency,
                "stops": one.limit.stops,
            }
            for one in found.budgets
        ],
        "undated_runs": found.undated_runs,
        "compared": sums_record(found.compared, found.currency),
        "waits": {"mean": round(found.waits.mean, 6), "p95": round(found.waits.p95, 6)},
        "pool": None if found.always_on is None else _pool_record(found, found.always_on),
        "advice": [
            {
                "key": one.group,
                "resource": one.resource,
                "requested": one.requested,
                "runs": one.runs,
                "p95": round(one.p95, 6),
                "most": round(one.most, 6),
                "enough": round(one.enough, 6),
                "verdict": one.verdict,
            }
            for one in found.advice
        ],
        "unreadable": [{"id": name, "problem": problem} for name, problem in unreadable],
    }


def _previous_record(one: Previous) -> dict[str, Any]:
    return {
        "since": _time(one.since),
        "until": _time(one.until),
        "runner_seconds": round(one.runner_seconds, 6),
        "costs": _amounts(one.costs),
    }


def _forecast_record(one: Forecast) -> dict[str, Any]:
    return {"until": _time(one.until), "costs": _amounts(one.costs)}


def _amounts(costs: Mapping[str, float]) -> dict[str, float]:
    return {name: round(cost, 12) for name, cost in costs.items()}


def _pool_record(found: CostReport, pool: AlwaysOnPool) -> dict[str, Any]:
    return {
        "size": pool.size,
        "given": found.size_given,
        "from": _time(pool.start),
        "to": _time(pool.end),
        "window_seconds": round(pool.window_seconds, 6),
        "runner_seconds": round(pool.runner_seconds, 6),
        "busy_seconds": round(pool.busy_seconds, 6),
        "idle_seconds": round(pool.idle_seconds, 6),
        "waits": {"mean": round(pool.waits.mean, 6), "p95": round(pool.waits.p95, 6)},
        "cost": _rounded(found.cost_of(pool.runner_seconds), 12),
        "used_seconds": round(found.used_seconds, 6),
        "used_cost": _rounded(found.cost_of(found.used_seconds), 12),
    }


def read_report(record: Mapping[str, Any]) -> CostReport:
    """Return the report that `as_record` has made data of."""
    currency = record["total"]["currency"]
    pool, size_given, hour_price = None, False, None
    if (raw := record["pool"]) is not None:
        pool = AlwaysOnPool(
            raw["size"], from_text(raw["from"]), from_text(raw["to"]), raw["busy_seconds"], Waits(**raw["waits"])
        )
        size_given = raw["given"]
        if raw["used_cost"] is not None and raw["used_seconds"] > 0:
            hour_price = raw["used_cost"] * 3600 / raw["used_seconds"]
    reused, by = record["cached"], parse_keys(record["by"])
    before, forecast = record.get("previous"), record.get("forecast")
    advice = ("resource", "requested", "runs", "p95", "most", "enough")
    return CostReport(
        by=by,
        since=_moment(record["since"]),
        until=_moment(record.get("until")),
        groups={(one["key"],) if len(by) == 1 else tuple(one["key"]): _read_sums(one) for one in record["groups"]},
        total=_read_sums(record["total"]),
        currency=currency,
        open_runs=record["open"]["runs"],
        open_seconds=record["open"]["runner_seconds"],
        open_costs=record["open"]["costs"],
        undated_runs=record["undated_runs"],
        compared=_read_sums(record["compared"]),
        waits=Waits(**record["waits"]),
        always_on=pool,
        size_given=size_given,
        hour_price=hour_price,
        reused=Savings(reused["tasks"], reused["saved_runner_seconds"], reused["saved_costs"]),
        previous=before
        and Previous(from_text(before["since"]), from_text(before["until"]), before["runner_seconds"], before["costs"]),
        forecast=forecast and Forecast(from_text(forecast["until"]), forecast["costs"]),
        budgets=[_read_spending(one) for one in record.get("budgets", ())],
        advice=[Advice(one["key"], *(one[name] for name in advice)) for one in record["advice"]],
    )


def _read_spending(one: Mapping[str, Any]) -> Spending:
    of = None if one["name"] == ALL else parse_filter(one["name"])
    limit = SpendingLimit(of, one["amount"], one["period"], one["currency"], one["stops"])
    return Spending(limit, from_text(one["since"]), from_text(one["until"]), one["used"])


def _read_sums(record: Mapping[str, Any]) -> CostSums:
    same = ("runs", "succeeded", "start_seconds", "work_seconds", "finish_seconds", "cpu_seconds", "node_wait_seconds")
    others = record.get("other_costs", {})
    free = record["currency"] is not None and not others and record["runs"] > record["unpriced_runs"]
    own = {record["currency"] or "": record["cost"]} if record["cost"] or free else {}
    return CostSums(
        **{name: record[name] for name in (*same, "reported", "peak_runners")},
        waste={kind: record[f"waste_{kind}_seconds"] for kind in WASTE},
        costs={**own, **others},
        waste_costs=({record["currency"] or "": record["waste_cost"]} if record.get("waste_cost") else {})
        | record.get("other_waste_costs", {}),
        unpriced=record["unpriced_runs"],
        clock_stepped=record["clock_stepped_runs"],
        earlier=record["earlier_runs"],
        first_spawned=_moment(record["first_spawned_at"]),
        last_gone=_moment(record["last_gone_at"]),
    )


def as_csv(found: CostReport) -> str:
    """Return the groups as CSV with a header, without a total.

    A group that was paid in several currencies has a further row for each, with nothing but its name and that money.
    """
    names = list(sums_record(CostSums(), None))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*found.by, *names])
    for group, one in found.groups.items():
        shown = [_cell(name) for name in group]
        first = found.currency if found.currency in one.costs or not one.costs else next(iter(one.costs))
        record = sums_record(one, first)
        table.writerow([*shown, *(_value(record[name]) for name in names)])
        for currency in [other for other in one.costs if other != (first or "")]:
            record = sums_record(one, currency)
            table.writerow([*shown, *(record[name] if name in _MONEY else None for name in names)])
    return text.getvalue()


def _value(value: Any) -> Any:  # noqa: ANN401 - JSON
    return json.dumps(value) if isinstance(value, dict) else value


def _cell(name: str | None) -> str:
    """Return a name as a cell: a spreadsheet treats some beginnings as a formula, and labels are arbitrary text."""
    return f"'{name}" if (name or "").startswith(_FORMULA) else name or ""


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else to_text(seconds)


def _moment(text: str | None) -> float | None:
    return None if text is None else from_text(text)


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else round(value, digits)

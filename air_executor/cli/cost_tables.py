"""The cost report as data, for `--json` and `--csv`. `report` does the layout for people.

Fields that `usage` in `state.json` also has carry the same names.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from air_executor.core.always_on import AlwaysOnPool
from air_executor.core.cost_report import CostReport
from air_executor.core.job_cost import CostSums
from air_executor.model.times import to_text

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
        "cost": round(one.costs.get(currency or "", 0.0), 12),
        "currency": currency,
        "cost_per_success": None if per_success is None else round(per_success, 12),
        "unpriced_runs": one.unpriced,
        "clock_stepped_runs": one.clock_stepped,
        "earlier_runs": one.earlier,
        "first_spawned_at": _time(one.first_spawned),
        "last_gone_at": _time(one.last_gone),
        "peak_runners": one.peak_runners,
    }
    others = {name: round(cost, 12) for name, cost in one.costs.items() if name != (currency or "")}
    return record | {"other_costs": others} if others else record


def as_record(found: CostReport, unreadable: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the whole report as data."""
    return {
        "by": found.by,
        "since": _time(found.since),
        "groups": [{"key": name, **sums_record(one, found.currency)} for name, one in found.groups.items()],
        "total": sums_record(found.total, found.currency),
        "open": {
            "runs": found.open_runs,
            "runner_seconds": round(found.open_seconds, 6),
            "costs": {name: round(cost, 12) for name, cost in found.open_costs.items()},
        },
        "undated_runs": found.undated_runs,
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


def as_csv(found: CostReport) -> str:
    """Return the groups as CSV with a header, without a total.

    A group that was paid in several currencies has a further row for each, with nothing but its name and that money.
    """
    names = [name for name in sums_record(CostSums(), None) if name != "other_costs"]
    text = io.StringIO()
    table = csv.DictWriter(text, [found.by, *names], extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for name, one in found.groups.items():
        shown = name or ""
        # A spreadsheet treats such a beginning as a formula, and labels are arbitrary text.
        shown = f"'{shown}" if shown.startswith(_FORMULA) else shown
        first = found.currency if found.currency in one.costs or not one.costs else next(iter(one.costs))
        table.writerow({found.by: shown, **sums_record(one, first)})
        for currency in [other for other in one.costs if other != (first or "")]:
            record = sums_record(one, currency)
            paid = {field: record[field] for field in ("cost", "currency", "cost_per_success")}
            table.writerow({found.by: shown, **paid})
    return text.getvalue()


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else to_text(seconds)


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else round(value, digits)

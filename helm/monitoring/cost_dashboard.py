"""The dashboard of what runners cost, beside an always-on pool."""

from __future__ import annotations

from helm.monitoring.expressions import (
    BAD,
    OK,
    PER_SECOND,
    POOL_SECONDS,
    RANGE,
    RATE,
    RUNNER_SECONDS,
    SCOPE,
    SPENT,
    SUCCEEDED,
    WARN,
    A,
    counter,
)
from helm.monitoring.grafana import Bars, Curves, Dashboard, Number, Query

COST = Dashboard(
    "cost",
    "Air-Executor / Cost",
    "Cost of runners compared with AIR_COST_ALWAYS_ON_WORKERS always-on workers at the same price per second.",
    [
        Number(
            "Spend today",
            "Cost of runners since midnight, open runs included. Empty without prices: set AIR_COST_*.",
            [Query(SPENT, "{{currency}}")],
            decimals=2,
            since="now/d",
            width=8,
        ),
        Number(
            "Spend this month",
            "Cost of runners since the month began, as far as Prometheus keeps data.",
            [Query(SPENT, "{{currency}}")],
            decimals=2,
            since="now/M",
            width=8,
        ),
        Number(
            "Spend last month",
            "Cost of runners in the whole month before, as far as Prometheus keeps data.",
            [Query(SPENT, "{{currency}}")],
            decimals=2,
            since="now/M",
            shift="1M/M",
            width=8,
        ),
        Number(
            "Cost per successful task",
            "Total cost, failures and retries included, divided by the number of successful tasks.",
            [Query(f"{SPENT} / scalar({SUCCEEDED})", "{{currency}}")],
            decimals=4,
            width=12,
        ),
        Number(
            "Runner time relative to the always-on pool",
            "Runner-seconds divided by those of the always-on pool over the same time. 100 %: equal cost.",
            [Query(f"{RUNNER_SECONDS} / {POOL_SECONDS}")],
            unit="percentunit",
            decimals=1,
            steps=((None, OK), (0.8, WARN), (1.0, BAD)),
            width=12,
        ),
        Curves(
            "Cost per hour, by pool",
            "Rate of spending. It is 0 while nothing runs.",
            [Query(f"{counter('cost_total', 'pool, currency', RATE, rate=True)} * 3600", "{{pool}} ({{currency}})")],
            decimals=4,
            stacked=True,
        ),
        Curves(
            "Runners and the always-on pool, per hour",
            "Cost per hour of runners, and of the pool, which exists all the time, at the same price per second.",
            [
                Query(f"{counter('cost_total', 'currency', RATE, rate=True)} * 3600", "runners ({{currency}})"),
                Query(
                    f"{PER_SECOND} * scalar({counter('baseline_pool_seconds_total', '', RATE, rate=True)}) * 3600",
                    "always-on pool ({{currency}})",
                ),
            ],
            decimals=4,
        ),
        Number(
            "Runners, whole range",
            "Cost of runners over the time range.",
            [Query(SPENT, "{{currency}}")],
            decimals=2,
        ),
        Number(
            "Runners, the range before",
            "Cost of runners over the time range before this one, which is as long.",
            [Query(SPENT.replace("]", f"] offset {RANGE}"), "{{currency}}")],
            decimals=2,
        ),
        Number(
            "Always-on pool, whole range",
            "Cost of the always-on pool over the same time at the same price per second.",
            [Query(f"{PER_SECOND} * scalar({POOL_SECONDS})", "{{currency}}")],
            decimals=2,
        ),
        Number(
            "Size of the always-on pool",
            "Number of workers in the comparison: AIR_COST_ALWAYS_ON_WORKERS. `air-executor report` finds the smallest "
            "size with the same waiting times.",
            [Query(f"max({A}baseline_pool_runners{SCOPE})")],
        ),
        Bars(
            "Budgets",
            "Used part of each budget in its present period. Empty without budgets: set AIR_COST_BUDGETS.",
            [
                Query(
                    f"max by (budget, period) ({A}budget_used{SCOPE} / ({A}budget_amount{SCOPE} > 0))",
                    "{{budget}} per {{period}}",
                )
            ],
            unit="percentunit",
        ),
        Curves(
            "Budgets over time",
            "What is used of each budget in its period, and the budget as a line.",
            [
                Query(
                    f"max by (budget, period, currency) ({A}budget_{part}{SCOPE})",
                    f"{{{{budget}}}} per {{{{period}}}}: {part} ({{{{currency}}}})",
                )
                for part in ("used", "amount")
            ],
            decimals=2,
        ),
        Number(
            "Cost of waste",
            "Cost of runs without success, at the mean price per runner-second.",
            [Query(f"{PER_SECOND} * scalar({counter('waste_seconds_total')})", "{{currency}}")],
            decimals=2,
        ),
        Bars(
            "Waste, by kind",
            "Runner-seconds of runs that failed, were retried, were cancelled, or were lost.",
            [Query(counter("waste_seconds_total", "kind"), "{{kind}}")],
            unit="s",
            width=8,
        ),
        Bars(
            "Spend by pool",
            "Cost of runners over the time range.",
            [Query(counter("cost_total", "pool, currency"), "{{pool}} ({{currency}})")],
            decimals=2,
            width=8,
        ),
        Bars(
            "Spend by label",
            "Cost of ended runs over the time range by team, or whatever AIR_COST_LABELS names. Empty without it.",
            [Query(counter("label_cost_total", "label, value, currency"), "{{label}} {{value}} ({{currency}})")],
            decimals=2,
            width=12,
        ),
        Bars(
            "Prices per hour",
            "Current prices of a runner, a CPU, a GiB of memory, a GPU.",
            [
                Query(
                    f"max by (backend, component, currency) ({A}price{SCOPE})",
                    "{{backend}}: {{component}} ({{currency}})",
                )
            ],
            decimals=4,
            width=12,
        ),
    ],
)

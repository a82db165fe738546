"""The content of the dashboards: `python -m helm.monitoring.dashboards` writes the files that chart and Compose use.

The only place to change them; tests compare. Every expression is limited to `SCOPE`, because one Prometheus may watch
several installations, and sums over managers, of which one at a time holds a state directory.
"""

from __future__ import annotations

import json
from pathlib import Path

from helm.monitoring.grafana import Bars, Curves, Dashboard, Number, Query

FOLDER = Path(__file__).parents[1] / "air-executor" / "monitoring"
"""The folder of the files."""

A = "air_executor_"
SCOPE = '{job=~"$job"}'
RANGE, RATE = "$__range", "$__rate_interval"
OK, WARN, BAD = "green", "orange", "red"
TROUBLE = ((None, OK), (1.0, BAD))
"""Colors of a number that should be 0."""


def counter(name: str, by: str = "", over: str = RANGE, *, rate: bool = False, **labels: str) -> str:
    """Return the increase of a counter, or its rate, summed by some labels."""
    chosen = ",".join(['job=~"$job"', *(f'{key}="{value}"' for key, value in labels.items())])
    return f"sum{f' by ({by})' if by else ''} ({'rate' if rate else 'increase'}({A}{name}{{{chosen}}}[{over}]))"


def quantile(q: float, name: str, by: str = "") -> str:
    """Return a quantile of a histogram over the latest interval."""
    extra = f", {by}" if by else ""
    return f"histogram_quantile({q}, sum by (le{extra}) (rate({A}{name}_bucket{SCOPE}[{RATE}])))"


def mean(name: str, *, stage: str) -> str:
    """Return the mean of a histogram's values over the time range, for one stage."""
    return f"{counter(f'{name}_sum', stage=stage)} / {counter(f'{name}_count', stage=stage)}"


SPENT = counter("cost_total", "currency")
RUNNER_SECONDS = counter("runner_seconds_total")
POOL_SECONDS = counter("baseline_pool_seconds_total")
PER_SECOND = f"{SPENT} / scalar({RUNNER_SECONDS})"
"""Mean cost of a runner-second by currency: the price of the always-on pool's seconds."""
SUCCEEDED = counter("tasks_total", result="succeeded")

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

UTILIZATION = Dashboard(
    "utilization",
    "Air-Executor / Utilization",
    "How runners spend their time, and how long tasks wait for them.",
    [
        Number(
            "Utilization",
            "Seconds in which a command ran, as a share of all runner-seconds.",
            [Query(f"{counter('runner_seconds_total', state='busy')} / {RUNNER_SECONDS}")],
            unit="percentunit",
            decimals=1,
        ),
        Number(
            "Open runs now",
            "Runs that are starting, running, or not committed yet.",
            [Query(f"sum({A}runners{SCOPE})")],
        ),
        Number(
            "Ready tasks now",
            "Tasks that wait only for a limit or for the backend.",
            [Query(f"sum({A}ready_tasks{SCOPE})")],
        ),
        Number(
            "Manager asleep",
            "Share of time in which the manager slept.",
            [Query(f"{counter('manager_seconds_total', state='asleep')} / {counter('manager_seconds_total')}")],
            unit="percentunit",
            decimals=2,
        ),
        Curves(
            "Busy and idle runners",
            "Mean number of runners: busy while a command runs, idle before and after it.",
            [Query(counter("runner_seconds_total", "state", RATE, rate=True), "{{state}}")],
            decimals=2,
            stacked=True,
        ),
        Curves(
            "Open runs and their limit",
            "Open runs by pool, and the manager's maximum.",
            [
                Query(f"sum by (pool) ({A}runners{SCOPE})", "{{pool}}"),
                Query(f"max({A}max_runners{SCOPE})", "maximum"),
            ],
        ),
        Curves(
            "Wait for a runner",
            "Time from a task being ready until its command started.",
            [
                Query(quantile(0.5, "task_wait_seconds"), "median"),
                Query(quantile(0.95, "task_wait_seconds"), "95th percentile"),
            ],
            unit="s",
        ),
        Bars(
            "Mean duration of a run by stage",
            "Waiting in the queue, pulling the image, starting the runner, working, removing the runner.",
            [
                Query(mean("runner_stage_seconds", stage=stage), stage)
                for stage in ("queue", "pull", "start", "work", "finish")
            ],
            unit="s",
        ),
        Curves(
            "Tasks, by phase",
            "Tasks of unfinished jobs.",
            [Query(f"sum by (phase) ({A}tasks{SCOPE})", "{{phase}}")],
            stacked=True,
        ),
        Curves(
            "Jobs, by phase",
            "Jobs in the state directory, except archived ones.",
            [Query(f"sum by (phase) ({A}jobs{SCOPE})", "{{phase}}")],
        ),
        Curves(
            "Tasks ended and tasks queued by tasks",
            "Per minute.",
            [
                Query(f"{counter('tasks_total', 'result', RATE, rate=True)} * 60", "{{result}}"),
                Query(f"{counter('queued_tasks_total', '', RATE, rate=True)} * 60", "queued by tasks"),
            ],
        ),
        Curves(
            "CPU usage",
            "CPUs used by commands, and busy runners. A large gap means that commands wait for something else.",
            [
                Query(counter("cpu_seconds_total", "", RATE, rate=True), "CPUs"),
                Query(counter("runner_seconds_total", "", RATE, rate=True, state="busy"), "busy runners"),
            ],
            decimals=2,
        ),
    ],
)

SAFETY = Dashboard(
    "safety",
    "Air-Executor / Safety",
    "Failures, prevented failures, and the health of managers and backends.",
    [
        Number(
            "Active managers",
            "State directories with a manager. 0: nothing starts and nothing is committed.",
            [Query(f"sum({A}manager_holds{SCOPE})")],
            steps=((None, BAD), (1.0, OK)),
        ),
        Number(
            "Backend answers",
            "1: yes, 0: no. Without an answer nothing starts, and no run is declared lost.",
            [
                Query(
                    f"min by (backend) ({A}backend_up{SCOPE} and on (job, instance) {A}manager_holds == 1)",
                    "{{backend}}",
                )
            ],
            steps=((None, BAD), (1.0, OK)),
        ),
        Number(
            "Runs lost",
            "Runners that disappeared without an outcome; their tasks run again on the platform's retry budget.",
            [Query(counter("runs_total", reason="lost"))],
            decimals=0,
            steps=TROUBLE,
        ),
        Number(
            "Out of memory",
            "Runs killed for memory. With `resources.memory_growth` a task retries with more.",
            [Query(counter("runs_total", reason="oom"))],
            decimals=0,
            steps=TROUBLE,
        ),
        Number(
            "Duplicates prevented",
            "Refused second runners of a slot, each of which could have run a task twice.",
            [Query(counter("duplicates_prevented_total"))],
            decimals=0,
        ),
        Number(
            "Orphans",
            "Runners of earlier managers: adopted, or removed because no open run needs them.",
            [Query(counter("orphans_total", "action"), "{{action}}")],
            decimals=0,
        ),
        Number(
            "Unreadable files",
            "Files renamed to *.corrupt, never overwritten; `air-executor status` lists them.",
            [Query(counter("corrupt_files_total"))],
            decimals=0,
            steps=TROUBLE,
        ),
        Number(
            "Oldest removal in progress",
            "Age of the oldest runner removal still in progress. Usual causes: an unreachable node, or a finalizer.",
            [Query(f"max({A}oldest_removal_seconds{SCOPE})")],
            unit="s",
            steps=((None, OK), (60.0, WARN), (600.0, BAD)),
        ),
        Curves(
            "Unsuccessful runs",
            "Runs per minute, by reason.",
            [
                Query(
                    f'sum by (reason) (rate({A}runs_total{{job=~"$job",reason!~"ok|cancelled|requeue"}}[{RATE}])) * 60',
                    "{{reason}}",
                )
            ],
            stacked=True,
        ),
        Curves(
            "Use of limits",
            "Open runs as a share of the limit; at 100 % tasks wait.",
            [
                Query(
                    f"sum by (pool) ({A}pool_used{SCOPE}) / (sum by (pool) ({A}runners_limit{SCOPE}) > 0)",
                    "pool {{pool}}",
                ),
                Query(f"sum({A}runners{SCOPE}) / max({A}max_runners{SCOPE})", "all"),
            ],
            unit="percentunit",
        ),
        Curves(
            "Time since the last contact with the platform",
            "Age of the newest message from the watch. Up to a minute is normal.",
            [Query(f"max by (backend) ({A}watch_age_seconds{SCOPE})", "{{backend}}")],
            unit="s",
        ),
        Curves(
            "Duration of a cycle",
            "Duration of the manager's work between two sleeps.",
            [
                Query(quantile(0.5, "cycle_seconds"), "median"),
                Query(quantile(0.99, "cycle_seconds"), "99th percentile"),
            ],
            unit="s",
        ),
        Curves(
            "Requests to the platform",
            "Requests per second, by verb and HTTP status.",
            [Query(counter("backend_requests_total", "verb, code", RATE, rate=True), "{{verb}} {{code}}")],
            unit="reqps",
        ),
        Curves(
            "Free space on the volume",
            "Free share. A full volume stops everything; nothing is lost.",
            [
                Query(f"min({A}volume_free_bytes{SCOPE} / {A}volume_size_bytes{SCOPE})", "bytes"),
                Query(f"min({A}volume_free_files{SCOPE} / ({A}volume_files{SCOPE} > 0))", "files"),
            ],
            unit="percentunit",
        ),
    ],
)

DASHBOARDS = (COST, UTILIZATION, SAFETY)


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {f"{one.name}.json": json.dumps(one.json(), indent=2) + "\n" for one in DASHBOARDS}


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

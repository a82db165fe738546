"""What the dashboards show: `python -m helm.monitoring.dashboards` writes them where the chart and Compose take them.

The only place to change them; the tests compare. Every expression is over `SCOPE`, so that one Prometheus may watch
several installations, and adds up managers, of which one at a time holds a state directory.
"""

from __future__ import annotations

import json
from pathlib import Path

from helm.monitoring.grafana import Bars, Curves, Dashboard, Number, Query

FOLDER = Path(__file__).parents[1] / "air-executor" / "monitoring"
"""Where the files lie."""

A = "air_executor_"
SCOPE = '{job=~"$job"}'
RANGE, RATE = "$__range", "$__rate_interval"
OK, WARN, BAD = "green", "orange", "red"
TROUBLE = ((None, OK), (1.0, BAD))
"""None is right, any is wrong."""


def counter(name: str, by: str = "", over: str = RANGE, *, rate: bool = False, **labels: str) -> str:
    """Return by how much a counter grew, or how fast, added up by some labels."""
    chosen = ",".join(['job=~"$job"', *(f'{key}="{value}"' for key, value in labels.items())])
    return f"sum{f' by ({by})' if by else ''} ({'rate' if rate else 'increase'}({A}{name}{{{chosen}}}[{over}]))"


def quantile(q: float, name: str, by: str = "") -> str:
    """Return a quantile of a histogram over the last moments."""
    extra = f", {by}" if by else ""
    return f"histogram_quantile({q}, sum by (le{extra}) (rate({A}{name}_bucket{SCOPE}[{RATE}])))"


def mean(name: str, *, stage: str) -> str:
    """Return the mean of a histogram's values over the whole time, of one stage."""
    return f"{counter(f'{name}_sum', stage=stage)} / {counter(f'{name}_count', stage=stage)}"


SPENT = counter("cost_total", "currency")
RUNNER_SECONDS = counter("runner_seconds_total")
POOL_SECONDS = counter("baseline_pool_seconds_total")
PER_SECOND = f"{SPENT} / scalar({RUNNER_SECONDS})"
"""What a runner-second has cost on average, by currency: what the pool's seconds are priced with."""
SUCCEEDED = counter("tasks_total", result="succeeded")

COST = Dashboard(
    "cost",
    "Air-Executor / Cost",
    "What runners cost, beside the always-on pool that AIR_COST_POOL sizes, at the same price per second.",
    [
        Number(
            "Spend today",
            "What runners have cost since midnight, those that run included. Nothing without prices: set AIR_COST_*.",
            [Query(SPENT, "{{currency}}")],
            decimals=2,
            since="now/d",
        ),
        Number(
            "Spend this month",
            "What runners have cost since the month began, as far as Prometheus remembers.",
            [Query(SPENT, "{{currency}}")],
            decimals=2,
            since="now/M",
        ),
        Number(
            "Cost per successful task",
            "All that was spent, failures and retries included, divided by the tasks that succeeded.",
            [Query(f"{SPENT} / scalar({SUCCEEDED})", "{{currency}}")],
            decimals=4,
        ),
        Number(
            "Runner time, of what the pool would have had",
            "Runner-seconds divided by the seconds of the always-on pool over the same time. 100 %: it costs the same.",
            [Query(f"{RUNNER_SECONDS} / {POOL_SECONDS}")],
            unit="percentunit",
            decimals=1,
            steps=((None, OK), (0.8, WARN), (1.0, BAD)),
        ),
        Curves(
            "Cost per hour, by queue",
            "How fast money is spent. It falls to nothing while nothing runs.",
            [Query(f"{counter('cost_total', 'queue, currency', RATE, rate=True)} * 3600", "{{queue}} ({{currency}})")],
            decimals=4,
            stacked=True,
        ),
        Curves(
            "Runners and the pool, per hour",
            "What runners cost, and what the pool costs, which is there all the time; at the same price per second.",
            [
                Query(f"{counter('cost_total', 'currency', RATE, rate=True)} * 3600", "runners ({{currency}})"),
                Query(
                    f"{PER_SECOND} * scalar({counter('baseline_pool_seconds_total', '', RATE, rate=True)}) * 3600",
                    "pool ({{currency}})",
                ),
            ],
            decimals=4,
        ),
        Number(
            "Runners, whole time",
            "What runners have cost over the time that is shown.",
            [Query(SPENT, "{{currency}}")],
            decimals=2,
        ),
        Number(
            "Pool, whole time",
            "What the always-on pool would have cost over the same time, at the same price per second.",
            [Query(f"{PER_SECOND} * scalar({POOL_SECONDS})", "{{currency}}")],
            decimals=2,
        ),
        Number(
            "Size of the pool",
            "Runners that are always there in the comparison: AIR_COST_POOL. `air-executor report` finds the smallest "
            "that would keep the same waiting times.",
            [Query(f"max({A}baseline_pool_runners{SCOPE})")],
        ),
        Number(
            "Spent on waste",
            "The part of the cost that came to nothing, at the mean price per runner-second.",
            [Query(f"{PER_SECOND} * scalar({counter('waste_seconds_total')})", "{{currency}}")],
            decimals=2,
        ),
        Bars(
            "Waste, by kind",
            "Runner-seconds of runs that failed, were repeated, were cancelled, or were lost.",
            [Query(counter("waste_seconds_total", "kind"), "{{kind}}")],
            unit="s",
            width=8,
        ),
        Bars(
            "Spend by queue",
            "Over the time that is shown.",
            [Query(counter("cost_total", "queue, currency"), "{{queue}} ({{currency}})")],
            decimals=2,
            width=8,
        ),
        Bars(
            "Prices per hour",
            "In force now: of a runner, a CPU, a GiB of memory, a GPU.",
            [
                Query(
                    f"max by (backend, component, currency) ({A}price{SCOPE})",
                    "{{backend}}: {{component}} ({{currency}})",
                )
            ],
            decimals=4,
            width=8,
        ),
    ],
)

UTILISATION = Dashboard(
    "utilisation",
    "Air-Executor / Utilisation",
    "What runners do with their time, and how long tasks wait for them.",
    [
        Number(
            "Utilisation",
            "Seconds in which a command ran, of all seconds in which runners existed.",
            [Query(f"{counter('runner_seconds_total', state='busy')} / {RUNNER_SECONDS}")],
            unit="percentunit",
            decimals=1,
        ),
        Number(
            "Open runs now",
            "Runners that exist, are being started, or are not booked yet.",
            [Query(f"sum({A}runners{SCOPE})")],
        ),
        Number(
            "Tasks that could start now",
            "They wait for nothing but a runner: for limits, or for the backend.",
            [Query(f"sum({A}ready_tasks{SCOPE})")],
        ),
        Number(
            "Manager asleep",
            "The part of its time in which the manager did nothing.",
            [Query(f"{counter('manager_seconds_total', state='asleep')} / {counter('manager_seconds_total')}")],
            unit="percentunit",
            decimals=2,
        ),
        Curves(
            "Busy and idle runners",
            "Runners on average: busy while a command runs, idle before and after it. No runner, no area.",
            [Query(counter("runner_seconds_total", "state", RATE, rate=True), "{{state}}")],
            decimals=2,
            stacked=True,
        ),
        Curves(
            "Open runs and their limit",
            "By queue, and the most that the manager starts.",
            [
                Query(f"sum by (queue) ({A}runners{SCOPE})", "{{queue}}"),
                Query(f"max({A}max_runners{SCOPE})", "most"),
            ],
        ),
        Curves(
            "Wait for a runner",
            "From when a task was ready until its command began.",
            [
                Query(quantile(0.5, "task_wait_seconds"), "half of all tasks wait less"),
                Query(quantile(0.95, "task_wait_seconds"), "19 of 20 wait less"),
            ],
            unit="s",
        ),
        Bars(
            "Where the time of a run goes",
            "Mean seconds of each stage: in the queue, getting the image, starting, working, clearing away.",
            [
                Query(mean("runner_stage_seconds", stage=stage), stage)
                for stage in ("queue", "pull", "start", "work", "finish")
            ],
            unit="s",
        ),
        Curves(
            "Tasks, by phase",
            "Of jobs that have not ended.",
            [Query(f"sum by (phase) ({A}tasks{SCOPE})", "{{phase}}")],
            stacked=True,
        ),
        Curves(
            "Jobs, by phase",
            "Of the state directory, archived ones excepted.",
            [Query(f"sum by (phase) ({A}jobs{SCOPE})", "{{phase}}")],
        ),
        Curves(
            "Tasks ended, and queued by tasks",
            "Per minute.",
            [
                Query(f"{counter('tasks_total', 'result', RATE, rate=True)} * 60", "{{result}}"),
                Query(f"{counter('queued_tasks_total', '', RATE, rate=True)} * 60", "queued by tasks"),
            ],
        ),
        Curves(
            "CPU at work",
            "CPUs that commands used, beside the runners in which a command ran: far apart means that they wait.",
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
    "What went wrong, what was kept from going wrong, and whether what is shown can be trusted.",
    [
        Number(
            "Managers at work",
            "State directories with a manager. None: nothing starts and nothing is booked.",
            [Query(f"sum({A}manager_holds{SCOPE})")],
            steps=((None, BAD), (1.0, OK)),
        ),
        Number(
            "Backend answers",
            "1: yes. While it does not, nothing is started and nothing is concluded.",
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
            "Runners that vanished without an outcome; their tasks are run again on the platform's budget.",
            [Query(counter("runs_total", reason="lost"))],
            decimals=0,
            steps=TROUBLE,
        ),
        Number(
            "Out of memory",
            "Runs that were killed for memory. `resources.memory_growth` lets a task try again with more.",
            [Query(counter("runs_total", reason="oom"))],
            decimals=0,
            steps=TROUBLE,
        ),
        Number(
            "Duplicates prevented",
            "Second runners for one slot that were refused. Each would have been a double run elsewhere.",
            [Query(counter("duplicates_prevented_total"))],
            decimals=0,
        ),
        Number(
            "Orphans",
            "Runners of earlier managers: adopted, or removed because no job needs them.",
            [Query(counter("orphans_total", "action"), "{{action}}")],
            decimals=0,
        ),
        Number(
            "Unreadable files",
            "Set aside as *.corrupt, never overwritten; `air-executor status` names them.",
            [Query(counter("corrupt_files_total"))],
            decimals=0,
            steps=TROUBLE,
        ),
        Number(
            "Longest removal under way",
            "How long a runner has been asked to go. Long: a node that does not answer, or a finalizer.",
            [Query(f"max({A}oldest_removal_seconds{SCOPE})")],
            unit="s",
            steps=((None, OK), (60.0, WARN), (600.0, BAD)),
        ),
        Curves(
            "Ends that were nobody's wish",
            "Runs per minute, by why they ended.",
            [
                Query(
                    f'sum by (reason) (rate({A}runs_total{{job=~"$job",reason!~"ok|cancelled|requeue"}}[{RATE}])) * 60',
                    "{{reason}}",
                )
            ],
            stacked=True,
        ),
        Curves(
            "Limits reached",
            "Open runs of what is allowed; at 100 % tasks wait.",
            [
                Query(
                    f"sum by (queue) ({A}runners{SCOPE}) / (sum by (queue) ({A}runners_limit{SCOPE}) > 0)",
                    "queue {{queue}}",
                ),
                Query(f"sum({A}runners{SCOPE}) / max({A}max_runners{SCOPE})", "all"),
            ],
            unit="percentunit",
        ),
        Curves(
            "Age of what is known of the platform",
            "Since when the watch has heard nothing. Up to a minute is normal.",
            [Query(f"max by (backend) ({A}watch_age_seconds{SCOPE})", "{{backend}}")],
            unit="s",
        ),
        Curves(
            "Length of a cycle",
            "How long the manager worked between two sleeps.",
            [
                Query(quantile(0.5, "cycle_seconds"), "half are shorter"),
                Query(quantile(0.99, "cycle_seconds"), "99 of 100 are shorter"),
            ],
            unit="s",
        ),
        Curves(
            "Requests to the platform",
            "Per second, by what was asked and the HTTP status of the answer.",
            [Query(counter("backend_requests_total", "verb, code", RATE, rate=True), "{{verb}} {{code}}")],
            unit="reqps",
        ),
        Curves(
            "Room on the volume",
            "Free of the whole. A full volume stops everything; nothing is lost.",
            [
                Query(f"min({A}volume_free_bytes{SCOPE} / {A}volume_size_bytes{SCOPE})", "bytes"),
                Query(f"min({A}volume_free_files{SCOPE} / ({A}volume_files{SCOPE} > 0))", "files"),
            ],
            unit="percentunit",
        ),
    ],
)

DASHBOARDS = (COST, UTILISATION, SAFETY)


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

"""The content of the dashboards: `python -m helm.monitoring.dashboards` writes the files that chart and Compose use.

The only place to change them; tests compare.
"""

from __future__ import annotations

import json
from pathlib import Path

from helm.monitoring.cost_dashboard import COST
from helm.monitoring.expressions import BAD, OK, RATE, RUNNER_SECONDS, SCOPE, TROUBLE, WARN, A, counter, mean, quantile
from helm.monitoring.grafana import Bars, Curves, Dashboard, Number, Query

FOLDER = Path(__file__).parents[1] / "air-executor" / "monitoring"
"""The folder of the files."""

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

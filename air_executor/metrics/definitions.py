"""Every metric: its name, type, labels and help.

`docs/metrics.md` repeats this table word for word, and dashboards and alert rules may use nothing else; tests compare.
"""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "air_executor_"

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


BUDGET = ("budget", "period", "currency")


class MetricDefinition(NamedTuple):
    """One metric."""

    name: str
    """Without prefix."""
    kind: str
    labels: tuple[str, ...]
    help: str


METRICS = (
    MetricDefinition(
        "runner_seconds_total",
        COUNTER,
        ("backend", "pool", "state"),
        "Runner-seconds, open runs included; busy: while the command runs, idle: before and after it.",
    ),
    MetricDefinition(
        "runner_stage_seconds",
        HISTOGRAM,
        ("stage",),
        "Duration of the stages of ended runs: queue, pull, node_wait, start, work, finish, and kept after a failure.",
    ),
    MetricDefinition("cpu_seconds_total", COUNTER, ("backend", "pool"), "CPU time of ended runs, where it is known."),
    MetricDefinition("runs_total", COUNTER, ("backend", "pool", "reason"), "Ended runs."),
    MetricDefinition(
        "waste_seconds_total",
        COUNTER,
        ("pool", "kind"),
        "Runner-seconds of runs without success: failed, retried, cancelled, lost.",
    ),
    MetricDefinition("cost_total", COUNTER, ("currency", "pool", "component"), "Cost of runners, open runs included."),
    MetricDefinition(
        "label_cost_total",
        COUNTER,
        ("label", "value", "currency"),
        "Cost of ended runs by the values of the labels in AIR_COST_LABELS; empty for tasks without that label.",
    ),
    MetricDefinition(
        "price",
        GAUGE,
        ("backend", "component", "currency"),
        "Current price per hour of a runner, a CPU, a GiB of memory, a GPU.",
    ),
    MetricDefinition(
        "baseline_pool_seconds_total",
        COUNTER,
        (),
        "Runner-seconds of the always-on pool to compare with, while this manager managed.",
    ),
    MetricDefinition("baseline_pool_runners", GAUGE, (), "Size of the always-on pool to compare with."),
    MetricDefinition("tasks_total", COUNTER, ("pool", "result", "reason"), "Ended tasks."),
    MetricDefinition("tasks", GAUGE, ("phase",), "Tasks of unfinished jobs."),
    MetricDefinition(
        "ready_tasks",
        GAUGE,
        ("pool",),
        "Tasks that are ready and wait only for a limit or for the backend.",
    ),
    MetricDefinition(
        "task_wait_seconds",
        HISTOGRAM,
        ("pool",),
        "Wait of runs from when their task was ready until their command started.",
    ),
    MetricDefinition("queued_tasks_total", COUNTER, (), "Tasks queued by running tasks."),
    MetricDefinition(
        "reported_usage_total", COUNTER, ("pool", "name"), "Usage that tasks reported, by name, as of ended runs."
    ),
    MetricDefinition("jobs_total", COUNTER, ("pool", "result", "reason"), "Ended jobs."),
    MetricDefinition("jobs_late_total", COUNTER, ("pool",), "Jobs that had not ended within their `late_after`."),
    MetricDefinition(
        "notifications_total",
        COUNTER,
        ("event", "result"),
        "Notifications that were delivered, and those given up.",
    ),
    MetricDefinition("jobs", GAUGE, ("phase",), "Jobs in the state directory, except archived ones."),
    MetricDefinition("runners", GAUGE, ("pool",), "Open runs: starting, running, or not committed yet."),
    MetricDefinition(
        "task_progress_ratio", GAUGE, ("pool",), "Mean progress, from 0 to 1, of the running tasks that report it."
    ),
    MetricDefinition("runners_limit", GAUGE, ("pool",), "Limit of a pool that has one: maximum sum of the weights."),
    MetricDefinition("pool_used", GAUGE, ("pool",), "Weights of the open runs in a pool that has a limit."),
    MetricDefinition("pool_waiting", GAUGE, ("pool",), "Ready tasks that need a pool that has a limit."),
    MetricDefinition("budget_amount", GAUGE, BUDGET, "Budget of a pool, a DAG, a label or of all runs."),
    MetricDefinition("budget_used", GAUGE, BUDGET, "Money of a budget that is used in its present period."),
    MetricDefinition("max_runners", GAUGE, (), "Maximum number of runners of all pools together."),
    MetricDefinition(
        "duplicates_prevented_total", COUNTER, (), "Runners not started because their slot already had one."
    ),
    MetricDefinition(
        "orphans_total",
        COUNTER,
        ("action",),
        "Runners of an earlier manager: adopted, or removed because no open run needs them.",
    ),
    MetricDefinition("corrupt_files_total", COUNTER, (), "Unreadable files, which were renamed to *.corrupt."),
    MetricDefinition("kept_runners", GAUGE, (), "Runners that stay after a failure, for people to look around."),
    MetricDefinition("oldest_removal_seconds", GAUGE, (), "Age of the oldest runner removal still in progress."),
    MetricDefinition("backend_up", GAUGE, ("backend",), "1 if the backend answers, else 0."),
    MetricDefinition(
        "backend_requests_total",
        COUNTER,
        ("verb", "code"),
        "Requests to the backend's platform, by HTTP status of the response.",
    ),
    MetricDefinition(
        "watch_age_seconds",
        GAUGE,
        ("backend",),
        "Time since the last contact with the platform, of backends that watch one.",
    ),
    MetricDefinition("volume_size_bytes", GAUGE, (), "Size of the state directory's volume."),
    MetricDefinition("volume_free_bytes", GAUGE, (), "Free space on the state directory's volume."),
    MetricDefinition(
        "volume_files", GAUGE, (), "Maximum number of files on the state directory's volume, if it has one."
    ),
    MetricDefinition(
        "volume_free_files",
        GAUGE,
        (),
        "Number of further files that fit on the state directory's volume, if it has a maximum.",
    ),
    MetricDefinition("manager_seconds_total", COUNTER, ("state",), "Time of the manager, working and asleep."),
    MetricDefinition(
        "manager_holds",
        GAUGE,
        (),
        "1 if this manager holds the state directory, 0 while it starts, stands by or stops.",
    ),
    MetricDefinition("cycle_seconds", HISTOGRAM, (), "Duration of the manager's work between two sleeps."),
    MetricDefinition("build_info", GAUGE, ("version", "backend"), "Version and backend of the manager; always 1."),
)
DEFINITIONS = {metric.name: metric for metric in METRICS}

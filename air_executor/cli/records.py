"""Jobs as JSON data for `--json`: the names are those of `state.json`."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from air_executor.core.bill import Bill
from air_executor.core.state import JobState
from air_executor.core.times import to_text
from air_executor.store.codec import dump_job, dump_usage


def job_record(job: JobState) -> dict[str, Any]:
    """Return everything about a job: what `state.json` holds."""
    record: dict[str, Any] = json.loads(dump_job(job))
    return record


def job_line(job: JobState) -> dict[str, Any]:
    """Return a job without its tasks: those only counted, by phase."""
    return {
        "id": job.id,
        "uid": job.uid,
        "phase": job.phase,
        "reason": job.reason,
        "message": job.message,
        "submitted_at": _time(job.submitted_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "queue": job.queue,
        "priority": job.priority,
        "max_runners": job.max_runners,
        "usage": dump_usage(job.usage),
        "task_counts": dict(Counter(task.phase for task in job.tasks.values())),
    }


def bill_record(total: Bill) -> dict[str, Any]:
    """Return a bill; the first names are those of `usage` in `state.json`."""
    return {
        "runner_seconds": round(total.runner_seconds, 6),
        "work_seconds": round(total.work_seconds, 6),
        "start_seconds": round(total.start_seconds, 6),
        "finish_seconds": round(total.finish_seconds, 6),
        "cpu_seconds": round(total.cpu_seconds, 6),
        "runs": total.runs,
        "cost": round(total.cost, 9),
        "idle_seconds": round(total.idle_seconds, 6),
        "efficiency": None if total.efficiency is None else round(total.efficiency, 6),
        "first_spawned_at": _time(total.first_spawned),
        "last_gone_at": _time(total.last_gone),
        "window_seconds": round(total.window_seconds, 6),
        "peak_runners": total.peak_runners,
        "pool_seconds": round(total.pool_seconds, 6),
        "pool_cost": None if total.pool_cost is None else round(total.pool_cost, 9),
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else to_text(seconds)

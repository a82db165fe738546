"""Jobs as JSON data for `--json`, with the field names of `state.json`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from air_executor.model.state import JobState, TaskState
from air_executor.model.times import from_text, to_text
from air_executor.store.codec import dump_job
from air_executor.store.job_summary import JobSummary


def job_record(job: JobState) -> dict[str, Any]:
    """Return the whole job, as in `state.json`, but with everything that its tasks have from its `defaults`."""
    record: dict[str, Any] = json.loads(dump_job(job))
    if job.expect_by is not None:
        record["expect_by"] = to_text(job.expect_by)
    if "defaults" in record["spec"]:
        record["tasks"] = [_task_record(job, task) for task in job.tasks.values()]
    return record


def _task_record(job: JobState, task: TaskState) -> dict[str, Any]:
    from air_executor.model import parsing  # noqa: PLC0415 - imports pydantic

    record = parsing.dump(task)
    extra: dict[str, Any] = record.pop("extra", {})
    merged = {"env": job.env_of(task), "labels": job.labels_of(task)}
    return {**record, **{name: found for name, found in merged.items() if found}, **extra}


def job_line(job: JobSummary) -> dict[str, Any]:
    """Return a job with task counts by phase instead of its tasks."""
    return {
        "id": job.id,
        "uid": job.uid,
        "phase": job.phase,
        "reason": job.reason,
        "message": job.message,
        "owner": job.owner,
        "name": job.name,
        "labels": dict(job.labels),
        "submitted_by": job.submitted_by,
        "lock": job.lock,
        "submitted_at": _time(job.submitted_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "pool": job.pool,
        "expect_by": _time(job.expect_by),
        "late_since": _time(job.late_since),
        "priority": job.priority,
        "max_runners": job.max_runners,
        "usage": dict(job.usage),
        "task_counts": dict(job.counts),
        "in_use": dict(job.in_use),
    }


def summary_of_line(record: Mapping[str, Any]) -> JobSummary:
    """Return the job that `job_line` has made data of."""
    times = ("submitted_at", "started_at", "finished_at", "expect_by", "late_since")
    same = ("id", "uid", "phase", "reason", "message", "owner", "name", "labels", "submitted_by", "lock", "pool")
    fields: dict[str, Any] = {name: record[name] for name in (*same, "priority", "max_runners", "usage", "in_use")}
    fields |= {name: None if record[name] is None else from_text(record[name]) for name in times}
    return JobSummary(**fields, counts=Counter(record["task_counts"]))


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else to_text(seconds)

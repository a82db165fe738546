"""A job without its tasks, for lists of all jobs: read from `state.json` without parsing each task.

A state directory may hold ten thousand jobs, and parsing all their tasks takes most of a `status`. As for `job_head`, a
file must look exactly as a manager writes it; what looks otherwise is read whole, and `codec` says what is wrong.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from air_executor.core.explanation import JobFacts
from air_executor.errors import BadInputError
from air_executor.model.state import ENDED_PHASES, FORMAT, RUNNING, JobState
from air_executor.model.times import from_text
from air_executor.store import job_head
from air_executor.store.codec import dump_usage

_DECODER = json.JSONDecoder()
_PHASE = re.compile(rb'\n    \{"id":"[^"\\]+","phase":"(queued|running|succeeded|failed|cancelled|skipped)",')


@dataclass(frozen=True, slots=True)
class JobSummary:
    """One job in a list of all jobs."""

    id: str
    uid: str
    phase: str
    reason: str | None
    message: str | None
    pool: str
    priority: int
    max_runners: int
    labels: Mapping[str, str]
    submitted_at: float
    started_at: float | None
    finished_at: float | None
    usage: Mapping[str, Any]
    """As `state.json` has it."""
    counts: Counter[str]
    """Tasks by phase."""
    submitted_by: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.phase in ENDED_PHASES

    @property
    def total(self) -> int:
        """Number of tasks."""
        return self.counts.total()

    @property
    def runner_seconds(self) -> float:
        """Runner-seconds of all runs that have ended."""
        return float(self.usage["runner_seconds"])

    @property
    def costs(self) -> dict[str, float]:
        """Cost of all runs that have ended, by currency."""
        costs = dict(self.usage.get("other_costs", {}))
        if self.usage["cost"]:
            costs[self.usage.get("currency") or ""] = self.usage["cost"]
        return costs

    @property
    def facts(self) -> JobFacts:
        """What explanations of other jobs need."""
        return JobFacts(self.id, self.uid, self.phase, self.pool, self.counts[RUNNING])


def summary_of(job: JobState) -> JobSummary:
    """Return the summary of a job."""
    return JobSummary(
        id=job.id,
        uid=job.uid,
        phase=job.phase,
        reason=job.reason,
        message=job.message,
        pool=job.pool,
        priority=job.priority,
        max_runners=job.max_runners,
        labels=job.spec.labels,
        submitted_at=job.submitted_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        usage=dump_usage(job.usage),
        counts=Counter(task.phase for task in job.tasks.values()),
        submitted_by=job.submitted_by,
    )


def parse(data: bytes, job: str) -> JobSummary | None:
    """Return the summary of the job with this id from the text of its state; None: read it whole."""
    end = data.find(job_head.TASKS)
    if end < 0 or not data.endswith(job_head.TAIL):
        return None
    phases = _PHASE.findall(data, end)
    if data.count(b"\n", end + len(job_head.TASKS) - 1) != len(phases) + job_head.OTHER_LINES:
        return None
    try:
        raw = _DECODER.decode(f"{data[:end].decode()}}}")
        if (raw["format"], raw["id"]) != (FORMAT, job):
            return None
        spec = raw["spec"]
        return JobSummary(
            id=job,
            uid=str(raw["uid"]),
            phase=str(raw["phase"]),
            reason=raw["reason"],
            message=raw.get("message"),
            pool=str(spec["pool"]),
            priority=int(spec.get("priority", 0)),
            max_runners=int(spec["max_runners"]),
            labels=spec.get("labels") or {},
            submitted_at=from_text(raw["submitted_at"]),
            started_at=_time(raw["started_at"]),
            finished_at=_time(raw["finished_at"]),
            usage=_usage(raw["usage"]),
            counts=Counter({phase.decode(): phases.count(phase) for phase in set(phases)}),
            submitted_by=raw.get("submitted_by"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, BadInputError):
        return None


def _usage(raw: Any) -> Mapping[str, Any]:  # noqa: ANN401 - JSON data
    if type(raw["runner_seconds"]) not in (int, float) or type(raw["cost"]) not in (int, float):
        raise TypeError
    return raw  # type: ignore[no-any-return]


def _time(text: str | None) -> float | None:
    return None if text is None else from_text(text)

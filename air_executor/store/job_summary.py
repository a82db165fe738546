"""A job without its tasks, for lists of all jobs: read from `state.json` without parsing each task.

A state directory may hold ten thousand jobs, and parsing all their tasks takes most of a `status`. As for `job_head`, a
file must look exactly as a manager writes it; what looks otherwise is read whole, and `codec` says what is wrong.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from air_executor.core.job_facts import JobFacts
from air_executor.core.value_text import params_text
from air_executor.errors import BadInputError
from air_executor.model import quick, strict_json
from air_executor.model.caches import CACHE_POOL
from air_executor.model.job import JobSpec
from air_executor.model.state import ENDED_PHASES, FORMAT, RUNNING, JobState, TaskState
from air_executor.model.times import from_text
from air_executor.model.types import MAX_AMOUNT
from air_executor.model.usage import Usage
from air_executor.store import job_head
from air_executor.store.codec import dump_usage

_DECODER = json.JSONDecoder(parse_constant=strict_json.refuse_constant)
LONGEST_PARAMS = 300
"""Characters of the parameters of a job: ten thousand jobs are in memory."""
LONGEST_HEAD = 200
"""Characters of a task's line that hold its id and its phase."""
_OF_JOB = ("uid", "phase", "reason", "message", "submitted_by", "owner")
_OF_SPEC = ("pool", "priority", "max_runners", "labels", "name", "params", "late_after", "lock")
_OF_USAGE = tuple(field.name for field in fields(Usage))
_builders: Callable[..., Mapping[str, quick.Build]] = cache(quick.builders_of)
_COMMAND = re.compile(rb'"command":("(?:[^"\\]|\\.)*"|\[(?:[^\]"]|"(?:[^"\\]|\\.)*")*\])')
_PHASE = re.compile(rb'\n    \{"id":"[^"\\]+","phase":"(queued|running|succeeded|failed|cancelled|skipped)",')


@dataclass(slots=True)  # not frozen: that would take a tenth of the time of a list of ten thousand jobs
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
    owner: str | None = None
    name: str | None = None
    expect_by: float | None = None
    """When it is late if it has not ended."""
    late_since: float | None = None
    lock: str | None = None
    """The lock that it holds."""
    in_use: Mapping[str, int] = field(default_factory=dict)
    """What its running tasks take, by pool."""
    params: str = ""
    """The values of its parameters as people read them, cut."""
    written_command: bytes = field(default=b'""', compare=False)
    """The command of its first task, as JSON: few ask for it."""

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
    def command(self) -> str:
        """The command of its first task; "" if it has none."""
        try:
            found = json.loads(self.written_command)
        except ValueError:  # written by hand, and not as a command is
            return ""
        return found if isinstance(found, str) else " ".join(map(str, found))

    def has(self, text: str) -> bool:
        """Tell whether its id, name, pool, a label, or its first command has a text, in capitals or not."""
        labels = (f"{name}={value}" for name, value in self.labels.items())
        return any(text in one.lower() for one in (self.id, self.name or "", self.pool, self.command, *labels))

    @property
    def facts(self) -> JobFacts:
        """What explanations of other jobs need."""
        return JobFacts(self.id, self.uid, self.phase, self.counts[RUNNING], self.in_use, self.lock)


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
        owner=job.owner,
        name=job.spec.name,
        expect_by=job.expect_by,
        late_since=job.late_since,
        lock=None if job.locked_since is None else job.spec.lock,
        params=_params(job.spec.params),
        written_command=json.dumps(next((task.command for task in job.tasks.values()), "") or "").encode(),
        in_use=sum_weights(job.pools_of(task) for task in job.tasks.values() if task.phase == RUNNING),
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
        if not data.isascii():
            data.decode()
        raw = _DECODER.decode(f"{data[:end].decode()}}}")
        if (raw["format"], raw["id"]) != (FORMAT, job):
            return None
        counts: Counter[str] = Counter()  # filled by hand: what it is made from is looked at closely
        for phase in dict.fromkeys(phases):
            counts[phase.decode()] = phases.count(phase)
        spec = raw["spec"]
        _check(JobState, raw, _OF_JOB)
        _check(JobSpec, spec, _OF_SPEC)
        late_after = spec.get("late_after")
        begin = "submitted_at" if raw.get("backfill") or "scheduled_at" not in raw else "scheduled_at"
        return JobSummary(
            id=job,
            uid=raw["uid"],
            phase=raw["phase"],
            reason=raw["reason"],
            message=raw.get("message"),
            pool=spec["pool"],
            priority=spec.get("priority", 0),
            max_runners=spec["max_runners"],
            labels=spec.get("labels") or {},
            submitted_at=from_text(raw["submitted_at"]),
            started_at=_time(raw["started_at"]),
            finished_at=_time(raw["finished_at"]),
            usage=_usage(raw["usage"]),
            counts=counts,
            submitted_by=raw.get("submitted_by"),
            owner=raw.get("owner"),
            name=spec.get("name"),
            expect_by=None if late_after is None else from_text(raw[begin]) + late_after,
            late_since=_time(raw.get("late_since")),
            lock=spec.get("lock") if raw.get("locked_since") else None,
            params=_params(spec.get("params") or {}),
            in_use=_in_use(spec, data[end:].decode(), counts[RUNNING]) if RUNNING in counts else {},
            written_command=_command_in(data, end),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, BadInputError, quick.NotQuickError):
        return None


def _check(record: type[Any], raw: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise `NotQuickError` unless these fields are as their record declares them: lists of jobs rely on that."""
    builders = _builders(record)
    for name in names:
        if name in raw:
            builders[name](raw[name])


def _params(values: Mapping[str, Any]) -> str:
    text = params_text(values) if values else ""
    return text if len(text) <= LONGEST_PARAMS else f"{text[: LONGEST_PARAMS - 1]}…"


def _command_in(data: bytes, tasks: int) -> bytes:
    first = tasks + len(job_head.TASKS)
    found = _COMMAND.search(data, first, data.find(b"\n", first))
    return b'""' if found is None else found[1]


def _in_use(spec: Mapping[str, Any], tasks: str, running: int) -> Mapping[str, int]:
    """Return what the running tasks take, by pool."""
    shared = spec.get("defaults", {})
    own: list[Mapping[str, Any]] = [shared] * running
    if '"pools":' in tasks or '"caches":' in tasks:
        found = (line for line in tasks.split("\n") if '"phase":"running"' in line[:LONGEST_HEAD])
        own = [shared | _DECODER.decode(line.strip(" ,")) for line in found]
    for one in own:
        _check(TaskState, one, ("pools", "caches"))
    return sum_weights({spec["pool"]: 1, **_weights(one)} for one in own)


def _weights(task: Mapping[str, Any]) -> dict[str, int]:
    """Return `TaskOptions.weights` of a task's fields."""
    caches = {f"{CACHE_POOL}{one['name']}": 1 for one in task.get("caches", ()) if not one.get("shared")}
    return {**task.get("pools", {}), **caches}


def sum_weights(needs: Iterable[Mapping[str, int]]) -> Counter[str]:
    """Return the sums of weights by pool."""
    total: Counter[str] = Counter()
    for one in needs:
        total.update(one)
    return total


def _usage(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    _check(Usage, raw, _OF_USAGE)
    if not 0 <= raw["runner_seconds"] <= MAX_AMOUNT:
        raise ValueError
    return raw


def _time(text: str | None) -> float | None:
    return None if text is None else from_text(text)

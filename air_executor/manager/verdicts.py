"""From what a run left behind to one decision: its outcome, its result, and the tasks and jobs that it queued.

Reads run directories and validates; decides nothing about when. The loop calls it once a run's runner is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from air_executor.core.job_checks import check_queued
from air_executor.core.memory import killed_text
from air_executor.core.queue_lines import parse_queue_line
from air_executor.core.submission import initial_state
from air_executor.errors import BadInputError, CorruptFileError
from air_executor.model import parsing
from air_executor.model import state as s
from air_executor.model.job import Job, Task
from air_executor.model.names import run_id
from air_executor.model.state import JobState, TaskState
from air_executor.store.run_dirs import ExitRecord, RunDirs

UID_DIGITS = 24
"""Hexadecimal digits of a child job's uid: 96 bits, so that no task finds two lines with the same one."""
MAX_JOBS = 10_000
"""Whole jobs that one run may submit."""


@dataclass(slots=True)
class Verdict:
    """What a run amounts to, before its four moments are added."""

    reason: str
    exit_code: int | None = None
    message: str | None = None
    result: Any = None
    queued: list[Task] = field(default_factory=list)
    jobs: list[JobState] = field(default_factory=list)
    """Whole jobs that the run submitted, to be created held."""


def judge_exit(
    left: ExitRecord, stop: str | None, platform_reason: str | None, memory_limit: int | None = None
) -> tuple[str, str | None]:
    """Return reason and message of a run that wrote its outcome. Exit code 0 wins over a stop that came too late.

    Whatever its exit code says, a failed run of which the kernel killed a process for memory ran out of it: mostly it
    is a child that is killed, and the task then fails in its own way, or waits for that child until its timeout.
    """
    if left.exit_code == 0:
        return s.OK, None
    if stop in (s.CANCELLED, s.REQUEUE, s.START_FAILED):
        return stop, None
    if left.timed_out or stop == s.TIMEOUT:
        return s.TIMEOUT, killed_text(left.oom_kills, memory_limit, left.memory) if left.oom_kills else left.message
    if left.oom_kills or platform_reason == s.OOM:
        return s.OOM, killed_text(left.oom_kills, memory_limit, left.memory)
    if platform_reason is not None and platform_reason != s.ERROR:
        return platform_reason, left.message
    return s.ERROR, left.message


def collect(runs: RunDirs, job: JobState, task: TaskState, seq: int, now: float) -> Verdict:
    """Return the verdict on a run that exited with 0: its result and what it queued, or why that is refused.

    Raises:
        StoreError: the volume refused, so nothing is known.
    """
    try:
        result, lines = runs.left_behind(job.id, seq, task.id)
        queued, jobs = _parse(lines, job, seq, now)
        check_queued(queued, job.tasks, job.id, task.id)
    except (BadInputError, CorruptFileError) as error:
        return Verdict(s.REJECTED, 0, str(error))
    except _TooManyError as error:
        return Verdict(s.BUDGET, 0, f"task {task.id} {error}")
    return Verdict(s.OK, 0, None, result, queued, jobs)


class _TooManyError(Exception):
    """More was queued than the job may have."""


def _parse(lines: bytes, job: JobState, seq: int, now: float) -> tuple[list[Task], list[JobState]]:
    """Return the tasks and jobs that the lines say; stops at the first too many, for a runaway may queue millions."""
    queued: list[Task] = []
    jobs: list[JobState] = []
    defaults = parsing.dump(job.spec.defaults)
    limit = job.spec.max_tasks
    for number, line in enumerate(BytesIO(lines), 1):
        if not line.strip():
            continue
        try:
            item = parse_queue_line(line, defaults)
        except BadInputError as error:
            msg = f"queue.jsonl line {number}: {error}"
            raise BadInputError(msg) from error
        if isinstance(item, Job):
            run = run_id(job.uid, seq)
            uid = hashlib.sha256(f"{run}:{number}".encode()).hexdigest()[:UID_DIGITS]
            child = initial_state(item, uid=uid, now=now)
            child.phase, child.submitted_by = s.PENDING, run
            jobs.append(child)
        else:
            item.id = item.id or f"t{seq}-{number}"
            queued.append(item)
        if len(job.tasks) + len(queued) > limit:
            msg = f"queued so many that the job has more than max_tasks = {limit}"
            raise _TooManyError(msg)
        if len(jobs) > MAX_JOBS:
            msg = f"submitted more than {MAX_JOBS} jobs"
            raise _TooManyError(msg)
    return queued, jobs


def check_added(tasks: Sequence[Task], job: JobState) -> None:
    """Refuse tasks that cannot be added to a job.

    Raises:
        BadInputError: an id is taken, `after` names no task or closes a circle, or there would be too many tasks.
    """
    check_queued(tasks, job.tasks, job.id, None)
    limit = job.spec.max_tasks
    if len(job.tasks) + len(tasks) > limit:
        msg = f"job {job.id} has {len(job.tasks)} tasks, and max_tasks = {limit}"
        raise BadInputError(msg)

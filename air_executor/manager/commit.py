"""From an open run that has ended to the event that commits its outcome: reason, result, queued work, moments, price.

The supervisor asks once the contract's table says so, and has `ManagerState` decide the event. Reads run directories,
checks what tasks wrote there, and creates the jobs that a run submitted (pending). Touches no runner and no job state,
and doesn't know when a run counts as ended.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from air_executor.backends.base import Backend
from air_executor.core.job_checks import check_queued
from air_executor.core.memory import killed_text, resources_of
from air_executor.core.plan import retry_at
from air_executor.core.price import FREE, cost_of, hourly
from air_executor.core.queue_lines import parse_queue_line
from air_executor.core.submission import initial_state
from air_executor.errors import AlreadyExistsError, BadInputError, CorruptFileError
from air_executor.manager.clock import STEP
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRun
from air_executor.manager.pending_jobs import PendingJobs
from air_executor.model import parsing
from air_executor.model import state as s
from air_executor.model.events import Ended
from air_executor.model.job import Job, Task
from air_executor.model.names import run_id
from air_executor.model.sizes import format_memory
from air_executor.model.state import JobState, TaskState
from air_executor.model.types import fit
from air_executor.model.usage import Moments, stages
from air_executor.store.run_dirs import ExitRecord, RunDirs

UID_DIGITS = 24
"""Hexadecimal digits of a child job's uid: 96 bits, so that no task can find two lines with the same one."""
MAX_JOBS = 10_000
"""Maximum number of jobs that one run may submit."""


@dataclass(slots=True)
class Outcome:
    """The outcome of a run, without moments and price."""

    reason: str
    exit_code: int | None = None
    message: str | None = None
    result: Any = None
    queued: list[Task] = field(default_factory=list)
    """Complete tasks, each with its `id`."""
    jobs: list[JobState] = field(default_factory=list)
    """Jobs that the run submitted, to be created pending."""


class Committer:
    """Turns the ended runs of one manager into the events that commit them."""

    def __init__(
        self,
        state: ManagerState,
        backend: Backend,
        run_dirs: RunDirs,
        pending: PendingJobs,
        chance: random.Random,
    ) -> None:
        """`chance` spreads retries."""
        self._state = state
        self._backend = backend
        self._run_dirs = run_dirs
        self._pending = pending
        self._chance = chance

    def ended_with_exit(self, run: OpenRun, left: ExitRecord, now: float) -> Ended:
        """Return the event for a run that wrote its outcome; the jobs that it submitted exist then, pending.

        Raises:
            StoreError: the volume refused; ask again.
        """
        platform = None if run.platform is None else run.platform.reason
        if left.stopped and platform in {None, s.ERROR} and self._backend.evicts:
            platform = s.EVICTED
        reason, message = judge_exit(left, run.status.stop, platform, run.status.memory_limit)
        if reason == run.status.stop and not left.timed_out:
            message = run.status.stop_message or message
        outcome = Outcome(reason, left.exit_code, message)
        if reason == s.OK:
            outcome = collect(self._run_dirs, run.job.state, run.task, run.seq, now)
            try:
                self._pending.create(outcome.jobs)
            except (AlreadyExistsError, BadInputError) as error:
                outcome = Outcome(s.REJECTED, left.exit_code, f"queue.jsonl: {error}")
            else:
                outcome.exit_code = left.exit_code
        return self._ended(run, outcome, left, now)

    def ended_without_exit(self, run: OpenRun, now: float) -> Ended | None:
        """Return the event for a run that left no outcome; None if it may still run.

        Raises:
            StoreError: the volume refused; ask again.
        """
        if run.elsewhere is not None and not run.confirmed_gone:
            return None  # an absent runner proves nothing where we cannot look
        job = run.job.state.id
        begun = self._run_dirs.started(job, run.seq, run.task.id) is not None
        if not begun and not self._run_dirs.fence(job, run.seq, run.task.id):
            return None  # it has begun just now
        return self._ended(run, self._outcome_of_loss(run, begun=begun), None, now)

    def _outcome_of_loss(self, run: OpenRun, *, begun: bool) -> Outcome:
        stop, platform = run.status.stop, run.platform
        if stop is not None:
            run.refused = run.status.stop_message if run.status.hopeless else None
            return Outcome(stop, message=run.status.stop_message)
        if run.refused is not None:
            return Outcome(s.START_FAILED, message=run.refused)
        if platform is not None and platform.reason is not None:
            run.refused = platform.message if platform.permanent else None
            message = platform.message
            if platform.reason == s.OOM and (limit := run.status.memory_limit) is not None:
                message = f"{message or 'its runner was killed'} (limit {format_memory(limit)})"
            return Outcome(platform.reason, platform.exit_code, message)
        if begun:
            message = run.lost or (platform and platform.message) or "it left no outcome"
            return Outcome(s.LOST, message=message)
        return self._outcome_of_no_start(run) if run.ours else Outcome(s.REQUEUE)

    def _outcome_of_no_start(self, run: OpenRun) -> Outcome:
        if not self._run_dirs.has_place(run.job.state.id, run.seq, run.task.id):
            return Outcome(s.LOST, message="its run directory was removed, with everything that it left behind")
        words = f": {run.platform.message}" if run.platform is not None and run.platform.message else ""
        return Outcome(s.START_FAILED, message=f"its runner ended before it could start the command{words}")

    def _ended(self, run: OpenRun, outcome: Outcome, left: ExitRecord | None, now: float) -> Ended:
        moments = self._moments(run, left)
        backend = run.backend or self._backend.name
        prices = self._state.options.prices.get(backend, FREE)
        price = hourly(prices, resources_of(run.task), moments.spawned)
        again = None
        if run.refused is None:
            budget = self._state.options.platform_retries
            again = retry_at(run.job, run.task, outcome.reason, now, budget=budget, chance=self._chance)
        return Ended(
            at=now,
            seq=run.seq,
            reason=outcome.reason,
            moments=moments,
            exit_code=outcome.exit_code,
            message=fit(outcome.message),
            result=outcome.result,
            queued=outcome.queued,
            retry_at=None if again is None else round(again, 3),
            cost=cost_of(price, stages(moments).runner_seconds),
            price=price,
            currency=None if price is None else prices.currency,
            backend=backend,
            delay=round(run.delay, 6),
        )

    def _moments(self, run: OpenRun, left: ExitRecord | None) -> Moments:
        ended = None if left is None else left.ended
        gone = run.gone_at
        if gone is None or (ended is not None and ended > gone):  # it did not exist yet at the first look
            gone = self._state.volume_time()
        if run.unseen:  # it may have gone long ago, while nobody could look
            finished = None if run.platform is None else run.platform.finished_at
            known = [at for at in (ended, finished) if at is not None]
            gone = min(gone, max(known, default=gone))
        clock = self._state.clock
        wall, steady = clock.wall() - run.wall_since, clock.steady() - run.since
        return Moments(
            spawned=round(run.spawned if run.spawned is not None else gone, 6),
            started=_rounded(self._run_dirs.started(run.job.state.id, run.seq, run.task.id)),
            ended=_rounded(ended),
            gone=round(gone, 6),
            cpu=None if left is None else left.cpu,
            memory=None if left is None else left.memory,
            clock_stepped=abs(wall - steady) > STEP,
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def judge_exit(
    left: ExitRecord, stop: str | None, platform_reason: str | None, memory_limit: int | None = None
) -> tuple[str, str | None]:
    """Return reason and message of a run that wrote its outcome. Exit code 0 wins over a stop that came too late.

    A failed run of which the kernel killed a process for memory ran out of memory, whatever its exit code says: mostly
    a child is killed, and the task then fails in its own way, or waits for that child until its timeout.
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


# What a run queued


def collect(run_dirs: RunDirs, job: JobState, task: TaskState, seq: int, now: float) -> Outcome:
    """Return the outcome of a run that exited with 0: its result and what it queued, or why that is refused.

    Raises:
        StoreError: the volume refused, so nothing is known.
    """
    try:
        result, lines = run_dirs.left_behind(job.id, seq, task.id)
        queued, jobs = _parse(lines, job, seq, now)
        check_queued(queued, job.tasks, job.id, task.id)
    except (BadInputError, CorruptFileError) as error:
        return Outcome(s.REJECTED, 0, str(error))
    except _TooManyError as error:
        return Outcome(s.BUDGET, 0, f"task {task.id} {error}")
    return Outcome(s.OK, 0, None, result, queued, jobs)


class _TooManyError(Exception):
    """More was queued than the job may have."""


def _parse(lines: bytes, job: JobState, seq: int, now: float) -> tuple[list[Task], list[JobState]]:
    """Return the queued tasks and jobs; stops at the first one too many, because a runaway may queue millions."""
    queued: list[Task] = []
    jobs: list[JobState] = []
    defaults, limit = parsing.dump(job.spec.defaults), job.spec.max_tasks
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
        BadInputError: an id is taken, `after` names no task or closes a cycle, or there would be too many tasks.
    """
    check_queued(tasks, job.tasks, job.id, None)
    limit = job.spec.max_tasks
    if len(job.tasks) + len(tasks) > limit:
        msg = f"job {job.id} has {len(job.tasks)} tasks, and max_tasks = {limit}"
        raise BadInputError(msg)

"""Makes the event that commits the outcome of an ended run: reason, result, queued work, moments, price.

The supervisor calls it once a run counts as ended, and has `ManagerState` decide the event. Reads run directories,
checks what tasks wrote there, and creates the jobs that a run submitted (pending). Touches no runner and no job state.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from air_executor.backends.base import Backend
from air_executor.core.job_checks import QUEUE, check_queued
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
from air_executor.model import state as s
from air_executor.model.defaults import Defaults
from air_executor.model.events import Ended
from air_executor.model.job import Job, Task
from air_executor.model.names import generated_id, run_id
from air_executor.model.sizes import format_memory
from air_executor.model.state import JobState, TaskState
from air_executor.model.times import format_duration
from air_executor.model.types import fit
from air_executor.model.usage import Moments, stages
from air_executor.store.jobs import MAX_GROWN
from air_executor.store.run_dirs import MAX_RESULT, ExitRecord, RunDirs

UID_DIGITS = 24
"""Hexadecimal digits of a child job's uid: 96 bits, so that no task can find two lines with the same one."""
MAX_JOBS = 10_000
"""Maximum number of jobs that one run may submit."""
MAX_LINE = 16 * 1024 * 1024
"""Bytes of one line of `$AIR_QUEUE`: what it describes takes many times that in memory."""
MAX_COST = 96 * 1024 * 1024
"""Bytes that what one run queues may come to: less than a journal line takes."""
SLICE = 0.05
"""Seconds of each cycle for what runs queued; the rest waits for the next cycle, so that nobody else has to."""
LINES = 100
"""Lines that are looked at before the time is."""
LONG = 256 * 1024
"""Bytes of what they describe after which it is, too."""
SHORT = 200
"""Characters of a message in a job that has grown too large."""


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
    size: int = 0
    """About how many bytes of the job's state the queued tasks and the result take."""


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
        self._until = 0.0
        self.busy = False
        """Something of what runs queued is left for the next cycle."""

    def begin_cycle(self) -> None:
        """Give what runs queued a new share of time."""
        self._until = self._state.clock.steady() + SLICE
        self.busy = False

    def ended_with_exit(self, run: OpenRun, left: ExitRecord, now: float) -> Ended | None:
        """Return the event for a run that wrote its outcome; the jobs that it submitted exist then, pending.

        None: it queued so much that the rest is for the next cycle.

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
            collected = self._collected(run, now)
            if collected is None:
                return None
            outcome = collected
            outcome.exit_code = left.exit_code
        return self._ended(run, outcome, left, now)

    def _collected(self, run: OpenRun, now: float) -> Outcome | None:
        """Go on with what a run queued; None if it takes another cycle."""
        work = run.collecting or self._collect(run, now)
        run.collecting = None
        try:
            while True:
                next(work)
                if self._state.clock.steady() >= self._until:
                    run.collecting, self.busy = work, True
                    return None
        except StopIteration as done:
            outcome: Outcome = done.value
            return outcome

    def _collect(self, run: OpenRun, now: float) -> Generator[None, None, Outcome]:
        """Check what a run queued and create its jobs, piece by piece; return the outcome."""
        outcome = yield from collect(self._run_dirs, run.job.state, run.task, run.seq, now)
        try:
            yield from self._pending.create(outcome.jobs)
        except (AlreadyExistsError, BadInputError) as error:
            return Outcome(s.REJECTED, message=f"{QUEUE}: {error}")
        return outcome

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

    def _bounded(self, run: OpenRun, outcome: Outcome) -> Outcome:
        """Return what of an outcome a job can take without growing beyond what can be read again."""
        size = self._state.size_of(run.job.state.id) + outcome.size
        if size <= MAX_GROWN:
            return outcome
        if outcome.reason != s.OK:
            outcome.message = None if outcome.message is None else outcome.message[:SHORT]
            return outcome
        what = f"the state of job {run.job.state.id} would come to {size / 1e6:.0f} MB"
        return Outcome(s.BUDGET, outcome.exit_code, f"{what}, more than {MAX_GROWN / 1e6:.0f} MB")

    def _ended(self, run: OpenRun, outcome: Outcome, left: ExitRecord | None, now: float) -> Ended:
        outcome.message = self._with_holder(run, outcome.message)
        outcome = self._bounded(run, outcome)
        moments, node_wait = self._moments(run, left)
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
            delay=round(run.delay + node_wait, 6),
            node_wait=round(node_wait, 6),
        )

    def _with_holder(self, run: OpenRun, message: str | None) -> str | None:
        """Return a message that also says what kept the run open after its end, if something did."""
        if run.held_by is None or run.gone_since is None:
            return message
        held_for = format_duration(round(self._state.clock.steady() - run.gone_since))
        held = f"its slot was held for {held_for}: {run.held_by}"
        return f"{message}; {held}" if message else held

    def _moments(self, run: OpenRun, left: ExitRecord | None) -> tuple[Moments, float]:
        """Return when the runner existed, and for how many seconds it had waited for a node by then."""
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
        started = self._run_dirs.started(run.job.state.id, run.seq, run.task.id)
        spawned = run.spawned if run.spawned is not None else gone
        longest = max(0.0, (gone if started is None else started) - spawned)
        # Where it began without being seen on a node, the wait is unknown and counts as its own time.
        unseen_wait = longest if started is None else 0.0
        node_wait = unseen_wait if run.node_wait is None else min(run.node_wait, longest)
        moments = Moments(
            spawned=round(spawned + node_wait, 6),
            started=_rounded(started),
            ended=_rounded(ended),
            gone=round(gone, 6),
            cpu=None if left is None else left.cpu,
            memory=None if left is None else left.memory,
            clock_stepped=abs(wall - steady) > STEP,
        )
        return moments, node_wait


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


def collect(run_dirs: RunDirs, job: JobState, task: TaskState, seq: int, now: float) -> Generator[None, None, Outcome]:
    """Return the outcome of a run that exited with 0: its result and what it queued, or why that is refused.

    A generator, because this may take long; it yields where somebody else may go first.

    Raises:
        StoreError: the volume refused, so nothing is known.
    """
    try:
        result, lines = run_dirs.left_behind(job.id, seq, task.id)
        found = _Queued(job, seq, now)
        yield from found.read(lines)
        check_queued(found.tasks, job.tasks, job.id, task.id, found.lines)
    except (BadInputError, CorruptFileError) as error:
        return Outcome(s.REJECTED, 0, str(error))
    except _TooManyError as error:
        return Outcome(s.BUDGET, 0, f"task {task.id} {error}")
    return Outcome(s.OK, 0, None, result, found.tasks, found.jobs, found.cost + MAX_RESULT)


class _TooManyError(Exception):
    """More was queued than the job may have."""


class _Queued:
    """What one run queued: tasks and jobs. Ends at the first one too many, because a runaway may queue millions."""

    def __init__(self, job: JobState, seq: int, now: float) -> None:
        self.tasks: list[Task] = []
        self.lines: list[int] = []
        """On which line each task is."""
        self.jobs: list[JobState] = []
        self.cost = 0
        """About how many bytes the tasks come to."""
        self._job = job
        self._seq = seq
        self._now = now
        self._defaults = Defaults(job.spec.defaults)

    def read(self, lines: bytes) -> Iterator[None]:
        """Take in the lines of `$AIR_QUEUE`, piece by piece.

        Raises:
            BadInputError: one of them is wrong.
            _TooManyError: there are too many.
        """
        seen = 0
        for number, line in enumerate(BytesIO(lines), 1):
            if not line.strip():
                continue
            try:
                yield from self._take(line, number)
            except BadInputError as error:
                msg = f"{QUEUE} line {number}: {error}"
                raise BadInputError(msg) from error
            if number % LINES == 0 or self.cost - seen > LONG:
                seen = self.cost
                yield

    def _take(self, line: bytes, number: int) -> Iterator[None]:
        if len(line) > MAX_LINE:
            msg = f"has {len(line)} bytes, more than {MAX_LINE}"
            raise BadInputError(msg)
        self.cost += len(line)
        if self.cost > MAX_COST:
            msg = f"queued more than {MAX_COST / 1e6:.0f} MB"
            raise _TooManyError(msg)
        item = yield from parse_queue_line(line, self._defaults)
        if isinstance(item, Job):
            self._add_job(item, number)
        else:
            item.id = item.id or generated_id(self._seq, number)
            self.tasks.append(item)
            self.lines.append(number)
            limit = self._job.spec.max_tasks
            if len(self._job.tasks) + len(self.tasks) > limit:
                msg = f"queued so many that the job has more than max_tasks = {limit}"
                raise _TooManyError(msg)

    def _add_job(self, job: Job, number: int) -> None:
        if len(self.jobs) >= MAX_JOBS:
            msg = f"submitted more than {MAX_JOBS} jobs"
            raise _TooManyError(msg)
        run = run_id(self._job.uid, self._seq)
        uid = hashlib.sha256(f"{run}:{number}".encode()).hexdigest()[:UID_DIGITS]
        child = initial_state(job, uid=uid, now=self._now)
        child.phase, child.submitted_by = s.PENDING, run
        self.jobs.append(child)

"""What a run that exited with 0 left for its job: its result, the tasks and jobs that it queued, and what it asked for.

`commit` calls `collect` once such a run has ended. Reads its run directory; changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import Any

from air_executor.core.job_checks import QUEUE, check_queued
from air_executor.core.queue_lines import parse_queue_line
from air_executor.core.submission import initial_state
from air_executor.errors import BadInputError, CorruptFileError
from air_executor.model import state as s
from air_executor.model.defaults import Defaults
from air_executor.model.job import Job, Task
from air_executor.model.names import generated_id, run_id
from air_executor.model.records import Again, Join, Result, ResultText
from air_executor.model.reports import ProgressReport, UsageReport
from air_executor.model.state import JobState, TaskState
from air_executor.store.run_dirs import RunDirs
from air_executor.store.run_files import LONGEST_RESULT, MAX_RESULT
from air_executor.store.run_outcome import check_result, parse_result_text

UID_DIGITS = 24
"""Hexadecimal digits of a child job's uid: 96 bits, so that no task can find two lines with the same one."""
MAX_JOBS = 10_000
"""Maximum number of jobs that one run may submit."""
MAX_LINE = 16 * 1024 * 1024
"""Bytes of one line of `$AIR_QUEUE`: what it describes takes many times that in memory."""
MAX_COST = 96 * 1024 * 1024
"""Bytes that what one run queues may come to: less than a journal line takes."""
LINES = 100
"""Lines that are looked at before the time is."""
LONG = 256 * 1024
"""Bytes of them after which it is, too."""


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
    again: float | None = None
    """Seconds after which the task asked to run again; None: it did not."""


def collect(run_dirs: RunDirs, job: JobState, task: TaskState, seq: int, now: float) -> Generator[None, None, Outcome]:
    """Return the outcome of a run that exited with 0: its result and what it queued, or why that is refused.

    A generator, because this may take long; it yields where somebody else may go first.

    Raises:
        StoreError: the volume refused, so nothing is known.
    """
    try:
        result, lines = run_dirs.left_behind(job.id, seq, task.id)
        found = _QueuedLines(job, task, seq, now)
        yield from found.read(lines)
        check_queued(found.tasks, job.tasks, job.id, task.id, found.lines)
    except (BadInputError, CorruptFileError) as error:
        return Outcome(s.REJECTED, 0, str(error))
    except _TooManyError as error:
        return Outcome(s.BUDGET, 0, f"task {task.id} {error}")
    result = found.result if result is None else result
    return Outcome(s.OK, 0, None, result, found.tasks, found.jobs, found.cost + MAX_RESULT, found.again)


def _value_of(line: Result | ResultText) -> object:
    """Return the result that a line sets.

    Raises:
        BadInputError, CorruptFileError: it cannot be one.
    """
    if isinstance(line, ResultText):
        return parse_result_text(line.result_text)
    check_result(line.value)
    return line.value


class _TooManyError(Exception):
    """More was queued than the job may have."""


class _QueuedLines:
    """What one run queued: tasks and jobs. Ends at the first one too many, because a runaway may queue millions."""

    def __init__(self, job: JobState, task: TaskState, seq: int, now: float) -> None:
        self.tasks: list[Task] = []
        self.lines: list[int] = []
        """On which line each task is."""
        self.jobs: list[JobState] = []
        self.again: float | None = None
        """Seconds after which the task asked to run again; the last line that does counts."""
        self.result: object = None
        """The result that a line sets; again, the last one counts."""
        self.cost = 0
        """About how many bytes the tasks come to."""
        self._job = job
        self._task = task
        self._seq = seq
        self._now = now

    @cached_property
    def _defaults(self) -> Defaults:
        return Defaults(self._job.spec.defaults)

    @cached_property
    def _counting(self) -> int:
        """How many tasks of the job count: what a rerun has superseded does not."""
        return sum(not task.superseded for task in self._job.tasks.values())

    def read(self, lines: bytes) -> Iterator[None]:
        """Take in the lines of `$AIR_QUEUE`, piece by piece.

        Raises:
            BadInputError: one of them is wrong.
            _TooManyError: there are too many.
        """
        read = seen = 0
        for number, line in enumerate(BytesIO(lines), 1):
            if line.strip():
                try:
                    yield from self._take(line, number)
                except (BadInputError, CorruptFileError) as error:
                    msg = f"{QUEUE} line {number}: {error}"
                    raise BadInputError(msg) from error
            read += len(line)
            if number % LINES == 0 or read - seen > LONG:
                seen = read
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
        if isinstance(item, ProgressReport | UsageReport):
            self.cost -= len(line)  # no part of it stays in the state
        elif isinstance(item, Result | ResultText):
            if len(line) > LONGEST_RESULT:
                msg = f"result: has {len(line)} bytes, more than {MAX_RESULT}"
                raise BadInputError(msg)
            self.cost -= len(line)  # counted once, with the outcome
            self.result = _value_of(item)
        elif isinstance(item, Again):
            self.again = float(self._task.again_delay if item.delay is None else item.delay)
        elif isinstance(item, Job):
            self._add_job(item, number)
        else:
            task = self._join(item, number) if isinstance(item, Join) else item
            task.id = task.id or generated_id(self._seq, number)
            self.tasks.append(task)
            self.lines.append(number)
            limit = self._job.spec.max_tasks
            if len(self._job.tasks) + len(self.tasks) > limit and self._counting + len(self.tasks) > limit:
                msg = f"queued so many that the job has more than max_tasks = {limit}"
                raise _TooManyError(msg)

    def _join(self, line: Join, number: int) -> Task:
        """Add a child job; return the task that stands for it."""
        if line.job.lock is not None and line.job.lock == self._job.spec.lock:
            msg = f"job.lock: this job holds lock {line.job.lock} until it ends, and would wait for the child for ever"
            raise BadInputError(msg)
        child = self._add_job(line.job, number)
        child.joined_by = self._job.id
        return Task(id=child.id, joins=child.uid)

    def _add_job(self, job: Job, number: int) -> JobState:
        if job.id is None:
            raise BadInputError("job.id: is missing; a job that a task submits needs an id, not a name")
        if len(self.jobs) >= MAX_JOBS:
            msg = f"submitted more than {MAX_JOBS} jobs"
            raise _TooManyError(msg)
        run = run_id(self._job.uid, self._seq)
        uid = hashlib.sha256(f"{run}:{number}".encode()).hexdigest()[:UID_DIGITS]
        child = initial_state(job, uid=uid, now=self._now)
        child.phase, child.submitted_by, child.owner = s.PENDING, run, self._job.owner
        self.jobs.append(child)
        return child

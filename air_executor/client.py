"""What users and programs do with a state directory: submit, ask, wait. Files only; no manager is needed.

The command line and the Python API (`from air_executor import submit`) both end here. Reads what the manager wrote, and
writes only job directories and requests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from air_executor.errors import AirExecutorError, BadInputError, CorruptFileError, FormatTooNewError, NotFoundError
from air_executor.model.records import Op, Request
from air_executor.model.state import JobState, Running
from air_executor.store import codec, files
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.run_dirs import RunDirs

if TYPE_CHECKING:
    from air_executor.core.explanation import ExplainContext, JobFacts, RunnerFacts
    from air_executor.model.job import Job, Task
    from air_executor.settings import ReaderSettings

UID_BYTES = 12
"""Random bytes of a job's uid: 96 bits, so that no two jobs ever share one."""
ANSWER_WITHIN = 2.0
"""Seconds that a request waits for the manager's answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request."""

    request: str
    applied: bool
    """False: no manager has taken it up yet; it stays in the inbox until one does."""


class Client:
    """One state directory, seen from outside its manager."""

    def __init__(self, state_dir: str | os.PathLike[str] | None = None) -> None:
        if state_dir is None:
            from air_executor.settings import locate_state_dir  # noqa: PLC0415 - only where nobody said which

            state_dir = locate_state_dir(None)[0]
        self.layout = Layout(state_dir)
        self.jobs = Jobs(self.layout, read=codec.show_job)
        self.runs = RunDirs(self.layout)
        self.inbox = Inbox(self.layout)

    # Submitting

    def submit(self, job: Job, workspace: Mapping[str, bytes] | None = None) -> JobState:
        """Submit a job and return its state; its id is taken from now on, whether a manager runs or not.

        `workspace` is what its tasks find in their workspace, by file name; nobody but its owner may read it.

        Raises:
            AlreadyExistsError: the id is taken.
            BadInputError: a job that it waits for does not exist.
            StoreError: the volume refused; nothing was submitted.
        """
        from air_executor.core.submission import initial_state, parse_job  # noqa: PLC0415 - see the module

        state = initial_state(parse_job(job), uid=files.random_hex(UID_BYTES), now=round(time.time(), 3))
        state.after_uids = {name: self._uid_of(name) for name in state.spec.after}
        self.jobs.prepare()
        self.jobs.create(state, workspace)
        self.inbox.post(Request("wake", state.id), time.time())
        return state

    def _uid_of(self, name: str) -> str:
        found = self.jobs.find(name)
        if found is None:
            msg = f"after: there is no job {name}; submit it first"
            raise BadInputError(msg)
        return found.uid

    # Asking the manager

    def ask(self, op: Op, job: str, task: str | None = None, tasks: Sequence[Mapping[str, Any]] = ()) -> Answer:
        """Post a request and wait a little for its answer.

        Raises:
            NotFoundError: there is no such job.
            BadInputError: the manager refused; the message says why.
            StoreError: the volume refused; nothing was asked.
        """
        if not os.path.isdir(self.layout.job(job)):
            msg = f"no job {job} in {self.layout.root}"
            raise NotFoundError(msg)
        name = self.inbox.post(Request(op, job, task, [dict(one) for one in tasks]), time.time())
        applied = self.inbox.wait(name, ANSWER_WITHIN)
        refusal = self.inbox.refusal(name) if applied else None
        if refusal is not None:
            msg = f"{op} {job}{f' {task}' if task else ''}: {refusal}"
            raise BadInputError(msg)
        return Answer(name, applied)

    def add(self, job: str, tasks: Sequence[Task]) -> Answer:
        """Queue more tasks in a job; a finished job is reopened. See `ask`."""
        from air_executor.model import parsing  # noqa: PLC0415 - see the module

        return self.ask("add", job, tasks=[parsing.written(task) for task in tasks])

    # Reading

    def status(self, job: str) -> JobState:
        """Return a job as its last checkpoint has it, archived ones included.

        Raises:
            NotFoundError: there is no such job.
            CorruptFileError, FormatTooNewError: its state cannot be read.
        """
        found = self.jobs.find(job)
        if found is None:
            msg = f"no job {job} in {self.layout.root}"
            raise NotFoundError(msg)
        return found

    def all(self) -> Iterator[JobState | tuple[str, str]]:
        """Yield every job that is not archived; for one that cannot be read its id and what is wrong."""
        for name in self.jobs.ids():
            try:
                yield self.jobs.load(name)
            except NotFoundError:
                continue
            except (CorruptFileError, FormatTooNewError) as error:
                yield name, str(error)

    def ledger(self) -> Iterator[JobState | tuple[str, str]]:
        """Yield every job that is there, archived ones included, each once; see `all`."""
        seen = set()
        for found in self.all():
            if isinstance(found, JobState):
                seen.add((found.id, found.uid))
            yield found
        for found in self.jobs.all_archived():  # second, so that one that is archived meanwhile is not missed
            if not isinstance(found, JobState) or (found.id, found.uid) not in seen:
                yield found

    def wait(self, job: str, timeout: float | None = None) -> JobState:
        """Wait until a job has ended and return it; after `timeout` seconds, as it then stands.

        Raises:
            NotFoundError: there is no such job.
        """
        until = None if timeout is None else time.monotonic() + timeout
        seen = None
        pause = 0.01
        state = self.status(job)
        while not state.ended and (until is None or time.monotonic() < until):
            time.sleep(pause)
            pause = min(0.25, pause * 1.2)
            changed = self.changed_at(job)
            if changed != seen:  # a large state is read only when it is new
                seen = changed
                state = self.status(job)
        return state

    def changed_at(self, job: str) -> tuple[int, int, int]:
        """Return what differs once the state of a job is written again: its time, file and size."""
        try:
            found = os.stat(self.layout.state(job))
        except OSError:
            return (0, 0, 0)
        return found.st_mtime_ns, found.st_ino, found.st_size  # a clock's tick may be longer than from write to write

    def runners(self, job: JobState) -> dict[str, RunnerFacts]:
        """Return where a job's running tasks are, by task, as their run directories say; not those that do not."""
        from air_executor.core.explanation import RunnerFacts  # noqa: PLC0415 - few ask this

        found = {}
        for task in job.tasks.values():
            if not isinstance(task.status, Running):
                continue
            record = (self.runs.record(job.id, task.status.seq, task.id) or ({},))[0]
            backend, host, name = record.get("backend"), record.get("host"), record.get("runner")
            if isinstance(backend, str):
                found[task.id] = RunnerFacts(backend, str(host), name if isinstance(name, str) else None)
        return found

    def job_facts(self) -> Iterator[JobFacts]:
        """Yield the facts that `explain_context` needs, of every job that is not archived."""
        from air_executor.core.explanation import JobFacts  # noqa: PLC0415 - few ask this

        for found in self.all():
            if isinstance(found, JobState):
                running = sum(isinstance(task.status, Running) for task in found.tasks.values())
                yield JobFacts(found.id, found.uid, found.phase, found.pool, running)
            else:
                yield JobFacts(found[0], None, "unreadable", "", 0)

    def explain_context(
        self, job: JobState, jobs: Iterable[JobFacts], now: float, settings: ReaderSettings | None
    ) -> ExplainContext:
        """Return the surroundings of a job for `explain_job` and `explain_task`.

        `jobs` are all jobs that are not archived, as `job_facts` yields them; limits come from `settings`.
        """
        from air_executor.core.explanation import ExplainContext  # noqa: PLC0415 - few ask this
        from air_executor.store.presence import read_presence  # noqa: PLC0415

        if job.ended:
            return ExplainContext(now)
        listed = list(jobs)
        manager = read_presence(self.layout)
        stopped = manager.running is False
        return ExplainContext(
            now,
            manager=manager.running,
            only_jobs=(manager.only or ()) if manager.passes_over(job.id, job.submitted_by) else (),
            after=self._phases_after(job, listed) if job.started_at is None else {},
            running=sum(one.running for one in listed),
            max_runners=None if settings is None else settings.max_runners,
            running_in_pool=sum(one.running for one in listed if one.pool == job.pool),
            pool_limit=None if settings is None else settings.pools.get(job.pool),
            backend=(None if settings is None else settings.backend) if stopped else manager.backend,
            host=None if stopped else manager.record.get("host"),
            backend_problem=manager.backend_problem,
            waiting=manager.waiting.get(job.id),
            runners=self.runners(job),
        )

    def _phases_after(self, job: JobState, jobs: Iterable[JobFacts]) -> dict[str, str]:
        """Return the phases of the jobs that a job waits for, archived ones included, without those that are gone."""
        by_uid = {one.uid: one.phase for one in jobs if one.uid is not None}
        unreadable = {one.id: one.phase for one in jobs if one.uid is None}
        phases = {}
        for name, uid in job.after_uids.items():
            phase = by_uid.get(uid) or unreadable.get(name)
            if phase is None:
                try:
                    archived = self.jobs.archived(name, uid)
                except AirExecutorError:
                    phase = "unreadable"
                else:
                    phase = None if archived is None else archived.phase
            if phase is not None:
                phases[name] = phase
        return phases

    def log(self, job: str, task: str, seq: int) -> Path:
        """Return where the output of one run is."""
        return Path(self.layout.run(job, seq, task)) / "out" / "output.log"


def submit(job: Job, state_dir: str | os.PathLike[str] | None = None) -> JobState:
    """Submit a job; see `Client.submit`."""
    return Client(state_dir).submit(job)


def status(job: str, state_dir: str | os.PathLike[str] | None = None) -> JobState:
    """Return a job's state; see `Client.status`."""
    return Client(state_dir).status(job)


def wait(job: str, timeout: float | None = None, state_dir: str | os.PathLike[str] | None = None) -> JobState:
    """Wait for a job to end; see `Client.wait`."""
    return Client(state_dir).wait(job, timeout)


def cancel(job: str, task: str | None = None, state_dir: str | os.PathLike[str] | None = None) -> Answer:
    """Cancel a job or one of its tasks; see `Client.ask`."""
    return Client(state_dir).ask("cancel", job, task)

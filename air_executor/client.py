"""Client of a state directory: submit jobs, send requests, read states. Works on files; needs no manager.

The command line and the Python API (`from air_executor import submit`) use it. It reads what the manager wrote, and
writes only job directories and requests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from air_executor.errors import AirExecutorError, BadInputError, NotFoundError, StoreError
from air_executor.model.records import Op, Request
from air_executor.model.state import JobState, Running
from air_executor.store import codec, files
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.named_runs import UID_BYTES, NamedRuns
from air_executor.store.run_dirs import RunDirs

if TYPE_CHECKING:
    from air_executor.core.explanation import AllJobs, ExplainContext, JobFacts, RunnerFacts
    from air_executor.model.job import Job, Task
    from air_executor.settings import ReaderSettings
    from air_executor.store.job_summary import JobSummary
    from air_executor.store.presence import Presence

ANSWER_WITHIN = 2.0
"""Seconds to wait for the manager's answer to a request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    request: str
    applied: bool
    """False: no manager has processed it yet; it stays in the inbox for the next manager."""
    job: str
    """Id of the job that was asked for, perhaps by the name of its definition."""


class Client:
    """One state directory, accessed from outside its manager."""

    def __init__(self, state_dir: str | os.PathLike[str] | None = None) -> None:
        if state_dir is None:
            from air_executor.settings import locate_state_dir  # noqa: PLC0415 - only for the default

            state_dir = locate_state_dir(None)[0]
        self.layout = Layout(state_dir)
        self.jobs = Jobs(self.layout, read=codec.show_job)
        self.runs = RunDirs(self.layout)
        self.inbox = Inbox(self.layout)
        self.named_runs = NamedRuns(self.jobs, self.inbox)

    # Submitting

    def submit(self, job: Job, workspace: Mapping[str, bytes] | None = None) -> JobState:
        """Submit a job and return its state. The id is taken from then on, with or without a manager.

        A job with a `name` becomes the next run of that name.

        `workspace` maps file names to initial contents of the job's workspace. Only their owner can read the files.

        Raises:
            AlreadyExistsError: the id is taken, or the name is the id of a job.
            BadInputError: a job listed in `after` does not exist.
            StoreError: the volume refused a write; nothing was submitted.
        """
        return self.submit_all([job], workspace)[0]

    def submit_all(self, jobs: Sequence[Job], workspace: Mapping[str, bytes] | None = None) -> list[JobState]:
        """Submit several jobs, which may wait for each other, and return their states; see `submit`.

        All are checked before the first is submitted.

        Raises: as `submit`.
        """
        from air_executor.core.job_checks import in_order  # noqa: PLC0415 - see the module
        from air_executor.core.submission import parse_job  # noqa: PLC0415 - see the module

        jobs = [parse_job(job) for job in jobs]
        by_key = {job.key: job for job in jobs}
        order = in_order({key: job.after for key, job in by_key.items()})
        known = {name: self.named_runs.upstream(name) for job in jobs for name in job.after if name not in by_key}
        self.jobs.prepare()
        if len(jobs) > 1:
            for job in jobs:
                if job.id is not None:
                    self.jobs.ensure_free(job.id)
        created: dict[str, JobState] = {}
        for key in order:
            upstream = [known[name] if name in known else created[name] for name in by_key[key].after]
            created[key] = self._create(by_key[key], upstream, workspace)
            self.wake(created[key].id)
        return [created[job.key] for job in jobs]

    def _create(self, job: Job, upstream: Sequence[JobState], workspace: Mapping[str, bytes] | None) -> JobState:
        from air_executor.core.submission import initial_state  # noqa: PLC0415 - see the module

        def make(name: str) -> JobState:
            now = round(time.time(), 3)
            return initial_state(job, uid=files.random_hex(UID_BYTES), now=now, id=name, upstream=upstream)

        def create(state: JobState) -> None:
            self.jobs.create(state, workspace)

        if job.id is None:
            return self.named_runs.create(job, make, create)
        state = make(job.id)
        create(state)
        return state

    def _find(self, job: str, uid: str | None = None) -> JobState | None:
        """Return a job by its id and uid, or the newest run of the definition that has this name; None: neither."""
        found = self.jobs.find(job, uid)
        return found if found is not None or uid is not None else self.named_runs.newest(job)

    def wake(self, job: str) -> None:
        """Tell the manager of a job that was created.

        Raises:
            StoreError: the volume refused; the manager finds the job within a minute.
        """
        self.inbox.post(Request("wake", job), time.time())

    def _no_job(self, job: str) -> str:
        from air_executor.model.problems import did_you_mean  # noqa: PLC0415 - only for errors

        return f"no job {job} in {self.layout.root}{did_you_mean(job, self.jobs.ids())}"

    # Requests

    def ask(self, op: Op, job: str, task: str | None = None, tasks: Sequence[Mapping[str, Any]] = ()) -> Answer:
        """Send a request and wait up to `ANSWER_WITHIN` seconds for the answer; not at all if no manager is running.

        Raises:
            NotFoundError: the job does not exist.
            BadInputError: the manager refused the request; the message has the reason.
            StoreError: the volume refused a write; nothing was requested.
        """
        from air_executor.store.presence import read_presence  # noqa: PLC0415 - only for requests

        if not os.path.isdir(self.layout.job(job)):
            newest = self.named_runs.newest(job)
            if newest is None or not os.path.isdir(self.layout.job(newest.id)):
                raise NotFoundError(self._no_job(job))
            job = newest.id
        name = self.inbox.post(Request(op, job, task, [dict(one) for one in tasks]), time.time())
        applied = self.inbox.wait(name, 0.0 if read_presence(self.layout).running is False else ANSWER_WITHIN)
        refusal = self.inbox.refusal(name) if applied else None
        if refusal is not None:
            msg = f"{op} {job}{f' {task}' if task else ''}: {refusal}"
            raise BadInputError(msg)
        return Answer(name, applied, job)

    def add(self, job: str, tasks: Sequence[Task]) -> Answer:
        """Add tasks to a job; an ended job is reopened. See `ask`."""
        from air_executor.model import parsing  # noqa: PLC0415 - see the module

        return self.ask("add", job, tasks=[parsing.written(task) for task in tasks])

    # Reading

    def status(self, job: str, uid: str | None = None) -> JobState:
        """Return a job's state as of its last checkpoint; archived jobs are found too.

        Without `uid`, the job that has the id now, or else the newest archived one, or else the newest run of the
        definition that has this name.

        Raises:
            NotFoundError: the job does not exist.
            CorruptFileError, FormatTooNewError: its state cannot be read.
        """
        found = self._find(job, uid)
        if found is None:
            msg = self._no_job(job) if uid is None else f"job {job} (uid {uid}) was deleted"
            raise NotFoundError(msg)
        return found

    def all(self) -> Iterator[JobState | tuple[str, str]]:
        """Yield the state of every job that is not archived; for an unreadable one, its id and the error."""
        for name in self.jobs.ids():
            try:
                yield self.jobs.load(name)
            except NotFoundError:
                continue
            except StoreError as error:
                yield name, str(error)

    def ledger(self) -> Iterator[JobState | tuple[str, str]]:
        """Yield every job once, archived ones included; see `all`."""
        seen = set()
        for found in self.all():
            if isinstance(found, JobState):
                seen.add((found.id, found.uid))
            yield found
        for found in self.jobs.all_archived():  # last: a job archived meanwhile must not be missed
            if not isinstance(found, JobState) or (found.id, found.uid) not in seen:
                yield found

    def wait(self, job: str, timeout: float | None = None, *, uid: str | None = None) -> JobState:
        """Wait for a job to end and return its state; after `timeout` seconds, return the current state.

        It stays with the job that has the id now, or with `uid`, also if another job gets the id.

        Raises:
            NotFoundError: the job does not exist, or was deleted.
        """
        until = None if timeout is None else time.monotonic() + timeout
        seen = None
        pause = 0.01
        state = self.status(job, uid)
        while not state.ended and (until is None or time.monotonic() < until):
            time.sleep(pause)
            pause = min(0.25, pause * 1.2)
            changed = self.changed_at(state.id)
            if changed != seen:  # read a large state only when it has changed
                seen = changed
                state = self.status(state.id, state.uid)
        return state

    def changed_at(self, job: str) -> tuple[int, int, int]:
        """Return the state file's modification time, inode and size; one differs after every write."""
        try:
            found = os.stat(self.layout.state(job))
        except OSError:
            return (0, 0, 0)
        return found.st_mtime_ns, found.st_ino, found.st_size  # two writes may fall into one tick of the clock

    def runners(self, job: JobState) -> dict[str, RunnerFacts]:
        """Return backend, host and runner of a job's running tasks, by task id, where their run records have them."""
        from air_executor.core.explanation import RunnerFacts  # noqa: PLC0415 - rarely needed

        found = {}
        for task in job.tasks.values():
            if not isinstance(task.status, Running):
                continue
            recorded = self.runs.record(job.id, task.status.seq, task.id)
            if recorded is not None and (run := recorded[0]).backend is not None:
                found[task.id] = RunnerFacts(run.backend, str(run.host), run.runner, run.boot)
        return found

    def summaries(self) -> Iterator[JobSummary | tuple[str, str]]:
        """Yield every job that is not archived, without its tasks; see `all`. Much quicker than that."""
        for name in self.jobs.ids():
            try:
                yield self.jobs.summary(name)
            except NotFoundError:
                continue
            except StoreError as error:
                yield name, str(error)

    def job_facts(self) -> Iterator[JobFacts]:
        """Yield the facts that `explain_context` needs, of every job that is not archived."""
        from air_executor.core.explanation import JobFacts  # noqa: PLC0415 - few ask this

        for found in self.summaries():
            yield JobFacts.unreadable(found[0]) if isinstance(found, tuple) else found.facts

    def explain_context(
        self,
        job: JobState,
        jobs: Iterable[JobFacts] | AllJobs,
        now: float,
        settings: ReaderSettings | None,
        manager: Presence | None = None,
    ) -> ExplainContext:
        """Return the surroundings of a job for `explain_job` and `explain_task`.

        `jobs` are all jobs that are not archived, as `job_facts` yields them. Limits are those of the running manager,
        or else of `settings`. `manager`: what is known of it already.
        """
        from air_executor.core.explanation import AllJobs, ExplainContext  # noqa: PLC0415 - few ask this
        from air_executor.store.presence import read_presence, start_command  # noqa: PLC0415

        if job.ended:
            return ExplainContext(now)
        every = jobs if isinstance(jobs, AllJobs) else AllJobs(jobs)
        manager = manager or read_presence(self.layout)
        stopped = manager.running is False
        pools = manager.pools if manager.pools is not None or settings is None else settings.pools
        most = manager.max_runners if manager.max_runners is not None or settings is None else settings.max_runners
        return ExplainContext(
            now,
            manager=manager.running,
            start_command=start_command(),
            only_jobs=(manager.only or ()) if manager.passes_over(job.id, job.submitted_by) else (),
            after=self._phases_after(job, every) if job.started_at is None else {},
            running=every.running,
            max_runners=most,
            running_in_pool=every.running_by_pool[job.pool],
            pool_limit=None if pools is None else pools.get(job.pool),
            backend=(None if settings is None else settings.backend) if stopped else manager.backend,
            host=None if stopped else manager.record.get("host"),
            boot=None if stopped else manager.record.get("boot"),
            backend_problem=manager.backend_problem,
            waiting=manager.waiting.get(job.id),
            runners=self.runners(job),
        )

    def _phases_after(self, job: JobState, jobs: AllJobs) -> dict[str, str]:
        """Return the phases of the jobs that a job waits for, archived ones included, without those that are gone."""
        phases = {}
        for name, uid in (job.earlier_runs | job.after_uids).items():
            phase = jobs.phase(name, uid)
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
        """Return the path of a run's output."""
        return Path(self.layout.run(job, seq, task)) / "out" / "output.log"


def submit(job: Job, state_dir: str | os.PathLike[str] | None = None) -> JobState:
    """Submit a job. See `Client.submit`."""
    return Client(state_dir).submit(job)


def status(job: str, state_dir: str | os.PathLike[str] | None = None) -> JobState:
    """Return a job's state. See `Client.status`."""
    return Client(state_dir).status(job)


def wait(job: str, timeout: float | None = None, state_dir: str | os.PathLike[str] | None = None) -> JobState:
    """Wait for a job to end. See `Client.wait`."""
    return Client(state_dir).wait(job, timeout)


def cancel(job: str, task: str | None = None, state_dir: str | os.PathLike[str] | None = None) -> Answer:
    """Cancel a job or one of its tasks. See `Client.ask`."""
    return Client(state_dir).ask("cancel", job, task)

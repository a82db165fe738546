"""Client of a state directory: submit jobs, send requests, read states. Works on files; needs no manager.

The command line and the Python API (`from air_executor import submit`) use it. It reads what the manager wrote, and
writes only job directories and requests.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from air_executor.client.directory_logs import DirectoryLogs
from air_executor.client.job_access import Answer, Charges, NamedRun
from air_executor.errors import AirExecutorError, BadInputError, NotFoundError, StoreError
from air_executor.model.records import Op, Request
from air_executor.model.state import JobState
from air_executor.store import codec
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.named_runs import NamedRuns
from air_executor.store.run_dirs import RunDirs
from air_executor.store.run_logs import LOG, folder_of
from air_executor.store.worktree_notes import notes_of

if TYPE_CHECKING:
    from air_executor.client.directory_schedules import DirectorySchedules
    from air_executor.client.directory_workspaces import DirectoryWorkspaces
    from air_executor.core.cost_report import CostReport
    from air_executor.core.explanation import ExplainContext, RunnerFacts
    from air_executor.core.job_facts import AllJobs, JobFacts
    from air_executor.core.spending_limits import SpendingLimit
    from air_executor.model.job import Job, Task
    from air_executor.settings import ReaderSettings
    from air_executor.store.job_summary import JobSummary
    from air_executor.store.object_workspaces import ObjectWorkspaces
    from air_executor.store.presence import Presence

ANSWER_WITHIN = 2.0
"""Seconds to wait for the manager's answer to a request."""


class Client:
    """One state directory, accessed from outside its manager."""

    def __init__(self, state_dir: str | os.PathLike[str] | None = None, workspace_store: str | None = None) -> None:
        """`workspace_store`: the object store that the workspaces of the jobs are in, as `AIR_WORKSPACE_STORE`."""
        if state_dir is None:
            from air_executor.settings import locate_state_dir  # noqa: PLC0415 - only for the default

            state_dir = locate_state_dir(None)[0]
        self.layout = Layout(state_dir)
        self.jobs = Jobs(self.layout, read=codec.show_job)
        self.runs = RunDirs(self.layout)
        self.inbox = Inbox(self.layout)
        self.named_runs = NamedRuns(self.jobs, self.inbox)
        self.logs = DirectoryLogs(self.layout)
        self._workspace_store = workspace_store

    @property
    def place(self) -> str:
        """Path of the state directory."""
        return self.layout.root

    @property
    def schedules(self) -> DirectorySchedules:
        """Definitions that run by themselves."""
        from air_executor.client.directory_schedules import DirectorySchedules  # noqa: PLC0415 - imports pydantic

        return DirectorySchedules(self)

    @property
    def workspaces(self) -> DirectoryWorkspaces:
        """The workspaces of the jobs."""
        from air_executor.client.directory_workspaces import DirectoryWorkspaces  # noqa: PLC0415 - for few commands

        return DirectoryWorkspaces(self)

    @cached_property
    def object_workspaces(self) -> ObjectWorkspaces | None:
        """The workspaces that are in an object store; None: they are folders."""
        if self._workspace_store is None:
            return None
        from air_executor.store.object_workspaces import ObjectWorkspaces  # noqa: PLC0415 - where a setting asks for it

        return ObjectWorkspaces(self.layout, self._workspace_store)

    def has_schedules(self) -> bool:
        """Tell quickly whether there may be schedules."""
        return os.path.lexists(self.layout.schedules)

    def ids(self) -> list[str]:
        """Return the ids of all jobs that are not archived."""
        return self.jobs.ids()

    # Submitting

    def submit(
        self,
        job: Job,
        workspace: Mapping[str, bytes] | None = None,
        *,
        uid: str | None = None,
        owner: str | None = None,
    ) -> JobState:
        """Submit a job and return its state. The id is taken from then on, with or without a manager.

        A job with a `name` becomes the next run of that name.

        `workspace` maps file names to initial contents of the job's workspace. Only their owner can read the files.
        `uid`: 24 hexadecimal digits that no other job has, in place of random ones. `owner`: see `JobState`.

        Raises:
            AlreadyExistsError: the id is taken, or the name is the id of a job.
            BadInputError: a job listed in `after` does not exist.
            StoreError: the volume refused a write; nothing was submitted.
        """
        uids = None if uid is None else {job.key: uid}
        return self.submit_all([job], workspace, uids=uids, owner=owner)[0]

    def submit_all(
        self,
        jobs: Sequence[Job],
        workspace: Mapping[str, bytes] | None = None,
        *,
        uids: Mapping[str, str] | None = None,
        owner: str | None = None,
        existing: Mapping[str, JobState] | None = None,
        checked: bool = False,
    ) -> list[JobState]:
        """Submit several jobs, which may wait for each other, and return their states; see `submit`.

        All are checked before the first is submitted. By id or name of a job: `uids`, and `existing` ones, which were
        submitted already. `checked`: `parse_job` has made them.

        Raises: as `submit`.
        """
        from air_executor.client.job_submission import submit_jobs  # noqa: PLC0415 - few submit
        from air_executor.core.submission import parse_job  # noqa: PLC0415 - as above

        jobs = jobs if checked else [parse_job(job) for job in jobs]
        return submit_jobs(self, jobs, workspace, uids=uids or {}, owner=owner, existing=existing or {})

    def _find(self, job: str, uid: str | None = None) -> JobState | None:
        """Return a job by its id and uid, or what a name means without one; None: nothing."""
        return self.named_runs.meant(job) if uid is None else self.jobs.find(job, uid)

    def wake(self, job: str) -> None:
        """Tell the manager of a job that was created.

        Raises:
            StoreError: the volume refused; the manager finds the job within a minute.
        """
        self.inbox.post(Request("wake", job), time.time())

    def _no_job(self, job: str) -> str:
        from air_executor.model.problems import did_you_mean  # noqa: PLC0415 - only for errors

        if os.path.isdir(self.layout.job(job)):
            return f"job {job}: {self.layout.state(job)} is missing; restore it, from git or from *.corrupt beside it"
        return f"no job {job} in {self.layout.root}{did_you_mean(job, self.jobs.ids())}"

    # Requests

    def ask(
        self,
        op: Op,
        job: str,
        task: str | None = None,
        tasks: Sequence[Mapping[str, Any]] = (),
        **more: Any,  # noqa: ANN401 - further fields of `Request`
    ) -> Answer:
        """Send a request and wait up to `ANSWER_WITHIN` seconds for the answer; not at all if no manager is running.

        `downstream` and `fields` are for `rerun`: also what depends on the task, and other values of its fields.

        Raises:
            NotFoundError: the job or task does not exist.
            BadInputError: the manager refused the request, or the next one would; the message has the reason.
            StoreError: the volume refused a write; nothing was requested.
        """
        if not os.path.isdir(self.layout.job(job)):
            newest = self.named_runs.newest(job)
            if newest is None or not os.path.isdir(self.layout.job(newest.id)):
                raise NotFoundError(self._no_job(job))
            job = newest.id
        request = Request(op, job, task, [dict(one) for one in tasks], **more)
        unmanaged = self.presence().running is False
        refusal = self._refusal_at_once(request) if unmanaged else None
        name, applied = "", False
        if refusal is None:
            name = self.inbox.post(request, time.time())
            applied = self.inbox.wait(name, 0.0 if unmanaged else ANSWER_WITHIN)
            refusal = self.inbox.refusal(name) if applied else None
        if refusal is not None:
            msg = f"{op} {job}{f' {task}' if task else ''}: {refusal}"
            raise type(refusal)(msg)
        return Answer(name, applied, job)

    def _refusal_at_once(self, request: Request) -> BadInputError | NotFoundError | None:
        """Return the error by which the next manager would refuse a request, if that is known already."""
        from air_executor.client.request_check import check_request  # noqa: PLC0415 - few ask without a manager

        try:
            check_request(self.layout, self.jobs, self.inbox, request, time.time())
        except (BadInputError, NotFoundError) as error:
            return error
        return None

    def add(self, job: str, tasks: Sequence[Task]) -> Answer:
        """Add tasks to a job; an ended job is reopened. See `ask`."""
        from air_executor.model import parsing  # noqa: PLC0415 - see the module

        return self.ask("add", job, tasks=[parsing.written(task) for task in tasks])

    # Reading

    def status(self, job: str, uid: str | None = None) -> JobState:
        """Return a job's state as of its last checkpoint; archived jobs are found too.

        Without `uid`, the job that has the id now, or else the newest of the archived ones and of the runs of the
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
        """Return backend, host and runner of a job's running tasks, by task id, as far as they are known."""
        from air_executor.client.surroundings import runner_facts  # noqa: PLC0415 - rarely needed

        def has_begun(seq: int, task: str) -> bool:
            try:
                return self.runs.started(job.id, seq, task) is not None
            except StoreError:
                return True

        def has_ended(seq: int, task: str) -> bool:
            try:
                return self.runs.exit(job.id, seq, task) is not None
            except StoreError:
                return False

        return runner_facts(job, functools.partial(self.runs.earlier_origin, job.id), has_begun, has_ended)

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
        from air_executor.core.job_facts import JobFacts  # noqa: PLC0415 - few ask this

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
        """Return the surroundings of a job; see `surroundings.explain_context`."""
        from air_executor.client.surroundings import explain_context  # noqa: PLC0415 - few ask this

        known = manager or self.presence()
        runners = {} if job.ended else self.runners(job)
        found = explain_context(
            job, jobs, now, settings, manager=known, archived_phase=self.archived_phase, runners=runners
        )
        return replace(found, worktrees=notes_of(self.layout, job))

    def archived_phase(self, job: str, uid: str) -> str | None:
        """Return the phase of an archived job, or `unreadable`; None: it is gone."""
        try:
            found = self.jobs.archived(job, uid)
        except AirExecutorError:
            return "unreadable"
        return None if found is None else found.phase

    def history(self, name: str, limit: int) -> list[NamedRun]:
        """Return the newest runs of a definition, archived ones included. Raises NotFoundError where there is none."""
        from air_executor.client.run_history import newest_runs  # noqa: PLC0415 - for few commands

        return newest_runs(self.named_runs, name, limit)

    def report(
        self,
        jobs: Sequence[str],
        now: float,
        *,
        by: str,
        since: float | None,
        until: float | None = None,
        filters: Sequence[tuple[str, str]] = (),
        pool_size: int | None,
        budgets: Sequence[SpendingLimit] = (),
    ) -> tuple[CostReport, list[tuple[str, str]]]:
        """Return the cost report of some jobs or of all, and which jobs cannot be read, with the errors.

        A report of all jobs says what is used of `budgets`. Raises NotFoundError where one of the jobs does not exist.
        """
        from air_executor.client.whole_ledger import report_of  # noqa: PLC0415 - only for reports

        how = {"by": by, "since": since, "until": until, "filters": filters, "pool_size": pool_size}
        return report_of(self, jobs, now, budgets, **how)

    def charges(
        self, jobs: Sequence[str], since: float | None, until: float | None, filters: Sequence[tuple[str, str]] = ()
    ) -> Charges:
        """Return what some jobs or all of them cost, as charges. Raises as `report`."""
        from air_executor.client.whole_ledger import charges_of  # noqa: PLC0415 - only for reports

        return charges_of(self, jobs, since, until, filters)

    # The manager

    def presence(self) -> Presence:
        """Return what is known of the manager of this directory."""
        from air_executor.store.presence import read_presence  # noqa: PLC0415 - not for all commands

        return read_presence(self.layout)

    def requests(self, job: str | None = None) -> list[str]:
        """Return the oldest requests that wait for a manager, of one job or of all, but those that only wake it."""
        return self.inbox.shown(job)

    def log(self, job: str, task: str, seq: int) -> Path:
        """Return the path of a run's output."""
        return Path(folder_of(self.layout.run(job, seq, task))) / LOG

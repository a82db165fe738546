"""What the command line asks of jobs, wherever they are: in a state directory, or behind a manager's server.

`Client` (files) and `ServerClient` (HTTP) implement it; one test suite runs against both. Errors are those of `errors`,
with the same meaning: a job that does not exist is a NotFoundError over HTTP, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

if TYPE_CHECKING:
    from air_executor.client.workspace_files import FoundFile
    from air_executor.core.cost_report import CostReport
    from air_executor.core.explanation import ExplainContext
    from air_executor.core.job_facts import AllJobs, JobFacts
    from air_executor.core.spending_limits import SpendingLimit
    from air_executor.model.job import Job, Task
    from air_executor.model.records import Op
    from air_executor.model.state import JobState
    from air_executor.settings import ReaderSettings
    from air_executor.store.job_summary import JobSummary
    from air_executor.store.log_times import LogTimes
    from air_executor.store.presence import Presence

ScheduleRecord = dict[str, Any]
"""A schedule as `core.upcoming.schedule_record` makes it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    request: str
    applied: bool
    """False: no manager has processed it yet; it stays in the inbox for the next manager."""
    job: str
    """Id of the job that was asked for, perhaps by the name of its definition."""


class Submitted(Protocol):
    """A job that is stored durably. A `JobState` is one."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def uid(self) -> str:
        """What tells it from all other jobs."""

    @property
    def phase(self) -> str:
        """Its phase."""


class SubmittedJob(NamedTuple):
    """What a server tells of one."""

    id: str
    uid: str
    phase: str


class NamedRun(NamedTuple):
    """A run of a definition."""

    job: JobSummary
    params: Mapping[str, Any]


class AppliedSchedule(NamedTuple):
    """A schedule that was applied."""

    record: ScheduleRecord
    changed: bool
    """False: it was stored already."""


class Charges(NamedTuple):
    """What runs cost, for tools of finance."""

    csv: str
    """As FOCUS defines it; see `core.focus_export`."""
    left_out: int
    """Runs whose days are not known."""
    unreadable: list[tuple[str, str]]
    """Jobs that cannot be read, with the errors."""


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """The runs of a backfill."""

    created: list[str]
    left_out: list[str] = field(default_factory=list)
    """Runs that there were already."""
    unsuccessful: list[str] = field(default_factory=list)
    """Those of them that have failed, or were cancelled."""
    retried: list[str] = field(default_factory=list)
    """Those of these that are retried."""


class LogAccess(Protocol):
    """The logs of runs."""

    def open(self, job: JobState, task: str, seq: int, service: str | None = None) -> BinaryIO | None:
        """Return the log of a run, opened for reading without a buffer, or None if there is none.

        `service`: that of a service of its task, which is kept when the run ends.
        """

    def size(self, job: JobState, task: str, seq: int) -> int | None:
        """Return how long the log of a run is; 0 if there is none, None if only reading it tells."""

    def times(self, job: JobState, task: str, seq: int, log: BinaryIO) -> LogTimes:
        """Return when the lines of a log, which is open, were written."""

    def is_removed(self, job: JobState, task: str, seq: int) -> bool:
        """Tell whether the files of a run that has begun are gone."""


class ScheduleAccess(Protocol):
    """Definitions that run by themselves."""

    def all(self) -> tuple[list[ScheduleRecord], list[tuple[str, str]]]:
        """Return all schedules by name, and which cannot be read, with the errors."""

    def next_times(self, name: str, count: int) -> list[str]:
        """Return when the next runs of a schedule start."""

    def apply(self, files: Sequence[tuple[str, bytes]]) -> list[AppliedSchedule]:
        """Apply job files, given by name and content. All are checked before any is applied."""

    def pause(self, names: Sequence[str], *, paused: bool) -> list[ScheduleRecord]:
        """Pause or resume schedules, once all are found."""

    def delete(self, names: Sequence[str]) -> list[ScheduleRecord]:
        """Delete schedules, once all are found; return them as they were."""

    def run(self, name: str, params: Mapping[str, Any]) -> Submitted:
        """Submit the next run of a schedule's job, with values of its parameters; its next time stays as it is."""

    def backfill(
        self, name: str, since: str, until: str, *, max_active: int, newest_first: bool, retry: bool, dry_run: bool
    ) -> BackfillResult:
        """Create the runs that a schedule would have had between two times."""

    def cancel_backfill(self, name: str) -> list[str]:
        """Cancel all unfinished runs of a schedule that backfills made; return their ids."""


class WorkspaceAccess(Protocol):
    """The files that the tasks of a job share."""

    def files(self, job: str, path: str = "") -> Iterator[FoundFile]:
        """Yield the regular files at or below a path of a job's workspace; links and others are left out."""

    def open(self, job: str, path: str) -> BinaryIO:
        """Open a file of a job's workspace for reading."""

    def write(self, job: str, path: str, source: BinaryIO, *, executable: bool = False) -> None:
        """Write a file of a job's workspace whole, in place of another one."""


class JobAccess(Protocol):
    """Jobs, their logs and their schedules, accessed from outside of their manager."""

    @property
    def logs(self) -> LogAccess:
        """The logs of their runs."""

    @property
    def schedules(self) -> ScheduleAccess:
        """The schedules."""

    @property
    def workspaces(self) -> WorkspaceAccess:
        """The workspaces of the jobs."""

    def has_schedules(self) -> bool:
        """Tell quickly whether there may be schedules."""

    @property
    def place(self) -> str:
        """Where the jobs are, for messages: a path, or the address of a server."""

    # Changes

    def submit_all(self, jobs: Sequence[Job]) -> Sequence[Submitted]:
        """Submit several jobs, which may wait for each other. All are checked before the first is submitted."""

    def ask(
        self,
        op: Op,
        job: str,
        task: str | None = None,
        tasks: Sequence[Mapping[str, Any]] = (),
        **more: Any,  # noqa: ANN401 - further fields of `Request`
    ) -> Answer:
        """Send a request, and wait shortly for the answer."""

    def add(self, job: str, tasks: Sequence[Task]) -> Answer:
        """Add tasks to a job; an ended job is reopened."""

    # Jobs

    def status(self, job: str, uid: str | None = None) -> JobState:
        """Return a job's state as of its last checkpoint."""

    def ids(self) -> list[str]:
        """Return the ids of all jobs that are not archived."""

    def summaries(self) -> Iterator[JobSummary | tuple[str, str]]:
        """Yield every job that is not archived, without its tasks; for an unreadable one, its id and the error."""

    def job_facts(self) -> Iterator[JobFacts]:
        """Yield the facts that `explain_context` needs, of every job that is not archived."""

    def archived_phase(self, job: str, uid: str) -> str | None:
        """Return the phase of an archived job, or `unreadable`; None: it is gone."""

    def wait(self, job: str, timeout: float | None = None, *, uid: str | None = None) -> JobState:
        """Wait for a job to end and return its state; after `timeout` seconds, return the current state."""

    def changed_at(self, job: str) -> object:
        """Return what differs after every change of a job's state."""

    def explain_context(
        self,
        job: JobState,
        jobs: Iterable[JobFacts] | AllJobs,
        now: float,
        settings: ReaderSettings | None,
        manager: Presence | None = None,
    ) -> ExplainContext:
        """Return the surroundings of a job for `explain_job` and `explain_task`."""

    def history(self, name: str, limit: int) -> list[NamedRun]:
        """Return the newest runs of a definition, archived ones included."""

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

        `budgets` are those of a state directory; a server has its own.
        """

    def charges(
        self, jobs: Sequence[str], since: float | None, until: float | None, filters: Sequence[tuple[str, str]] = ()
    ) -> Charges:
        """Return what some jobs or all of them cost between two times (Unix seconds), as charges."""

    # The manager

    def presence(self) -> Presence:
        """Return what is known of the manager."""

    def requests(self, job: str | None = None) -> list[str]:
        """Return the oldest requests that wait for a manager, of one job or of all, but those that only wake it."""

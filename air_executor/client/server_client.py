"""Jobs behind a manager's server, over its HTTP API. Imported only where a server is given.

It reads states as `state.json` has them, so that all that shows jobs is the same as over files.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from air_executor.client.connection import SUBMIT_FOR, Connection
from air_executor.client.job_access import Answer, Charges, NamedRun, SubmittedJob
from air_executor.client.server_address import read_address
from air_executor.client.server_logs import ServerLogs
from air_executor.client.server_schedules import ServerSchedules
from air_executor.client.server_workspaces import ServerWorkspaces
from air_executor.client.surroundings import explain_context, runner_facts
from air_executor.core.cost_tables import read_report
from air_executor.core.job_facts import JobFacts
from air_executor.errors import AirExecutorError, NotFoundError
from air_executor.model import parsing
from air_executor.model.names import check_id
from air_executor.model.times import to_text
from air_executor.store import codec
from air_executor.store.json_output import summary_of_line
from air_executor.store.presence import Presence

if TYPE_CHECKING:
    from air_executor.core.cost_report import CostReport
    from air_executor.core.explanation import ExplainContext
    from air_executor.core.job_facts import AllJobs
    from air_executor.core.spending_limits import SpendingLimit
    from air_executor.model.job import Job, Task
    from air_executor.model.records import Op
    from air_executor.model.state import JobState
    from air_executor.settings import ReaderSettings
    from air_executor.store.job_summary import JobSummary

PAGE = 500
"""Jobs of one request, and the most runs of a name."""
STATES_KEPT = 100
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two looks of `wait`."""
_FIELDS: Mapping[str, Mapping[str, str]] = {
    "cancel": {"task": "task"},
    "pause": {},
    "resume": {"budget": "budget"},
    "retry": {"task": "task", "budget": "budget"},
    "rerun": {"task": "task", "downstream": "downstream", "fields": "fields"},
    "approve": {"task": "task", "values": "values"},
    "reject": {"task": "task", "message": "reason"},
    "confirm-gone": {},
}
"""By verb, the fields of its request and what the API calls them. Who asks is for the server to say."""


class _Known(NamedTuple):
    tag: str
    state: JobState


class ServerClient:
    """See `JobAccess`."""

    def __init__(
        self,
        server: str,
        token: str | None,
        *,
        report: Callable[[str], object] = lambda _: None,
        connection: Connection | None = None,
    ) -> None:
        """`server` is its address; `report` is told when it does not answer and is tried again.

        `connection`: one that exists already.

        Raises:
            BadInputError: the address is none.
        """
        self.address = read_address(server)
        self.connection = connection or Connection(self.address, token, report)
        self.logs = ServerLogs(self.connection)
        self.schedules = ServerSchedules(self.connection)
        self.workspaces = ServerWorkspaces(self.connection)
        self._lock = threading.Lock()
        """Guards the states: tools of agents ask from several threads."""
        self._states: OrderedDict[tuple[str, str | None], _Known] = OrderedDict()
        if token is not None and not self.address.secure and not self.address.is_local:
            report(f"warning: {self.place} is not encrypted: everybody on the way can read the token; use https")

    def close(self) -> None:
        """Close its connections; it can be used again."""
        self.connection.close()

    @property
    def place(self) -> str:
        """Address of the server."""
        return self.address.url

    def has_schedules(self) -> bool:
        """Return True: to know more, ask for them."""
        return True

    # Changes

    def submit_all(self, jobs: Sequence[Job], *, replace: bool = False) -> list[SubmittedJob]:
        """Submit several jobs, which may wait for each other; once, also if the connection breaks.

        `replace`: archive ended jobs of the same ids first.
        """
        body = {"jobs": [parsing.written_job(job) for job in jobs], "replace": replace}
        asked = self.connection.ask(
            "POST",
            "/submissions",
            body=parsing.to_json(body),
            headers={"Idempotency-Key": secrets.token_hex(16)},
            repeat_for=SUBMIT_FOR,
        )
        found = self.connection.data(asked)["jobs"]
        return [SubmittedJob(one["id"], one["uid"], one["phase"]) for one in found]

    def ask(
        self,
        op: Op,
        job: str,
        task: str | None = None,
        tasks: Sequence[Mapping[str, Any]] = (),
        **more: Any,  # noqa: ANN401 - further fields of `Request`
    ) -> Answer:
        """Send a request, and wait shortly for the answer."""
        if op == "add":
            return self._ask(f"/jobs/{check_id(job)}/tasks", {"tasks": list(tasks)})
        given = {"task": task, **more}
        body = {name: given[field] for field, name in _FIELDS[op].items() if given.get(field) is not None}
        return self._ask(f"/jobs/{check_id(job)}/{op}", body)

    def add(self, job: str, tasks: Sequence[Task]) -> Answer:
        """Add tasks to a job; an ended job is reopened."""
        return self.ask("add", job, tasks=[parsing.written(task) for task in tasks])

    def _ask(self, path: str, body: Mapping[str, Any]) -> Answer:
        found = self.connection.data(self.connection.ask("POST", path, body=parsing.to_json(body)))
        return Answer(found["request"], found["applied"], found["job"])

    # Jobs

    def status(self, job: str, uid: str | None = None) -> JobState:
        """Return a job's state as of its last checkpoint. Change nothing in it: it may be returned again."""
        return self._known(job, uid).state

    def changed_at(self, job: str) -> object:
        """Return what differs after every change of a job's state."""
        try:
            return self._known(job, None).tag
        except NotFoundError:
            return None

    def _known(self, job: str, uid: str | None) -> _Known:
        key = check_id(job), uid
        with self._lock:
            known = self._states.get(key)
        headers = {} if known is None else {"If-None-Match": known.tag}
        found = self.connection.get(f"/jobs/{job}", [("uid", uid)], headers)
        if found.status == 304 and known is not None:  # noqa: PLR2004 - not modified
            return known
        made = _Known(found.headers.get("etag", ""), codec.load_job(found.body, f"{self.place}: job {job}"))
        with self._lock:
            self._states[key] = made
            while len(self._states) > STATES_KEPT:
                self._states.popitem(last=False)
        return made

    def ids(self) -> list[str]:
        """Return the ids of all jobs that are not archived."""
        return [job[0] if isinstance(job, tuple) else job.id for job in self.summaries()]

    def summaries(self) -> Iterator[JobSummary | tuple[str, str]]:
        """Yield every job that is not archived, without its tasks; for an unreadable one, its id and the error."""
        cursor = None
        while True:
            page = self.connection.json("/jobs", [("limit", PAGE), ("cursor", cursor)])
            yield from map(summary_of_line, page["jobs"])
            cursor = page["next"]
            if cursor is None:
                break
        yield from ((one["id"], one["message"]) for one in page["unreadable"])

    def job_facts(self) -> Iterator[JobFacts]:
        """Yield the facts that `explain_context` needs, of every job that is not archived."""
        for found in self.summaries():
            yield JobFacts.unreadable(found[0]) if isinstance(found, tuple) else found.facts

    def archived_phase(self, job: str, uid: str) -> str | None:
        """Return the phase of an archived job, or `unreadable`; None: it is gone."""
        try:
            return self.status(job, uid).phase
        except NotFoundError:
            return None
        except AirExecutorError:
            return "unreadable"

    def wait(self, job: str, timeout: float | None = None, *, uid: str | None = None) -> JobState:
        """Wait for a job to end and return its state; after `timeout` seconds, return the current state."""
        until = None if timeout is None else time.monotonic() + timeout
        state, pause = self.status(job, uid), FIRST_PAUSE
        while not state.ended and (until is None or time.monotonic() < until):
            time.sleep(pause if until is None else min(pause, max(0.0, until - time.monotonic())))
            pause = min(LONGEST_PAUSE, pause * 1.2)
            state = self.status(state.id, state.uid)
        return state

    def explain_context(
        self,
        job: JobState,
        jobs: Iterable[JobFacts] | AllJobs,
        now: float,
        settings: ReaderSettings | None,
        manager: Presence | None = None,
    ) -> ExplainContext:
        """Return the surroundings of a job for `explain_job` and `explain_task`."""
        known = manager or self.presence()
        runners = runner_facts(job)
        return explain_context(
            job, jobs, now, settings, manager=known, archived_phase=self.archived_phase, runners=runners
        )

    def history(self, name: str, limit: int) -> list[NamedRun]:
        """Return the newest runs of a definition, archived ones included: at most 500."""
        found = self.connection.json(f"/names/{check_id(name)}/runs", [("limit", min(limit, PAGE))])
        return [NamedRun(summary_of_line(run), run["params"]) for run in found["runs"]]

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
        """Return the cost report of some jobs or of all, and which jobs cannot be read, with the errors."""
        del now, budgets  # the server's
        query = [*_runs_between(jobs, since, until, filters), ("by", by), ("pool", pool_size)]
        found = self.connection.json("/report", query)
        return read_report(found), [(one["id"], one["problem"]) for one in found["unreadable"]]

    def charges(
        self, jobs: Sequence[str], since: float | None, until: float | None, filters: Sequence[tuple[str, str]] = ()
    ) -> Charges:
        """Return what some jobs or all of them cost between two times (Unix seconds), as charges."""
        found = self.connection.json("/charges", _runs_between(jobs, since, until, filters))
        return Charges(found["csv"], found["left_out"], [(one["id"], one["problem"]) for one in found["unreadable"]])

    # The manager

    def presence(self) -> Presence:
        """Return what is known of the manager."""
        record = self.connection.json("/manager")
        return Presence(running=record.pop("running"), record=record)

    def requests(self, job: str | None = None) -> list[str]:
        """Return the oldest requests that wait for a manager, of one job or of all, but those that only wake it."""
        return list(self.connection.json("/requests", [("job", job)])["requests"])

    def caller(self) -> tuple[str, str]:
        """Return the name and the role that the server knows us by."""
        found = self.connection.json("/caller")
        return found["name"], found["role"]


def _runs_between(
    jobs: Sequence[str], since: float | None, until: float | None, filters: Sequence[tuple[str, str]]
) -> list[tuple[str, object]]:
    query: list[tuple[str, object]] = [("job", job) for job in jobs]
    query += [("filter", f"{key}={value}") for key, value in filters]
    return query + [(name, to_text(at)) for name, at in (("since", since), ("until", until)) if at is not None]

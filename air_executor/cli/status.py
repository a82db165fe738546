"""`air-executor status`: a table of all jobs, or one job with its tasks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.choice import JobChoice
from air_executor.cli.flags import given_choice
from air_executor.cli.session import Session, session_of
from air_executor.cli.table import Line, line, print_lines, terminal_width
from air_executor.cli.terminal import is_interactive, print_json
from air_executor.errors import BadInputError

if TYPE_CHECKING:
    from air_executor.cli.jobs_page import Remark
    from air_executor.core.job_facts import AllJobs
    from air_executor.store.job_summary import JobSummary
    from air_executor.store.presence import Presence

PHASES = ("pending", "queued", "running", "paused", "succeeded", "failed", "cancelled", "skipped")


SCHEDULES_SHOWN = 5


def status(
    ctx: typer.Context,
    *,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Default: all jobs.")] = None,
    phase: Annotated[
        list[str] | None, typer.Option(metavar="PHASE", help="Only jobs, or tasks of JOB, in this phase. Repeatable.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep refreshing; arrow keys scroll, q quits.")] = False,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show all jobs and tasks, without a limit.")] = False,
) -> None:
    """Show all jobs, or one job with its tasks: phases, outcomes, costs, and why what is not running isn't.

    Running jobs come first, then failures, jobs that wait, and jobs that succeeded, each newest first.
    """
    session = session_of(ctx)
    for name in phase or ():
        if name not in PHASES:
            msg = f"--phase: must be one of {', '.join(PHASES)}, got {name!r}"
            raise BadInputError(msg)
    choice = given_choice(ctx)
    if job is not None and choice.chooses:
        raise BadInputError("--label and --pool choose jobs; leave them out with JOB")
    page = StatusPage(session, job, phase or (), choice, everything=everything)
    if session.json:
        print_json(page.data())
    elif not watch:
        print_lines(page.lines(time.time(), terminal_width()))
    elif is_interactive():
        from air_executor.cli.watch import watch_page  # noqa: PLC0415 - only with --watch

        watch_page(page.lines)
    else:
        from air_executor.cli.watch import print_changes  # noqa: PLC0415 - only with --watch

        print_changes(page.lines, page.is_final)


class StatusPage:
    """What `status` shows, read again for each refresh."""

    def __init__(
        self, session: Session, job: str | None, phases: Sequence[str], choice: JobChoice, *, everything: bool
    ) -> None:
        self._client = session.client()
        self._job = job
        self._phases = phases
        self._choice = choice
        self._everything = everything

    def data(self) -> object:
        """Return the page as JSON data."""
        from air_executor.store.json_output import job_line, job_record  # noqa: PLC0415

        if self._job is not None:
            return job_record(self._client.status(self._job))
        jobs, unreadable = self._jobs()
        manager = self._client.presence()
        return {
            "manager": {"running": manager.running, **manager.record},
            "jobs": [job_line(job) for job in jobs if self._is_wanted(job)],
            "unreadable": [{"id": name, "message": what} for name, what in unreadable],
        }

    def is_final(self) -> bool:
        """Return whether the page will not change by itself: its job has ended."""
        return self._job is not None and self._client.status(self._job).ended

    def lines(self, now: float, width: int | None) -> list[Line]:
        """Return the page; `width`: of the terminal, None for pipes."""
        return self._all_jobs(now, width) if self._job is None else self._one_job(self._job, now, width)

    def _jobs(self) -> tuple[list[JobSummary], list[tuple[str, str]]]:
        jobs: list[JobSummary] = []
        unreadable: list[tuple[str, str]] = []
        for found in self._client.summaries():
            if isinstance(found, tuple):
                unreadable.append(found)
            else:
                jobs.append(found)
        return jobs, unreadable

    def _is_wanted(self, job: JobSummary) -> bool:
        return self._choice.takes(job) and (not self._phases or job.phase in self._phases)

    def _all_jobs(self, now: float, width: int | None) -> list[Line]:
        from air_executor.cli.jobs_page import JobsPage  # noqa: PLC0415
        from air_executor.core.job_facts import AllJobs  # noqa: PLC0415

        jobs, unreadable = self._jobs()
        every = AllJobs(job.facts for job in jobs)
        manager = self._client.presence()
        filtered = bool(self._phases) or self._choice.chooses
        page = JobsPage(
            jobs=[job for job in jobs if self._is_wanted(job)],
            unreadable=unreadable,
            manager=manager,
            requests=self._client.requests(),
            remark=lambda job: self._remark(job, every, manager, now),
            now=now,
            root=self._client.place,
            filtered=filtered,
        )
        lines = page.lines(width, everything=self._everything)
        if not filtered and self._client.has_schedules():
            from air_executor.cli.schedule import upcoming, why_at_rest  # noqa: PLC0415 - imports pydantic

            found = upcoming(self._client.schedules, now)
            lines += [line(text) for text in found[:SCHEDULES_SHOWN]]
            said = manager.running is False and (page.requests or any(not job.ended for job in page.jobs))
            if found and not said and (why := why_at_rest(manager)) is not None:
                lines.append(line(why, "yellow"))
            if len(found) > SCHEDULES_SHOWN:
                more = f"… and {len(found) - SCHEDULES_SHOWN:,} more schedules (air-executor schedule list)"
                lines.append(line(more, "bright_black"))
        return lines

    def _remark(self, job: JobSummary, every: AllJobs, manager: Presence, now: float) -> Remark:
        from air_executor.cli.jobs_page import Remark  # noqa: PLC0415
        from air_executor.core.cost_report import open_costs  # noqa: PLC0415
        from air_executor.core.ledger import read  # noqa: PLC0415
        from air_executor.core.short_reason import ShortReasons  # noqa: PLC0415
        from air_executor.errors import AirExecutorError  # noqa: PLC0415

        if job.phase == "succeeded":
            return Remark()
        try:
            state = self._client.status(job.id, job.uid)
        except AirExecutorError as error:
            return Remark(str(error))
        context = self._client.explain_context(state, every, now, settings=None, manager=manager)
        return Remark(ShortReasons(state, context).of_job(), open_costs(read([state]), now))

    def _one_job(self, job: str, now: float, width: int | None) -> list[Line]:
        from air_executor.cli.job_page import job_page  # noqa: PLC0415
        from air_executor.core.cost_report import open_costs  # noqa: PLC0415
        from air_executor.core.ledger import read  # noqa: PLC0415

        state = self._client.status(job)
        manager = self._client.presence()
        facts = () if state.ended else self._client.job_facts()
        context = self._client.explain_context(state, facts, now, settings=None, manager=manager)
        requests = self._client.requests(state.id)
        costs = open_costs(read([state]), now)
        coming: list[str] = []
        if state.spec.name is not None and self._client.has_schedules():
            from air_executor.cli.schedule import upcoming_of  # noqa: PLC0415 - imports pydantic

            coming = upcoming_of(self._client, state, now)
        return job_page(
            state,
            manager,
            context,
            costs,
            requests=requests,
            upcoming=coming,
            width=width,
            phases=self._phases,
            everything=self._everything,
        )

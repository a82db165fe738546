"""What the API tells of a state directory as a whole: names and their runs, pools, costs, manager, audit log."""

# No `from __future__ import annotations`: FastAPI reads the annotations as they stand.

import json
import threading
import time
from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from air_executor.core.cost_query import KEYS, parse_filter, parse_keys
from air_executor.core.cost_tables import as_record
from air_executor.errors import BadInputError
from air_executor.model.callers import ADMIN
from air_executor.model.state import RUNNING
from air_executor.model.times import from_text
from air_executor.store.job_summary import JobSummary
from air_executor.store.json_output import job_line
from air_executor.store.presence import read_presence
from air_executor.store.schedules import Schedules
from air_executor.web.api.api_context import AnyCaller, Context, answer, check_role, unchanged
from air_executor.web.api.path_types import DefinitionName, GivenJob, Limit
from air_executor.web.api.schemas import READING, answers, problems

router = APIRouter(tags=["state directory"])

_reporting = threading.Lock()
"""Held by the one report that is made at a time: it reads all jobs."""


@router.get("/names", responses=answers("NameList", "The names.") | READING, summary="List names")
def names(context: Context) -> Response:
    """List the names of definitions that have a schedule, or runs that are not archived."""
    found = {job.name for job in context.cache.jobs()[0] if isinstance(job, JobSummary) and job.name is not None}
    return answer({"names": sorted(found.union(Schedules(context.client.layout).names()))})


@router.get(
    "/names/{name}/runs", responses=answers("History", "Its runs.") | READING, summary="List the runs of a name"
)
def history(context: Context, name: DefinitionName, limit: Limit = 20) -> Response:
    """List the runs of a name, the newest first, archived ones included, with their parameters."""
    runs = context.client.history(name, limit)
    return answer({"name": name, "runs": [job_line(job) | {"params": params} for job, params in runs]})


@router.get("/pools", responses=answers("PoolList", "The pools.") | READING, summary="List pools")
def pools(context: Context) -> Response:
    """List pools that have a limit or running tasks."""
    running: Counter[str] = Counter()
    for job in context.cache.jobs()[0]:
        if isinstance(job, JobSummary) and job.counts[RUNNING]:
            running[job.pool] += job.counts[RUNNING]
    limits = read_presence(context.client.layout).pools or {}
    found = [
        {"name": name, "limit": limits.get(name), "running": running[name]} for name in sorted({*limits, *running})
    ]
    return answer({"pools": found})


@router.get("/manager", responses=answers("Manager", "The manager.") | READING, summary="Show the manager")
def manager(context: Context) -> Response:
    """Show the manager of the state directory: who it is, its limits, its problems."""
    found = read_presence(context.client.layout)
    return answer({"running": found.running, **found.record})


@router.get("/requests", responses=answers("RequestList", "The requests.") | READING, summary="List requests that wait")
def requests(
    context: Context,
    job: Annotated[str | None, Query(max_length=64, description="Only those about this job.")] = None,
) -> Response:
    """List requests that wait for the manager, the oldest first; those that only wake it are none."""
    return answer({"requests": context.client.requests(job)})


@router.get("/caller", responses=answers("Caller", "The caller.") | READING, summary="Show who asks")
def caller(who: AnyCaller) -> Response:
    """Show the name and the role of the token that was sent."""
    return answer({"name": who.name, "role": who.role})


OnlyJobs = Annotated[list[GivenJob], Query(max_length=100, description="Only this job. Repeatable.")]
Since = Annotated[str | None, Query(max_length=40, description="Only what was used since this day or time (UTC).")]
Until = Annotated[str | None, Query(max_length=40, description="Only what was used before this day or time (UTC).")]
Filters = Annotated[
    list[str], Query(max_length=20, description="Only these: `pool=NAME`, `dag=ID`, `label=NAME=VALUE`. Repeatable.")
]


@router.get(
    "/report",
    responses=answers("Report", "The report.") | problems(304) | READING,
    summary="Report runner-seconds, overhead and cost",
)
def report(  # noqa: PLR0917 - a route has its parameters as arguments
    request: Request,
    context: Context,
    job: OnlyJobs = [],  # noqa: B006 - FastAPI copies it
    since: Since = None,
    until: Until = None,
    by: Annotated[
        str,
        Query(
            max_length=300,
            description=f"Group by {', '.join(f'`{key}`' for key in KEYS)} or `label=NAME`, or by several: `a,b`.",
        ),
    ] = "job",
    filter: Filters = [],  # noqa: A002, B006 - the name of the parameter; FastAPI copies it
    pool: Annotated[int | None, Query(ge=1, le=100_000, description="Size of the always-on pool to compare.")] = None,
) -> Response:
    """Report what all jobs cost, archived ones included, compared with an always-on pool."""
    parse_keys(by)
    filters = [parse_filter(one) for one in filter]
    version = context.cache.version_of_all()
    if (same := unchanged(request, version)) is not None:
        return same
    start, end = (None if one is None else _moment(one) for one in (since, until))
    with _reporting:
        found, unreadable = context.client.report(
            job,
            time.time(),
            by=by,
            since=start,
            until=end,
            filters=filters,
            pool_size=pool,
            budgets=context.settings.cost.limits,
        )
    return answer(as_record(found, unreadable), version=version)


@router.get("/charges", responses=answers("Charges", "The charges.") | READING, summary="Export charges")
def charges(
    context: Context,
    job: OnlyJobs = [],  # noqa: B006 - FastAPI copies it
    since: Since = None,
    until: Until = None,
    filter: Filters = [],  # noqa: A002, B006 - the name of the parameter; FastAPI copies it
) -> Response:
    """Export what all jobs cost, archived ones included, as charges: CSV as FOCUS 1.2 defines it."""
    start, end = (None if one is None else _moment(one) for one in (since, until))
    filters = [parse_filter(one) for one in filter]
    with _reporting:
        found = context.client.charges(job, start, end, filters)
    unreadable = [{"id": name, "problem": problem} for name, problem in found.unreadable]
    return answer({"csv": found.csv, "left_out": found.left_out, "unreadable": unreadable})


def _moment(text: str) -> float:
    try:
        return from_text(f"{text}T00:00:00Z")
    except BadInputError:
        return from_text(text)


@router.get(
    "/audit", responses=answers("AuditList", "The changes.") | problems(403) | READING, summary="Read the audit log"
)
def audit(who: AnyCaller, context: Context, limit: Limit = 100) -> Response:
    """Read the newest lines of the audit log; it takes the role admin."""
    check_role(who, ADMIN)
    return answer({"lines": [json.loads(line) for line in context.audit.newest(limit)]})

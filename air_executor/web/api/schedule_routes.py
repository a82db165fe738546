"""Schedules: shown, applied, paused, resumed, deleted, and their past times filled."""

# No `from __future__ import annotations`: FastAPI reads the annotations as they stand.

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from air_executor.errors import AirExecutorError
from air_executor.model.callers import OPERATOR, SUBMITTER
from air_executor.model.change_bodies import BackfillOrder, NewRun, OfJob
from air_executor.web.api.api_context import Change, Context, answer, needs
from air_executor.web.api.bodies import Sent
from air_executor.web.api.job_changes import submitted
from air_executor.web.api.path_types import DefinitionName, Limit
from air_executor.web.api.schemas import CHANGING, READING, answers, takes
from air_executor.web.problem_details import API_HEADERS

router = APIRouter(tags=["schedules"])

Submits = Annotated[Change, needs(SUBMITTER)]
Operates = Annotated[Change, needs(OPERATOR)]
_ONE = answers("Schedule", "The schedule.")


@router.get("/schedules", responses=answers("ScheduleList", "All schedules.") | READING, summary="List schedules")
def schedules(context: Context) -> Response:
    """List all schedules with their next times."""
    found, unreadable = context.client.schedules.all()
    return answer({"schedules": found, "unreadable": [{"id": name, "message": what} for name, what in unreadable]})


@router.post(
    "/schedules",
    openapi_extra=takes("JobFile", required=True, yaml=True, description="A job file with a `name`."),
    responses=answers("AppliedSchedule", "The schedule.") | CHANGING,
    summary="Apply a schedule",
)
def apply(
    change: Operates,
    context: Context,
    body: Sent,
    name: Annotated[str | None, Query(max_length=300, description="What messages call the file.")] = None,
    dry_run: Annotated[bool, Query(description="Check the file, and apply nothing.")] = False,  # noqa: FBT002 - a query
) -> Response:
    """Apply a job file with a `name`: its jobs run by themselves if it has a `schedule`, else on demand."""
    schedules = context.client.schedules
    file = body.named(name), body.small()
    checked = schedules.check(*file)
    if dry_run or not checked.changed:
        return answer({**checked.record, "changed": checked.changed})
    with _noted(change, "schedule apply", checked.record["name"]):
        (applied,) = schedules.apply([file])
    return answer({**applied.record, "changed": applied.changed})


@contextmanager
def _noted(change: Change, action: str, name: str) -> Iterator[None]:
    """Write to the audit log what is done in this block, and if nothing comes of it; what it did is read at once."""
    line = change.note(action, name)
    try:
        yield
    except AirExecutorError as error:
        change.refused(line, error)
        raise
    finally:  # a backfill that has failed may have created runs
        change.context.cache.schedules.changed()
        change.context.cache.changed(name)


@router.get("/schedules/{name}", responses=_ONE | READING, summary="Show a schedule")
def schedule(context: Context, name: DefinitionName) -> Response:
    """Show one schedule with its next time."""
    return answer(context.client.schedules.one(name))


@router.get("/schedules/{name}/next", summary="Show the next times of a schedule", responses=READING)
def upcoming(context: Context, name: DefinitionName, limit: Limit = 5) -> Response:
    """Show when the next runs of a schedule start."""
    return answer({"name": name, "next": context.client.schedules.next_times(name, limit)})


@router.post(
    "/schedules/{name}/pause", openapi_extra=takes("OfJob"), responses=_ONE | CHANGING, summary="Pause a schedule"
)
def pause(change: Operates, context: Context, name: DefinitionName, body: Sent) -> Response:
    """Pause a schedule: no run starts by itself."""
    return _set(change, context, name, body, paused=True)


@router.post(
    "/schedules/{name}/resume", openapi_extra=takes("OfJob"), responses=_ONE | CHANGING, summary="Resume a schedule"
)
def resume(change: Operates, context: Context, name: DefinitionName, body: Sent) -> Response:
    """Resume a schedule; times that passed meanwhile are not caught up."""
    return _set(change, context, name, body, paused=False)


def _set(change: Change, context: Context, name: str, body: Sent, *, paused: bool) -> Response:
    body.record(OfJob)
    schedules = context.client.schedules
    schedules.one(name)
    with _noted(change, "schedule pause" if paused else "schedule resume", name):
        (found,) = schedules.pause([name], paused=paused)
    return answer(found)


@router.post(
    "/schedules/{name}/run",
    status_code=201,
    openapi_extra=takes("NewRun"),
    responses=answers("Submitted", "Stored durably; the running manager, or the next one, runs it.", status=201)
    | CHANGING,
    summary="Run the job of a schedule now",
)
def run(change: Submits, name: DefinitionName, body: Sent) -> Response:
    """Submit the next run of a schedule's job, with values of its parameters; its next time stays as it is."""
    return submitted(change, change.context.client.schedules.job_of(name, body.record(NewRun).params))


@router.delete("/schedules/{name}", status_code=204, responses=CHANGING, summary="Delete a schedule")
def delete(change: Operates, context: Context, name: DefinitionName) -> Response:
    """Delete a schedule; its runs stay."""
    schedules = context.client.schedules
    schedules.one(name)
    with _noted(change, "schedule delete", name):
        schedules.delete([name])
    return Response(None, 204, API_HEADERS)


@router.post(
    "/schedules/{name}/backfill",
    openapi_extra=takes("BackfillOrder", required=True),
    responses=answers("Backfill", "The runs.") | CHANGING,
    summary="Create the runs that a schedule would have had",
)
def backfill(change: Operates, context: Context, name: DefinitionName, body: Sent) -> Response:
    """Create the runs that a schedule would have had between two times; those that exist are left out."""
    order = body.record(BackfillOrder)
    with _noted(change, "backfill", name):
        found = context.client.schedules.backfill(
            name,
            order.since,
            order.until,
            max_active=order.max_active,
            newest_first=order.newest_first,
            retry=order.retry,
            dry_run=order.dry_run,
        )
        context.cache.changed(*found.created, *found.retried)
    return answer(
        {
            "created": found.created,
            "left_out": found.left_out,
            "unsuccessful": found.unsuccessful,
            "retried": found.retried,
            "dry_run": order.dry_run,
        }
    )


@router.delete(
    "/schedules/{name}/backfill",
    responses=answers("CancelledBackfill", "The runs that are cancelled.") | CHANGING,
    summary="Cancel the runs of backfills",
)
def cancel_backfill(change: Operates, context: Context, name: DefinitionName) -> Response:
    """Cancel all unfinished runs of a schedule that backfills made."""
    with _noted(change, "backfill cancel", name):
        cancelled = context.client.schedules.cancel_backfill(name)
        context.cache.changed(*cancelled)
        return answer({"cancelled": cancelled})

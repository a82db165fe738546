"""What the API tells of jobs: lists, states, tasks, runs, logs, and explanations. All of it from files."""

# No `from __future__ import annotations`: FastAPI reads the annotations as they stand.

import base64
import binascii
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from air_executor.core.explanation import explain_job, explain_task
from air_executor.core.progress import Progress, how_ended
from air_executor.core.task_lookup import task_of
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model import parsing
from air_executor.model.state import JobPhase, JobState, TaskPhase
from air_executor.store.job_summary import JobSummary
from air_executor.store.json_output import job_line, job_record
from air_executor.web.api.api_context import Context, answer, unchanged
from air_executor.web.api.path_types import JobId, Limit, LogOfService, RunNumber, TaskId, Uid
from air_executor.web.api.schemas import READING, answers, problems
from air_executor.web.problem_details import API_HEADERS, problem
from air_executor.web.state_cache import UnreadableJob

router = APIRouter(tags=["jobs"])

CHUNK = 64 * 1024
RANGED = "range"
"""The header that asks for a part."""
_NOT_CHANGED = problems(304)
_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")
_LABELS = Query(max_length=100, description="Only jobs with this label, NAME or NAME=VALUE. Repeatable.")


@router.get("/jobs", responses=answers("JobList", "Jobs.") | _NOT_CHANGED | READING, summary="List jobs")
def jobs(  # noqa: PLR0917 - a route has its parameters as arguments
    request: Request,
    context: Context,
    phase: Annotated[list[JobPhase], Query(max_length=20, description="Only jobs in this phase. Repeatable.")] = [],  # noqa: B006 - FastAPI copies it
    label: Annotated[list[str], _LABELS] = [],  # noqa: B006 - as above
    pool: Annotated[str | None, Query(max_length=256, description="Only jobs of this pool.")] = None,
    name: Annotated[str | None, Query(max_length=64, description="Only runs of this name.")] = None,
    owner: Annotated[str | None, Query(max_length=64, description="Only jobs of this owner.")] = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="`next` of the page before.")] = None,
) -> Response:
    """List all jobs that are not archived, the newest first."""
    found, version = context.cache.jobs()
    if (same := unchanged(request, version)) is not None:
        return same
    chosen = [
        job
        for job in found
        if isinstance(job, JobSummary)
        and (not phase or job.phase in phase)
        and (pool is None or job.pool == pool)
        and (name is None or job.name == name)
        and (owner is None or job.owner == owner)
        and all(_has_label(job, one) for one in label)
    ]
    chosen.sort(key=_place)
    if cursor is not None:
        after = _read_cursor(cursor)
        chosen = [job for job in chosen if _place(job) > after]
    shown = chosen[:limit]
    record = {
        "jobs": [job_line(job) for job in shown],
        "unreadable": [{"id": job.id, "message": job.problem} for job in found if isinstance(job, UnreadableJob)],
        "next": _cursor(shown[-1]) if len(chosen) > limit else None,
    }
    return answer(record, version=version)


def _has_label(job: JobSummary, wanted: str) -> bool:
    name, mark, value = wanted.partition("=")
    return name in job.labels and (not mark or job.labels[name] == value)


def _place(job: JobSummary) -> tuple[float, str]:
    return -job.submitted_at, job.id


def _cursor(job: JobSummary) -> str:
    return base64.urlsafe_b64encode(f"{job.submitted_at!r} {job.id}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[float, str]:
    try:
        at, _, name = (
            base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode().partition(" ")
        )
        return -float(at), name
    except (ValueError, binascii.Error):
        msg = f"cursor: must be `next` of an earlier page, got {text[:100]!r}"
        raise BadInputError(msg) from None


@router.get("/jobs/{job}", responses=answers("JobState", "The job.") | _NOT_CHANGED | READING, summary="Show a job")
def job(request: Request, context: Context, job: JobId, uid: Uid = None) -> Response:
    """Show a job with its tasks, as `state.json` has it. Archived jobs are found, too."""
    state, version = context.job(job, uid)
    return unchanged(request, version) or answer(job_record(state), version=version)


@router.get(
    "/jobs/{job}/tasks",
    responses=answers("TaskList", "The tasks.") | _NOT_CHANGED | READING,
    summary="List the tasks of a job",
)
def tasks(
    request: Request,
    context: Context,
    job: JobId,
    phase: Annotated[list[TaskPhase], Query(max_length=20, description="Only tasks in this phase. Repeatable.")] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """List the tasks of a job, in the order of the queue."""
    state, version = context.job(job)
    if (same := unchanged(request, version)) is not None:
        return same
    found = [one for one in job_record(state)["tasks"] if not phase or one["phase"] in phase]
    return answer({"tasks": found}, version=version)


@router.get(
    "/jobs/{job}/inputs",
    responses=answers("Inputs", "The results.") | _NOT_CHANGED | READING,
    summary="Show the results of a job's tasks",
)
def inputs(request: Request, context: Context, job: JobId) -> Response:
    """Show the results of the tasks that have succeeded, by task, as `$AIR_INPUTS` gives them to a run."""
    state, version = context.job(job)
    return unchanged(request, version) or answer(dict(Progress(state).results), version=version)


@router.get(
    "/jobs/{job}/outcomes",
    responses=answers("Outcomes", "The outcomes.") | _NOT_CHANGED | READING,
    summary="Show how a job's tasks have ended",
)
def outcomes(request: Request, context: Context, job: JobId) -> Response:
    """Show how the tasks have ended so far, by task, as `$AIR_OUTCOMES` gives it to a run."""
    state, version = context.job(job)
    if (same := unchanged(request, version)) is not None:
        return same
    return answer({task.id: how_ended(task) for task in Progress(state).done}, version=version)


@router.get(
    "/jobs/{job}/tasks/{task}",
    responses=answers("TaskState", "The task.") | _NOT_CHANGED | READING,
    summary="Show a task",
)
def task(request: Request, context: Context, job: JobId, task: TaskId) -> Response:
    """Show one task of a job."""
    state, version = context.job(job)
    name = task_of(state, task).id
    found = next(one for one in job_record(state)["tasks"] if one["id"] == name)
    return unchanged(request, version) or answer(found, version=version)


@router.get(
    "/jobs/{job}/tasks/{task}/attempts",
    responses=answers("AttemptList", "Its runs.") | _NOT_CHANGED | READING,
    summary="List the runs of a task",
)
def attempts(request: Request, context: Context, job: JobId, task: TaskId) -> Response:
    """List the runs of a task, the oldest first, and the open one."""
    state, version = context.job(job)
    found = task_of(state, task)
    record: dict[str, Any] = {
        "attempts": [parsing.dump(one) for one in found.attempts],
        "running": None if found.run is None else parsing.dump(found.run),
    }
    return unchanged(request, version) or answer(record, version=version)


@router.get(
    "/jobs/{job}/tasks/{task}/attempts/{run}/log",
    response_class=Response,
    responses={
        200: {"description": "The log, up to its present end.", "content": {"text/plain": {}}},
        206: {"description": "The part that `Range` asks for.", "content": {"text/plain": {}}},
    }
    | problems(416)
    | READING,
    summary="Read the log of a run",
)
def log(  # noqa: PLR0917 - a route has its parameters as arguments
    request: Request,
    context: Context,
    job: JobId,
    task: TaskId,
    run: RunNumber,
    uid: Uid = None,
    service: LogOfService = None,
) -> Response:
    """Read the output of a run as it is; `Range: bytes=…` asks for a part: `bytes=-4096` for the last 4 KiB."""
    file = opened_log(context, job, task, run, uid, service)
    return ranged(file, request.headers.get(RANGED, ""), "text/plain; charset=utf-8")


def ranged(file: BinaryIO, asked_for: str, kind: str) -> Response:
    """Return a file as it is, or the part of it that a client asks for; it is closed when that is sent."""
    try:
        size = file.seek(0, 2)
        begin, end, status = 0, size, 200
        asked = _RANGE.fullmatch(asked_for)
        if asked is not None and (asked[1] or asked[2]):
            status = 206
            if asked[1]:
                begin, end = int(asked[1]), min(size, int(asked[2]) + 1 if asked[2] else size)
            else:
                begin = max(0, size - int(asked[2]))
            if begin >= end:
                file.close()
                detail = f"there are {size} bytes"
                return problem(416, "range", detail, {"Content-Range": f"bytes */{size}"})
        file.seek(begin)
    except BaseException:
        file.close()
        raise
    headers = {**API_HEADERS, "Accept-Ranges": "bytes", "Content-Length": str(end - begin)}
    if status == 206:  # noqa: PLR2004
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    return StreamingResponse(_bytes(file, end - begin), status, headers, media_type=kind)


def opened_log(  # noqa: PLR0917 - what tells one log from all others
    context: Context, job: str, task: str, run: int, uid: str | None = None, service: str | None = None
) -> BinaryIO:
    """Return the log of a run, or of a service of its task, open.

    Raises:
        NotFoundError: there is none.
    """
    state = context.job(job, uid)[0]
    found = task_of(state, task)
    file = context.client.logs.open(state, found.id, run, service)
    if file is None:
        whose = "" if service is None else f", service {service}"
        msg = f"task {found.id} of job {state.id} has no log of run {run}{whose}"
        raise NotFoundError(msg)
    return file


@router.get(
    "/jobs/{job}/tasks/{task}/attempts/{run}/log/times",
    responses=answers("LogTimes", "The times.") | READING,
    summary="Show when the lines of a log were written",
)
def log_times(context: Context, job: JobId, task: TaskId, run: RunNumber, uid: Uid = None) -> Response:
    """Show when the lines of a log were written, as exactly as is known."""
    with opened_log(context, job, task, run, uid) as file:
        state = context.job(job, uid)[0]
        found = context.client.logs.times(state, task_of(state, task).id, run, file)
    return answer({"sizes": found.sizes, "times": found.times, "modified": found.modified})


async def _bytes(file: BinaryIO, count: int) -> AsyncIterator[bytes]:
    """Yield the next `count` bytes; zeros where its task has cut it short meanwhile, for the length is told already."""
    with file:
        while count > 0:
            part = await run_in_threadpool(file.read, min(count, CHUNK)) or bytes(min(count, CHUNK))
            count -= len(part)
            yield part


@router.get(
    "/jobs/{job}/explain",
    responses=answers("Explanation", "One sentence.") | READING,
    summary="Explain why a job is not running, or how it ended",
)
def explain(context: Context, job: JobId) -> Response:
    """Explain in one sentence why a job is not running, or how it ended."""
    return answer(_explained(context, context.job(job)[0], None))


@router.get(
    "/jobs/{job}/tasks/{task}/explain",
    responses=answers("Explanation", "One sentence.") | READING,
    summary="Explain why a task is not running, or how it ended",
)
def explain_one(context: Context, job: JobId, task: TaskId) -> Response:
    """Explain in one sentence why a task is not running, or how it ended."""
    state = context.job(job)[0]
    return answer(_explained(context, state, task_of(state, task).id))


def _explained(context: Context, state: JobState, task: str | None) -> dict[str, Any]:
    facts = [] if state.ended else [one.facts for one in context.cache.jobs()[0]]
    around = context.client.explain_context(state, facts, time.time(), context.settings)
    one = None if task is None else state.tasks[task]
    return {
        "job": state.id,
        "task": task,
        "phase": state.phase if one is None else one.phase,
        "explanation": explain_job(state, around) if one is None else explain_task(state, one, around),
        "description": state.spec.description if one is None else one.description,
    }

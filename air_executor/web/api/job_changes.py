"""Changes of jobs: submitted, and asked for by verbs. Each becomes a job directory or a request file.

The answer comes when that is durable: 200 or 201, or 202 where no manager has applied it yet.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations as they stand.

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from air_executor.client.job_submission import submit_once, uid_of_key
from air_executor.core.questions import asking_task
from air_executor.core.request_decision import named_task
from air_executor.core.submission import parse_job
from air_executor.errors import AirExecutorError, AlreadyExistsError, BadInputError
from air_executor.model.callers import ADMIN, OPERATOR, SUBMITTER
from air_executor.model.change_bodies import (
    Approval,
    OfJob,
    OfTask,
    Rejection,
    Rerun,
    Resumption,
    Retry,
    SubmissionOrder,
)
from air_executor.model.job import Job
from air_executor.model.pairs import read_pairs
from air_executor.model.records import Op
from air_executor.model.state import JobState
from air_executor.store.named_runs import RUNS_SEARCHED
from air_executor.store.retention import SPARED, Retention
from air_executor.web.api.api_context import Change, answer, needs
from air_executor.web.api.bodies import Sent
from air_executor.web.api.path_types import JobId
from air_executor.web.api.schemas import CHANGING, answers, takes
from air_executor.web.problem_details import NotApplicableError

router = APIRouter(tags=["jobs"])

MAX_PARAMS = 1000

IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=256, description="Submits a job once, however often it is sent.")
]
Submits = Annotated[Change, needs(SUBMITTER)]
Operates = Annotated[Change, needs(OPERATOR)]
Administers = Annotated[Change, needs(ADMIN)]


@router.post(
    "/jobs",
    status_code=201,
    summary="Submit a job",
    openapi_extra=takes("JobFile", required=True, yaml=True, description="A job file."),
    responses=answers("Submitted", "Stored durably; the running manager, or the next one, runs it.", status=201)
    | answers("Submitted", "The same key was sent before: the job that it submitted.")
    | CHANGING,
)
def submit(
    change: Submits,
    body: Sent,
    param: Annotated[
        list[str], Query(max_length=MAX_PARAMS, description="Value of a parameter, NAME=VALUE. Repeatable.")
    ] = [],  # noqa: B006 - FastAPI copies it
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Submit a job. With `Idempotency-Key`, a repeated request answers with the job of the first one.

    The key counts for this token, and for jobs of this id or name.
    """
    return submitted(change, body.job(dict(read_pairs(param, "param"))), idempotency_key)


def submitted(change: Change, job: Job, key: str | None = None) -> Response:
    """Submit a job and answer with it; not again if the key did so before.

    Raises:
        AirExecutorError: nothing was submitted.
    """
    line = change.note("submit", job.key)
    try:
        (state,), new = _submit(change, [job], key)
    except AirExecutorError as error:
        change.refused(line, error)
        raise
    record = {"id": state.id, "uid": state.uid, "phase": state.phase}
    return answer(record, 201 if new else 200, headers={"Location": change.context.address(f"/jobs/{state.id}")})


def _submit(change: Change, jobs: Sequence[Job], key: str | None) -> tuple[list[JobState], bool]:
    """Submit checked jobs unless the key did so before; return them, and whether one is new."""
    context, owner = change.context, change.caller.name
    client = context.client
    for job in jobs:
        _check_replaced(change, job)
    if key is None:
        found, new = client.submit_all(jobs, owner=owner, checked=True), True
    else:
        found, new = submit_once(client, jobs, owner, key)
    for state in found:
        context.cache.changed(state.id)  # another job may have had its id
    return found, new


@router.post(
    "/submissions",
    status_code=201,
    summary="Submit several jobs",
    openapi_extra=takes("SubmissionOrder", required=True),
    responses=answers("Submissions", "Stored durably, in the order in which they were sent.", status=201)
    | answers("Submissions", "The same key was sent before: the jobs that it submitted.")
    | CHANGING,
)
def submit_several(change: Submits, body: Sent, idempotency_key: IdempotencyKey = None) -> Response:
    """Submit jobs that may wait for each other, without templates: parameters have their values already.

    All are checked before the first is submitted. The command line submits in this way.
    """
    asked = body.record(SubmissionOrder)
    jobs = [parse_job(raw, f"jobs[{number}]") for number, raw in enumerate(asked.jobs)]
    if len({job.key for job in jobs}) < len(jobs):
        raise BadInputError("jobs: two of them have the same id or name")
    noted = [change.note("submit", job.key) for job in jobs]
    try:
        if asked.replace:
            _archive(change, jobs, idempotency_key)
        states, new = _submit(change, jobs, idempotency_key)
    except AirExecutorError as error:
        for line in noted:
            change.refused(line, error)
        raise
    found = [{"id": state.id, "uid": state.uid, "phase": state.phase} for state in states]
    return answer({"jobs": found}, 201 if new else 200)


def _no_lock(*_: object) -> AbstractContextManager[None]:
    """Lock nothing: no run of an ended job is open, and the platform is the manager's to ask."""
    return nullcontext()


def _archive(change: Change, jobs: Sequence[Job], key: str | None) -> None:
    """Archive the ended jobs whose ids these jobs shall have, but those that the same key submitted before."""
    client = change.context.client
    taken: set[str] = set()
    for job in jobs:
        if job.id is None or not os.path.isdir(client.layout.job(job.id)):
            continue
        found = client.jobs.load(job.id)
        if key is not None and found.uid == uid_of_key(job, change.caller.name, key):
            continue
        change.on(job.id)
        if not found.ended:
            msg = f"job {job.id} is {found.phase}; only an ended job can be replaced: `air-executor cancel {job.id}`"
            raise AlreadyExistsError(msg)
        taken.add(job.id)
    for one in Retention(client.layout, _no_lock).archive(taken) if taken else ():
        if one.action == SPARED:
            msg = f"job {one.id} cannot be replaced: {one.reason}"
            raise AlreadyExistsError(msg)


def _check_replaced(change: Change, job: Job) -> None:
    """Check that the caller may cancel the runs that this one replaces."""
    if job.name is None or job.concurrency != "replace" or change.caller.may(OPERATOR):
        return
    for run in islice(change.context.client.named_runs.newest_first(job.name), RUNS_SEARCHED):
        if not run.ended:
            change.on(run.id)


def _ask(change: Change, name: str, op: Op, task: str | None = None, **more: Any) -> Response:  # noqa: ANN401 - fields of `Request`
    """Ask for a change of a job that the caller may change; `task` is what was sent."""
    context = change.context
    job = context.client.status(name)
    change.on(job.id)
    if (named := named_task(op, job, task)) is not None:
        task = named.id
    return _sent(change, job, op, task, lambda: context.client.ask(op, job.id, task, **more))


def _sent(change: Change, job: JobState, op: Op, task: str | None, ask: Callable[[], Any]) -> Response:
    line = change.note(op, job.id, task)
    try:
        found = ask()
    except BadInputError as error:
        change.refused(line, error)
        raise NotApplicableError(str(error)) from None
    except AirExecutorError as error:
        change.refused(line, error)
        raise
    change.context.cache.changed(job.id)
    record = {"request": found.request, "job": found.job, "applied": found.applied}
    return answer(record, 200 if found.applied else 202)


_ANSWERS = answers("Answer", "Applied.") | answers("Answer", "Stored; no manager has applied it yet.", status=202)
_RESPONSES = _ANSWERS | CHANGING


@router.post("/jobs/{job}/cancel", openapi_extra=takes("OfTask"), responses=_RESPONSES, summary="Cancel a job or task")
def cancel(change: Submits, job: JobId, body: Sent) -> Response:
    """Cancel a job, or one of its tasks: running tasks are stopped within their grace period."""
    return _ask(change, job, "cancel", body.record(OfTask).task)


@router.post("/jobs/{job}/pause", openapi_extra=takes("OfJob"), responses=_RESPONSES, summary="Pause a job")
def pause(change: Submits, job: JobId, body: Sent) -> Response:
    """Pause a job: running tasks finish, no new task starts."""
    body.record(OfJob)
    return _ask(change, job, "pause")


@router.post("/jobs/{job}/resume", openapi_extra=takes("Resumption"), responses=_RESPONSES, summary="Resume a job")
def resume(change: Submits, job: JobId, body: Sent) -> Response:
    """Resume a paused job, if need be with a raised budget."""
    return _ask(change, job, "resume", budget=dict(body.record(Resumption).budget))


@router.post("/jobs/{job}/retry", openapi_extra=takes("Retry"), responses=_RESPONSES, summary="Retry failed tasks")
def retry(change: Submits, job: JobId, body: Sent) -> Response:
    """Retry failed, cancelled and skipped tasks; an ended job is reopened."""
    asked = body.record(Retry)
    return _ask(change, job, "retry", asked.task, budget=dict(asked.budget))


@router.post("/jobs/{job}/rerun", openapi_extra=takes("Rerun"), responses=_RESPONSES, summary="Run tasks again")
def rerun(change: Submits, job: JobId, body: Sent) -> Response:
    """Run tasks again in the same job, also those that succeeded."""
    asked = body.record(Rerun)
    return _ask(change, job, "rerun", asked.task, downstream=asked.downstream, fields=dict(asked.fields))


@router.post(
    "/jobs/{job}/approve",
    openapi_extra=takes("Approval"),
    responses=_RESPONSES,
    summary="Approve what a task asks",
)
def approve(change: Operates, job: JobId, body: Sent) -> Response:
    """Approve what a task asks: it succeeds, and its job goes on."""
    asked = body.record(Approval)
    task = asking_task(change.context.client.status(job), asked.task)
    return _ask(change, job, "approve", task, by=change.caller.name, values=dict(asked.values))


@router.post(
    "/jobs/{job}/reject",
    openapi_extra=takes("Rejection"),
    responses=_RESPONSES,
    summary="Reject what a task asks",
)
def reject(change: Operates, job: JobId, body: Sent) -> Response:
    """Reject what a task asks: the task fails with the reason `declined`."""
    asked = body.record(Rejection)
    task = asking_task(change.context.client.status(job), asked.task)
    return _ask(change, job, "reject", task, by=change.caller.name, message=asked.reason)


@router.post(
    "/jobs/{job}/confirm-gone",
    openapi_extra=takes("OfJob"),
    responses=_RESPONSES,
    summary="Confirm that unreachable runners have ended",
)
def confirm_gone(change: Administers, job: JobId, body: Sent) -> Response:
    """Confirm that a job's unreachable runners have ended: its tasks then start again."""
    body.record(OfJob)
    return _ask(change, job, "confirm-gone")


@router.post(
    "/jobs/{job}/tasks",
    openapi_extra=takes("Task", required=True, yaml=True, description="A task, a list of tasks, or `{tasks: […]}`."),
    responses=_RESPONSES,
    summary="Add tasks to a job",
)
def add(change: Submits, job: JobId, body: Sent) -> Response:
    """Add tasks to a job; an ended job is reopened."""
    context, tasks = change.context, body.tasks()
    state = context.job(job)[0]
    change.on(state.id)
    return _sent(change, state, "add", None, lambda: context.client.add(state.id, tasks))

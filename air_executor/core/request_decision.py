"""Which requests a job permits as it stands, and the decision that carries one out.

The manager's `request_handler` asks for each request, and the client's `request_check` where no manager is running.
Refusals are sentences for users. Reads no file, changes no job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from air_executor.core.budget import raise_hint, spending
from air_executor.core.rerun import check_rerun, chosen
from air_executor.core.retrying import may_retry
from air_executor.core.task_lookup import task_of
from air_executor.errors import AirExecutorError, BadInputError
from air_executor.model import state as s
from air_executor.model.events import Requested
from air_executor.model.job import Task
from air_executor.model.records import Op, Request
from air_executor.model.state import Done, JobState, TaskState
from air_executor.model.types import fit


class NothingToDoError(AirExecutorError):
    """The job is already as requested; the request is answered without a decision."""


def named_task(op: Op, job: JobState, name: str | None) -> TaskState | None:
    """Return the task that a request names; None: it names none, or a group to rerun.

    Raises:
        NotFoundError: the job has no such task.
    """
    if name is None or (op == "rerun" and job.task_named(name) is None and chosen(job, name)):
        return None
    return task_of(job, name)


def decision_on(request: Request, name: str, job: JobState, now: float, tasks: Sequence[Task] = ()) -> Requested:
    """Return the decision that carries out the request in the file `name`; `tasks` are those that it adds.

    Raises:
        NothingToDoError: the job is already as requested.
        BadInputError, NotFoundError: it is refused; the message is the reason.
    """
    task = named_task(request.op, job, request.task)
    if job.phase == s.PENDING:
        msg = f"job {job.id} is not released yet: the run that submits it has not ended"
        raise BadInputError(msg)
    match request.op:
        case "cancel":
            _check_cancel(job, task)
        case "pause" | "resume":
            _check_pause(request, job)
        case "retry":
            _check_retry(job, task)
        case "rerun":
            tasks = check_rerun(request, job, task)
        case "approve" | "reject":
            return _answer(request, name, job, task, now)
        case "add" | "confirm-gone" | _:
            pass
    _check_budget(request, job)
    named = request.task if task is None else task.id
    decision = Requested(now, name, request.op, named, list(tasks), request.downstream, budget=request.budget)
    return replace(decision, earlier_runs=request.earlier_runs)


def _check_budget(request: Request, job: JobState) -> None:
    """Refuse what would start a job whose budget is used up: it would be paused or stopped again at once."""
    if request.budget and request.op not in ("resume", "retry"):
        msg = f"{request.op} cannot change the budget"
        raise BadInputError(msg)
    starts = request.op == "resume" or (job.phase != s.PAUSED and request.op in ("retry", "rerun"))
    if not starts and not (job.ended and request.op == "add"):
        return
    limits = {**job.spec.budget, **request.budget}
    over = [one for one in spending(job) if one.used >= limits[one.name]]
    if over:
        msg = f"job {job.id} has used {over[0].text} of its budget; raise it: {raise_hint(job)}"
        raise BadInputError(msg)


def _answer(request: Request, name: str, job: JobState, task: TaskState | None, now: float) -> Requested:
    """Return the decision about a question that a task asks."""
    if task is None or task.approve is None:
        which = "a job has no answer; name its task" if task is None else f"task {task.id} asks nothing"
        msg = f"{request.op}: {which}"
        raise BadInputError(msg)
    if task.phase != s.QUEUED:
        msg = f"task {task.id} of job {job.id} asks no more: it is {task.phase}"
        raise BadInputError(msg)
    if task.ready_at is None:
        msg = f"task {task.id} of job {job.id} does not ask yet: it waits for other tasks"
        raise BadInputError(msg)
    how = "approved" if request.op == "approve" else "rejected"
    why = f": {request.message}" if request.message else ""
    message = fit(f"{how} by {request.by or 'somebody'}{why}")
    return Requested(now, name, request.op, task.id, message=message, result=request.values or None)


def _check_cancel(job: JobState, task: TaskState | None) -> None:
    if job.kept if task is None else task.id in job.kept:
        return  # a runner that stays is let go
    if task is not None and isinstance(task.status, Done):
        msg = f"task {task.id} of job {job.id} has already ended: it is {task.phase}"
        raise BadInputError(msg)
    if job.ended:
        msg = f"job {job.id} has already ended: it is {job.phase}"
        raise BadInputError(msg)


def _check_pause(request: Request, job: JobState) -> None:
    if job.ended:
        msg = f"job {job.id} has already ended: it is {job.phase}"
        raise BadInputError(msg)
    if (request.op == "pause") == (job.phase == s.PAUSED) and not request.budget:
        msg = f"job {job.id} is {job.phase}"
        raise NothingToDoError(msg)


def _check_retry(job: JobState, task: TaskState | None) -> None:
    if task is not None:
        if not isinstance(task.status, Done) or task.status.phase == s.SUCCEEDED:
            msg = f"task {task.id} of job {job.id} is {task.phase}; retry takes failed, cancelled and skipped ones"
            raise BadInputError(msg)
        return
    if not any(isinstance(t.status, Done) and may_retry(t.status) for t in job.tasks.values()):
        again = f"to repeat tasks: `air-executor rerun {job.id}`"
        msg = f"job {job.id} has no failed, cancelled or skipped task to retry; {again}"
        raise BadInputError(msg)

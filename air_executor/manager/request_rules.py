"""Which requests may be applied to a job as it stands, and as which decision. Refusals are sentences for the user."""

from __future__ import annotations

from air_executor.core.queue_lines import task_from_request
from air_executor.errors import AirExecutorError, BadInputError, NotFoundError
from air_executor.manager.verdicts import check_added
from air_executor.model import parsing
from air_executor.model import state as s
from air_executor.model.events import Requested
from air_executor.model.job import Task
from air_executor.model.records import Request
from air_executor.model.state import Done, JobState, TaskState


class NothingToDoError(AirExecutorError):
    """The job is already as asked; the request is answered without a decision."""


def decide(request: Request, name: str, job: JobState, now: float) -> Requested:
    """Return the decision that carries out a request; `name` is that of its file.

    Raises:
        NothingToDoError: it is so already.
        BadInputError, NotFoundError: it is refused; the message is the reason.
    """
    task = _task(request, job)
    if job.phase == s.PENDING:
        msg = f"job {job.id} is not released yet: the run that submits it has not ended"
        raise BadInputError(msg)
    tasks: list[Task] = []
    match request.op:
        case "add":
            tasks = _tasks_to_add(request, job)
        case "cancel":
            _check_cancel(job, task)
        case "pause" | "resume":
            _check_pause(request.op, job)
        case "retry":
            _check_retry(job, task)
        case "confirm-gone" | _:
            pass
    return Requested(now, name, request.op, request.task, tasks)


def _task(request: Request, job: JobState) -> TaskState | None:
    if request.task is None:
        return None
    task = job.tasks.get(request.task)
    if task is None:
        msg = f"job {job.id} has no task {request.task}"
        raise NotFoundError(msg)
    return task


def _tasks_to_add(request: Request, job: JobState) -> list[Task]:
    if not request.tasks:
        msg = "add: no task given"
        raise BadInputError(msg)
    tasks = []
    defaults = parsing.dump(job.spec.defaults)
    free = len(job.tasks)
    for raw in request.tasks:
        task = task_from_request(raw, defaults)
        while task.id is None:
            free += 1
            task.id = f"t{free}" if f"t{free}" not in job.tasks else None
        tasks.append(task)
    check_added(tasks, job)
    return tasks


def _check_cancel(job: JobState, task: TaskState | None) -> None:
    if task is not None and isinstance(task.status, Done):
        msg = f"task {task.id} of job {job.id} has already ended: it is {task.phase}"
        raise BadInputError(msg)
    if job.ended:
        msg = f"job {job.id} has already ended: it is {job.phase}"
        raise BadInputError(msg)


def _check_pause(op: str, job: JobState) -> None:
    if job.ended:
        msg = f"job {job.id} has already ended: it is {job.phase}"
        raise BadInputError(msg)
    if (op == "pause") == (job.phase == s.PAUSED):
        msg = f"job {job.id} is {job.phase}"
        raise NothingToDoError(msg)


def _check_retry(job: JobState, task: TaskState | None) -> None:
    if task is not None:
        if not isinstance(task.status, Done) or task.status.phase == s.SUCCEEDED:
            msg = f"task {task.id} of job {job.id} is {task.phase}; retry takes failed, cancelled and skipped ones"
            raise BadInputError(msg)
        return
    if not any(
        isinstance(t.status, Done) and t.status.phase != s.SUCCEEDED and t.status.reason != s.OK
        for t in job.tasks.values()
    ):
        msg = f"job {job.id} has no failed, cancelled or skipped task to retry"
        raise BadInputError(msg)

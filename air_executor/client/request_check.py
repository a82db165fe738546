"""Refuses at once what the next manager would refuse, where none is running and the files tell it for sure.

`Client.ask` calls it. While requests about the job wait, only names are judged: the others may change all else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from air_executor.core.job_checks import complete_added
from air_executor.core.new_task import new_task
from air_executor.core.queue_lines import task_from_request
from air_executor.core.request_decision import NothingToDoError, decision_on, named_task
from air_executor.errors import AirExecutorError, NotFoundError, StoreError
from air_executor.model.defaults import Defaults
from air_executor.store import files

if TYPE_CHECKING:
    from air_executor.model.job import Task
    from air_executor.model.records import Request
    from air_executor.model.state import JobState
    from air_executor.store.inbox import Inbox
    from air_executor.store.jobs import Jobs
    from air_executor.store.layout import Layout

MOST_WAITING = 1000
"""Waiting requests that are read; with more of them, nothing is refused."""


def check_request(layout: Layout, jobs: Jobs, inbox: Inbox, request: Request, now: float) -> None:
    """Check a request against the state of its job on the volume; `now` in Unix seconds.

    Raises:
        BadInputError, NotFoundError: the next manager would refuse it.
    """
    try:
        waiting = inbox.pending()
        if files.list_dir(layout.journal) or len(waiting) > MOST_WAITING:
            return  # a manager that was killed decided what the state does not have
        job = jobs.load(request.job)
        earlier = [found for name in waiting if (found := _read(inbox, name, request.job)) is not None]
    except (StoreError, NotFoundError):
        return  # the manager says what is wrong
    for one in earlier:
        _add(one, job, now)
    named_task(request.op, job, request.task)
    tasks = _added(request, job)
    if earlier or request.op in ("approve", "reject"):  # whether a task asks already is for the manager to say
        return
    try:
        decision_on(request, "", job, now, tasks)
    except NothingToDoError:
        return


def _read(inbox: Inbox, name: str, job: str) -> Request | None:
    """Return a waiting request if it changes this job."""
    seen = inbox.peek(name)
    return inbox.read(name) if seen is not None and seen[1] == job and seen[0] != "wake" else None


def _add(request: Request, job: JobState, now: float) -> None:
    """Add the tasks of an earlier request to the job, in memory."""
    try:
        tasks = _added(request, job)
    except AirExecutorError:
        return  # this one will be refused itself
    job.tasks.update({task.id or "": new_task(task, queued_by=None, at=now) for task in tasks})


def _added(request: Request, job: JobState) -> list[Task]:
    """Return the tasks that a request adds, with their ids.

    Raises:
        BadInputError: they do not fit into the job.
    """
    defaults = Defaults(job.spec.defaults)
    tasks = [task_from_request(raw, defaults) for raw in request.tasks]
    complete_added(tasks, job.tasks, job.id)
    return tasks

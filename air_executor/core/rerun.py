"""What `rerun` means: which tasks run again, which of those that they queued are superseded, and with what fields.

The request handler asks before it decides, `transitions` when it carries the decision out. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from air_executor.core.late_fields import LATE_FIELDS, filled
from air_executor.errors import BadInputError
from air_executor.model.job import Task
from air_executor.model.problems import InvalidError, Problem, did_you_mean, lines
from air_executor.model.records import Request
from air_executor.model.state import QUEUED, RUNNING, JobState, TaskState


def check_rerun(request: Request, job: JobState, task: TaskState | None) -> list[Task]:
    """Return the task with the fields that a request gives it, if it gives any; it names a group if there is no task.

    Raises:
        BadInputError: the request is refused; the message is the reason.
    """
    if task is None and (request.fields or (request.downstream and request.task is None)):
        msg = f"name the task of job {job.id} that other fields, or what is downstream, are for"
        raise BadInputError(msg)
    if task is not None and (task.superseded or task.phase == QUEUED):
        why = "is queued already" if task.phase == QUEUED else "was queued by a task that ran again since"
        msg = f"task {task.id} of job {job.id} {why}"
        raise BadInputError(msg)
    again, superseded = tasks_to_rerun(job, request.task if task is None else task.id, downstream=request.downstream)
    running = [one.id for one in [*again, *superseded] if one.phase == RUNNING]
    if running:
        msg = f"task {running[0]} of job {job.id} is running; wait for its end, or cancel it"
        raise BadInputError(msg)
    if task is None or not request.fields:
        return []
    try:
        return [with_fields(task, request.fields)]
    except InvalidError as error:
        raise BadInputError("; ".join(lines(error.problems))) from None


def tasks_to_rerun(job: JobState, name: str | None, *, downstream: bool) -> tuple[list[TaskState], list[TaskState]]:
    """Return the tasks that run again, and those that are superseded because what queued them runs again.

    `name`: of a task or of a group; without it, everything that no other task queued runs again. `downstream`: also
    what depends on them. Takes time in proportion to the job's tasks: a chain can be as long as a job.
    """
    tasks = [one for one in job.tasks.values() if not one.superseded]
    trees = _Trees(tasks)
    again: set[str] = set()
    below: set[str] = set()
    waited_for: set[str] = set()
    work = [(one.id, False) for one in chosen(job, name)]
    if downstream:
        work += [(one.id, False) for one in tasks if one.when != "success" and not one.after]  # waits for all others
    while work:
        task, is_below = work.pop()
        if task in below or (task in again and not is_below):
            continue
        (below if is_below else again).add(task)
        work += [(child, True) for child in trees.children.get(task, ())]
        if downstream:
            work += [(other, False) for other in trees.waiting(task, waited_for)]
    again -= below
    return [one for one in tasks if one.id in again], [one for one in tasks if one.id in below]


def chosen(job: JobState, name: str | None) -> list[TaskState]:
    """Return the task with this id, or else the tasks of the group; without a name, those that no other task queued."""
    tasks = [one for one in job.tasks.values() if not one.superseded]
    if name is None:
        return [one for one in tasks if one.queued_by is None]
    return [one for one in tasks if one.id == name] or [one for one in tasks if one.group == name]


class _Trees:
    """Who queued whom, and who waits for whom."""

    def __init__(self, tasks: list[TaskState]) -> None:
        self.children: dict[str | None, list[str]] = {}
        self._parent = {one.id: one.queued_by for one in tasks}
        self._waiters: dict[str, list[str]] = {}
        for one in tasks:
            self.children.setdefault(one.queued_by if one.queued_by in self._parent else None, []).append(one.id)
            for need in one.after:
                self._waiters.setdefault(need, []).append(one.id)
        self._enter: dict[str, int] = {}
        self._leave: dict[str, int] = {}
        stack = [(name, False) for name in self.children.get(None, ())]
        for count in range(2 * len(tasks)):
            name, leaves = stack.pop()
            (self._leave if leaves else self._enter)[name] = count
            if not leaves:
                stack += [(name, True), *((child, False) for child in self.children.get(name, ()))]

    def waiting(self, task: str, visited: set[str]) -> list[str]:
        """Return what waits for a task, or for a tree that it is in; `visited` are the tasks that were looked at."""
        found: list[str] = []
        need: str | None = task
        while need is not None and need not in visited:
            visited.add(need)
            found += [other for other in self._waiters.get(need, ()) if not self._is_above(need, other)]
            need = self._parent.get(need)
        return found

    def _is_above(self, above: str, name: str) -> bool:
        """Tell whether one task descends from the other: it does not wait for its tree then."""
        if above not in self._enter:
            return False
        return self._enter[above] < self._enter[name] and self._leave[name] < self._leave[above]


def with_fields(task: TaskState, given: Mapping[str, Any]) -> Task:
    """Return a task with other values of some fields; `env.DEBUG` is one value within a field.

    Raises:
        InvalidError: a field does not exist, cannot be changed, or does not accept its value.
    """
    fields: dict[str, Any] = {}
    for path, value in given.items():
        name, _, key = path.partition(".")
        if name not in LATE_FIELDS:
            raise InvalidError([Problem([name], f"is no field that a rerun can set{did_you_mean(name, LATE_FIELDS)}")])
        if task.unresolved is not None and name in task.unresolved.fields:
            raise InvalidError([Problem([name], "refers to results of other tasks, so it cannot be set")])
        if not key:
            fields[name] = value
            continue
        before = fields.get(name, getattr(task, name))
        if is_dataclass(before) and not isinstance(before, type):
            before = {field: own for field, own in asdict(before).items() if own is not None}
        if before is not None and not isinstance(before, dict):
            raise InvalidError([Problem([name], f"has no parts, so {path} cannot be set")])
        fields[name] = {**(before or {}), key: value}
    return filled(task, fields)

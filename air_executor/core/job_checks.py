"""Checks across tasks: ids that are taken, unknown tasks in `after`, cycles, and delays that grow beyond any time.

They run when a job is submitted, when tasks are added, and when what a run queued is to be committed. What a single
field may hold is declared in `model`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from air_executor.core.cycles import find_cycle, show_cycle
from air_executor.errors import BadInputError
from air_executor.model.job import Job, Task
from air_executor.model.problems import MOST_SHOWN, InvalidError, Problem, nearest
from air_executor.model.state import TaskState
from air_executor.model.times import MAX_DURATION

MOST_NEEDS = 1_000_000
"""Names in all `after` of tasks that are checked together: looking for cycles costs time for each."""
_LARGEST_POWER = 305
"""Retries with backoff multiply; a factor of ten to this still is a number."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task that is not accepted yet, as `find_cycle` sees it."""

    id: str
    after: Sequence[str]
    when: str
    queued_by: str | None = None
    phase: str = "queued"


def task_ids(job: Job) -> list[str]:
    """Return the ids of a job's tasks in order: their own, or `t<n>` by place."""
    return [task.id or f"t{number}" for number, task in enumerate(job.tasks, 1)]


def check_job(job: Job) -> None:
    """Check what the tasks of a whole job must keep between them.

    Raises:
        InvalidError: they do not.
    """
    if not job.tasks:
        raise InvalidError([Problem(["tasks"], "must have at least one task")])
    if len(job.tasks) > job.max_tasks:
        raise InvalidError([Problem(["tasks"], f"are {len(job.tasks)}, more than max_tasks = {job.max_tasks}")])
    if (needs := sum(len(task.after) for task in job.tasks)) > MOST_NEEDS:
        raise InvalidError([Problem(["tasks"], f"name {needs} tasks in after, more than {MOST_NEEDS}")])
    problems: list[Problem] = []
    if job.id in job.after:
        problems.append(Problem(["after", list(job.after).index(job.id)], "a job cannot wait for itself"))
    place: dict[str, int] = {}
    for number, (name, task) in enumerate(zip(task_ids(job), job.tasks, strict=True)):
        found = check_retries(task)
        if name in place:
            found.append(Problem(["id"], f"{name} is the id of tasks[{place[name]}] too"))
        place.setdefault(name, number)
        problems += [Problem(["tasks", number, *at], what) for at, what in found]
    problems += _unknown_needs(job, place, len(problems))
    if not problems:
        nodes = [NewTask(name, task.after, task.when) for name, task in zip(place, job.tasks, strict=True)]
        problems += _cycle(nodes, place)
    if problems:
        raise InvalidError(problems)


def check_retries(task: Task) -> list[Problem]:
    """Refuse delays that grow beyond what can be written as a time."""
    retries, factor = task.retries, task.retry_backoff
    if retries == 0 or factor == 1:
        return []
    power = retries * math.log10(factor)
    if power > _LARGEST_POWER:
        what = f"{factor} to the power of {retries} retries is too large; use less of one"
        return [Problem(["retry_backoff"], what)]
    if task.retry_max_delay is None and task.retry_delay * 10**power > MAX_DURATION:
        what = f"is missing: after {retries} retries the delay would have grown to more than a century"
        return [Problem(["retry_max_delay"], what)]
    return []


def _unknown_needs(job: Job, place: Mapping[str, int], found: int) -> list[Problem]:
    """Name tasks in `after` that do not exist; the nearest id only where it will be shown."""
    problems: list[Problem] = []
    for number, task in enumerate(job.tasks):
        for position, need in enumerate(task.after):
            if need in place:
                continue
            guess = nearest(need, place) if found + len(problems) < MOST_SHOWN else None
            what = f"no task of this job has the id {need}{f'; did you mean {guess}?' if guess else ''}"
            problems.append(Problem(["tasks", number, "after", position], what))
    return problems


def _cycle(nodes: Sequence[NewTask], place: Mapping[str, int]) -> list[Problem]:
    cycle = find_cycle({}, nodes, None)
    if not cycle:
        return []
    first = place[cycle[0]]
    after = list(nodes[first].after)
    at: list[str | int] = ["tasks", first, *(["after", after.index(cycle[1])] if cycle[1] in after else ["when"])]
    return [Problem(at, f"these tasks would wait for each other for ever: {show_cycle(cycle)}")]


def check_queued(queued: Sequence[Task], tasks: Mapping[str, TaskState], job: str, parent: str | None) -> None:
    """Check tasks that are to join a job with these `tasks`; `parent` is the task that queued them.

    Raises:
        BadInputError: an id is taken, `after` names no task, or a cycle would close.
    """
    if (needs := sum(len(task.after) for task in queued)) > MOST_NEEDS:
        msg = f"after: {needs} names in all, more than {MOST_NEEDS}"
        raise BadInputError(msg)
    names: set[str] = set()
    for task in queued:
        name = task.id or ""
        if name in tasks or name in names:
            msg = f"task id {name} is taken in job {job}; give the task another id, or none"
            raise BadInputError(msg)
        names.add(name)
    for task in queued:
        for need in task.after:
            if need not in tasks and need not in names:
                msg = f"task {task.id}: after: {need} is not a task of job {job}"
                raise BadInputError(msg)
    new = [NewTask(task.id or "", task.after, task.when, parent) for task in queued]
    cycle = find_cycle(tasks, new, parent)
    if cycle:
        msg = f"after: these tasks would wait for each other for ever: {show_cycle(cycle)}"
        raise BadInputError(msg)

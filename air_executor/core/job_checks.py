"""Checks across tasks: ids that are taken, unknown tasks in `after`, cycles, and delays that grow beyond any time.

They run when a job is submitted, when tasks are added, and when what a run queued is to be committed. What a single
field may hold is declared in `model`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from air_executor.core.cycles import DEFAULT_WHEN, find_cycle, show_cycle
from air_executor.core.references import Upstream, why_unknown
from air_executor.errors import BadInputError
from air_executor.model.job import Job, Task
from air_executor.model.names import generated_id
from air_executor.model.problems import MOST_SHOWN, InvalidError, Problem, did_you_mean
from air_executor.model.state import TaskState
from air_executor.model.steps import STEP, Steps
from air_executor.model.times import MAX_DURATION

QUEUE = "queue.jsonl"
"""Name of the file with what a run queued, in messages."""
MOST_NEEDS = 1_000_000
"""Names in all `after` of tasks that are checked together: looking for cycles costs time for each."""
_CONDITION = ("only_if", "result")
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
    """Return the ids of a job's tasks in order: their own, or generated ones."""
    return [task.id or generated_id(number) for number, task in enumerate(job.tasks, 1)]


def check_job(job: Job) -> Steps[None]:
    """Check, in steps, what the tasks of a whole job must keep between them.

    Raises:
        InvalidError: they do not.
    """
    if not job.tasks:
        raise InvalidError([Problem(["tasks"], "must have at least one task")])
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
        if number % STEP == STEP - 1:
            yield
    problems += _unknown_needs(job, place, len(problems))
    problems += _wrong_conditions(job, place)
    if not problems:
        nodes = [NewTask(name, task.after, task.when) for name, task in zip(place, job.tasks, strict=True)]
        problems = _cycle(nodes, place)
    if problems:
        raise InvalidError(problems)


def in_order(after: Mapping[str, Sequence[str]]) -> list[str]:
    """Return jobs that are submitted together, by id, each behind those of them that it waits for.

    Raises:
        BadInputError: they wait for each other.
    """
    sorter = TopologicalSorter({name: [other for other in others if other in after] for name, others in after.items()})
    try:
        return list(sorter.static_order())
    except CycleError as error:
        msg = f"after: these jobs would wait for each other for ever: {show_cycle(error.args[1][::-1])}"
        raise BadInputError(msg) from None


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
            guess = did_you_mean(need, place) if found + len(problems) < MOST_SHOWN else ""
            what = f"no task of this job has the id {need}{guess}"
            problems.append(Problem(["tasks", number, "after", position], what))
    return problems


def _wrong_conditions(job: Job, place: Mapping[str, int]) -> list[Problem]:
    """Refuse conditions on results of tasks that have not ended when theirs are judged."""
    lists = {task.group for task in job.tasks if task.group is not None}
    judge = _ConditionCheck(dict(zip(place, job.tasks, strict=False)), lists)
    found: list[Problem] = []
    for number, task in enumerate(job.tasks):
        if (what := judge.problem(task, before=len(found))) is not None:
            found.append(Problem(["tasks", number, *_CONDITION], what))
    return found


class _ConditionCheck:
    """Whether tasks wait for those whose results their conditions are about."""

    def __init__(self, tasks: Mapping[str, Task | TaskState], lists: Collection[str] = ()) -> None:
        self._tasks = tasks
        self._lists = lists
        self._upstream = Upstream(tasks, lambda name: tasks[name].after)
        self._plain: frozenset[str] | None = None
        """Those that a clean-up task without `after` waits for."""

    def problem(self, task: Task, before: int = 0) -> str | None:
        """Return what is wrong with the condition of a task; None: nothing. `before`: problems found already."""
        if task.only_if is None:
            return None
        path = task.only_if["result"]
        known: Collection[str] = self._upstream.of(task.after)
        if not task.after and task.when != DEFAULT_WHEN:
            if self._plain is None:
                self._plain = frozenset(name for name, one in self._tasks.items() if one.when == DEFAULT_WHEN)
            known = self._plain
        what = why_unknown(path, known, self._tasks, self._lists, before=before)
        return None if what is None else f"{path} is unknown; {what}"


def _cycle(nodes: Sequence[NewTask], place: Mapping[str, int]) -> list[Problem]:
    cycle = find_cycle({}, nodes, None)
    if not cycle:
        return []
    first = place[cycle[0]]
    after = list(nodes[first].after)
    at: list[str | int] = ["tasks", first, *(["after", after.index(cycle[1])] if cycle[1] in after else ["when"])]
    return [Problem(at, f"these tasks would wait for each other for ever: {show_cycle(cycle)}")]


def complete_added(added: Sequence[Task], tasks: Mapping[str, TaskState], job: str) -> None:
    """Give ids to tasks that somebody adds to a job with these `tasks`, and check them.

    Raises:
        BadInputError: they do not fit into it.
    """
    free = len(tasks)
    for task in added:
        while task.id is None:
            free += 1
            name = generated_id(free)
            task.id = None if name in tasks else name
    check_queued(added, tasks, job, None)


def check_queued(
    queued: Sequence[Task],
    tasks: Mapping[str, TaskState],
    job: str,
    parent: str | None,
    lines: Sequence[int] | None = None,
) -> None:
    """Check tasks that are to join a job with these `tasks`; `parent` is the task that queued them, on these `lines`.

    Raises:
        BadInputError: an id is taken, `after` names no task, or a cycle would close.
    """
    if (needs := sum(len(task.after) for task in queued)) > MOST_NEEDS:
        msg = f"after: {needs} names in all, more than {MOST_NEEDS}"
        raise BadInputError(msg)
    names: set[str] = set()
    for number, task in enumerate(queued):
        name = task.id or ""
        if (name in tasks and not tasks[name].superseded) or name in names:
            msg = f"{_line(lines, number)}task id {name} is taken in job {job}; give the task another id, or none"
            raise BadInputError(msg)
        names.add(name)
    for number, task in enumerate(queued):
        for need in task.after:
            if need not in tasks and need not in names:
                msg = f"{_line(lines, number)}task {task.id}: after: {need} is not a task of job {job}"
                msg += did_you_mean(need, [*tasks, *names])
                raise BadInputError(msg)
    if any(task.only_if is not None for task in queued):
        _check_conditions(queued, tasks, lines)
    new = [NewTask(task.id or "", task.after, task.when) for task in queued]
    cycle = find_cycle(tasks, new, parent)
    if cycle:
        msg = f"after: these tasks would wait for each other for ever: {show_cycle(cycle)}"
        raise BadInputError(msg)


def _check_conditions(queued: Sequence[Task], tasks: Mapping[str, TaskState], lines: Sequence[int] | None) -> None:
    judge = _ConditionCheck({**tasks, **{task.id or "": task for task in queued}})
    for number, task in enumerate(queued):
        if (what := judge.problem(task)) is not None:
            msg = f"{_line(lines, number)}task {task.id}: {'.'.join(_CONDITION)}: {what}"
            raise BadInputError(msg)


def _line(lines: Sequence[int] | None, number: int) -> str:
    return "" if lines is None else f"{QUEUE} line {lines[number]}: "

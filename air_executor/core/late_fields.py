"""Fields of tasks that refer to results, as `{{ results.discover.packages }}`: kept as written until they are known.

`definition` splits them off at submit, where names that nothing can have are refused. The manager asks `resolve` once a
task could start: everything that it waits for has ended by then, and what follows is one decision in the journal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from air_executor.core import groups
from air_executor.core.job_checks import check_retries
from air_executor.core.references import Upstream, why_unknown
from air_executor.core.templates import RESULTS, LateRenderer, Raw, Renderer, Room, is_name, roots_of
from air_executor.model import parsing
from air_executor.model.job import TASK_FIELDS, Task, Unresolved
from air_executor.model.problems import InvalidError, Path, Problem
from air_executor.model.quote import quoted
from air_executor.model.state import SUCCEEDED, JobState, TaskState

_SOON = ("id", "after", "when", "only_if", "delay", "not_before", "priority", "approve", "group", "unresolved")
"""Fields that say when a task starts, and whether: they must be known before."""
_PREFIX = f"{RESULTS}."
LATE_FIELDS = frozenset(TASK_FIELDS) - frozenset(_SOON)


class Reference(NamedTuple):
    """A result that a task refers to."""

    task: Raw
    at: Path
    name: str


@dataclass(slots=True)
class ResultReferences:
    """What is found in the tasks of one definition."""

    problems: list[Problem]
    references: list[Reference] = field(default_factory=list)


class TooManyTasksError(Exception):
    """The job has no room for the tasks of a list."""


# At submit


class _Checker(Renderer):
    """Notes the results that fields refer to, in place of their values."""

    def __init__(self, names: Mapping[str, Any], problems: list[Problem], open_names: Iterable[str]) -> None:
        """`open_names`: beginnings of names whose values are not known yet, either."""
        super().__init__(names, problems)
        self.found: list[tuple[Path, str]] = []
        self._open_names = tuple(open_names)

    def value(self, name: str, at: Path) -> Any:  # noqa: ANN401 - JSON
        """Return nothing for a name that is known later."""
        if name.startswith(_PREFIX):
            self.found.append((at, name))
            return ""
        if any(name == one or name.startswith(f"{one}.") for one in self._open_names):
            return ""
        return super().value(name, at)


def split(task: Mapping[str, Any], at: Path, names: Raw, notes: ResultReferences) -> Raw:
    """Return a task with its names replaced, but for fields that refer to results: they stay as written."""
    late = {key: value for key, value in task.items() if key in LATE_FIELDS and RESULTS in roots_of(value)}
    return _split(task, late, at, names, notes)


def split_group(task: Mapping[str, Any], at: Path, names: Raw, notes: ResultReferences) -> Raw:
    """Return the task that becomes those of a list once the list is known."""
    of, items = ("item", task[groups.FOR_EACH]) if groups.FOR_EACH in task else (groups.MATRIX, task[groups.MATRIX])
    lists: dict[str, Any] = {of: items}
    if of == groups.MATRIX:
        lists = {f"{of}.{name}": one for name, one in items.items()} if isinstance(items, Mapping) else {of: items}
    where = [*at, groups.FOR_EACH if of == "item" else of]
    wrong = [one for one in lists.values() if not isinstance(one, list) and not is_name(one)]
    notes.problems += [Problem(where, f"must be a list, or a result, got {quoted(one)}") for one in wrong]
    if "approve" in task:
        notes.problems.append(Problem([*at, "approve"], "cannot be used together with a list that is a result"))
    roots = {RESULTS, of}
    late = {key: value for key, value in task.items() if key in LATE_FIELDS and roots & roots_of(value)}
    late |= {key: value for key, value in task.items() if key in (groups.FOR_EACH, groups.MATRIX)}
    return _split(task, late, at, names, notes, lists)


def _split(  # noqa: PLR0917
    task: Mapping[str, Any], late: Raw, at: Path, names: Raw, notes: ResultReferences, lists: Iterable[str] = ()
) -> Raw:
    now = {key: value for key, value in task.items() if key not in late}
    made = Renderer(names, notes.problems).task(now, at)
    if late:
        checker = _Checker(names, notes.problems, lists)
        checker.task(late, at)
        known = {root: value for root, value in names.items() if root != "params"}  # the job has those
        made["unresolved"] = Unresolved(fields=late, names=known)
        if "command" in late:
            made["command"] = late["command"]  # shown until then
        notes.references += [Reference(made, where, name) for where, name in checker.found]
    return made


def check_references(notes: ResultReferences, tasks: Sequence[Any], lists: Collection[str]) -> None:
    """Refuse references to tasks that have not ended when the one that refers to them starts."""
    if not notes.references or notes.problems:
        return  # a list without tasks would look like an unknown task
    by_id = {task["id"]: task for task in tasks if isinstance(task, dict) and isinstance(task.get("id"), str)}
    plain = frozenset(name for name, task in by_id.items() if "when" not in task)
    upstream = Upstream(by_id, lambda name: _after(by_id[name]))
    for task, at, name in notes.references:
        needs = _after(task)
        known = plain if not needs and "when" in task else upstream.of(needs)
        path, before = name.removeprefix(_PREFIX), len(notes.problems)
        if (what := why_unknown(path, known, by_id, lists, _PREFIX, before=before)) is not None:
            notes.problems.append(Problem(at, f"{{{{ {name} }}}} is unknown; {what}"))


def _after(task: Raw) -> list[str]:
    after = task.get("after")
    return [name for name in after if isinstance(name, str)] if isinstance(after, list) else []


# When a task could start


class Results(Mapping[str, Any]):
    """The results of a job's tasks that have succeeded, looked up as they are asked for."""

    def __init__(self, job: JobState) -> None:
        self._tasks = job.tasks

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - JSON
        task = self._tasks[name]
        if task.phase != SUCCEEDED:
            raise KeyError(name)
        return task.result

    def __iter__(self) -> Iterator[str]:
        return (task.id for task in self._tasks.values() if task.phase == SUCCEEDED and task.result is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def is_list(task: TaskState) -> bool:
    """Tell whether a task becomes several once its fields are known."""
    return task.unresolved is not None and groups.is_group(task.unresolved.fields)


def resolve(job: JobState, task: TaskState, room: int) -> list[Task]:
    """Return a task with its fields as they are known now, or the tasks of its list; `room` in bytes.

    Raises:
        InvalidError: a result is missing, or is no value for its field.
        TooManyTasksError: the job would have more tasks than it may.
        TooLargeError: the tasks would be too large.
    """
    late = task.unresolved
    assert late is not None  # noqa: S101 - the caller has looked
    problems: list[Problem] = []
    space = Room(room)
    names = {**late.names, "params": job.spec.params}
    renderer = LateRenderer(names, Results(job), problems, space)
    own = {key: value for key, value in late.fields.items() if key in LATE_FIELDS}
    if not groups.is_group(late.fields):
        fields = renderer.task(own, [])
        if problems:
            raise InvalidError(problems)
        return [filled(task, fields)]
    lists = groups.read_lists(late.fields, [], renderer)
    if problems:
        raise InvalidError(problems)
    taken = {name for name, other in job.tasks.items() if not other.superseded}
    if len(taken) + groups.count(lists) > job.spec.max_tasks:
        raise TooManyTasksError
    space.take(groups.count(lists) * len(parsing.dump_json(filled(task, {}))))
    made = []
    for member in groups.members(task.id, lists, taken, matrix=groups.MATRIX in late.fields):
        fields = renderer.with_names(member.names).task(own, [member.id])
        if problems:
            raise InvalidError(problems)
        env = fields.get("env", task.env)
        fields["env"] = member.env | env if isinstance(env, dict) else env
        try:
            made.append(filled(task, fields, id=member.id, group=task.id, after=[], when="success", only_if=None))
        except InvalidError as error:
            raise InvalidError([Problem([member.id, *at], what) for at, what in error.problems]) from None
    return made


def filled(task: TaskState, late: Raw, **own: object) -> Task:
    """Return a task with other values of some fields: late ones as somebody wrote them, `own` ones as they are kept."""
    checked = parsing.read(Task, {"command": "-", **late, **({"id": own["id"]} if "id" in own else {})})
    values = {name: getattr(task, name) for name in TASK_FIELDS}
    values |= {"id": task.id, "unresolved": None, "delay": None, "not_before": None}
    made = Task(**values | {name: getattr(checked, name) for name in late} | own)
    if problems := check_retries(made):
        raise InvalidError(problems)
    return made

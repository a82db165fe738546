"""Makes the data of a job from a definition: a job file with parameters, and with tasks that stand for several.

Works on the data as it was read, before `submission` checks it as a job. `{{ params.NAME }}` is replaced by a value
where a field is data; in shell text it is refused, so no value can ever become a command. Knows no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from air_executor.core import groups, late_fields
from air_executor.core.late_fields import ResultReferences
from air_executor.core.param_values import param_values
from air_executor.core.templates import MOST_VALUES, RESULTS, Raw, Renderer, expands, roots_of
from air_executor.model import parsing
from air_executor.model.definition import Schedule
from air_executor.model.problems import InvalidError, Path, Problem
from air_executor.model.times import to_text


@dataclass(slots=True)
class Instance:
    """The data of one run of a definition."""

    raw: Raw
    """As `submission.read_job` takes it."""
    origins: list[int] = field(default_factory=list)
    """For each task, the position in the definition of the one that it was made from."""

    def placed(self, problems: Iterable[Problem]) -> list[Problem]:
        """Return problems of the job with the paths that they have in the definition, each once."""
        found = {}
        for at, what in problems:
            if len(at) > 1 and at[0] == "tasks" and isinstance(at[1], int) and at[1] < len(self.origins):
                place: Path = ["tasks", self.origins[at[1]], *at[2:]]
            else:
                place = at
            found[tuple(place), what] = Problem(place, what)
        return list(found.values())


def instantiate(raw: Mapping[str, Any], given: Mapping[str, object], now: float) -> Instance:
    """Return the job that a definition makes with these values of its parameters; `now` in Unix seconds.

    A file without `name`, `params`, `for_each` and `matrix`, whose tasks refer to no results, is a job as it stands:
    nothing in it is replaced.

    Raises:
        InvalidError: a value, a template or a list is wrong; every problem is named.
    """
    tasks = raw.get("tasks")
    listed = tasks if isinstance(tasks, list) else []
    several = any(isinstance(task, Mapping) and groups.is_group(task) for task in listed)
    plain = not (several or "name" in raw or "params" in raw or "schedule" in raw or given)
    if plain and not any(RESULTS in roots_of(task) for task in listed):
        return Instance(dict(raw), list(range(len(listed))))
    if expands(raw):
        raise InvalidError([Problem([], f"has more than {MOST_VALUES:,} values; look for aliases of aliases")])
    problems: list[Problem] = []
    today = to_text(now)
    names: Raw = {"scheduled_at": today, "scheduled_date": today[:10]}
    values = param_values(raw.get("params", {}), given, Renderer(names, problems).render, problems)
    declared = raw.get("params")
    names["params"] = {**(dict.fromkeys(declared) if isinstance(declared, Mapping) else {}), **values}
    renderer = Renderer(names, problems)
    made: Raw = {
        key: _render_defaults(value, renderer) if key == "defaults" else renderer.render(value, [key])
        for key, value in raw.items()
        if key not in ("params", "schedule", "tasks")
    }
    schedule = raw.get("schedule")
    if isinstance(schedule, Mapping) and "concurrency" in schedule:
        made.setdefault("concurrency", schedule["concurrency"])
    try:
        read_schedule(raw)
    except InvalidError as error:
        problems += error.problems
    if values:
        made["params"] = values
    instance = Instance(made)
    if "tasks" in raw:
        made["tasks"] = tasks if not isinstance(tasks, list) else _tasks(listed, names, instance.origins, problems)
    if problems:
        raise InvalidError(problems)
    return instance


def read_schedule(raw: Mapping[str, Any]) -> Schedule | None:
    """Return the schedule of a definition; None if it runs on demand.

    Raises:
        InvalidError: it is wrong.
    """
    found = raw.get("schedule")
    if found is None:
        return None
    if isinstance(found, Mapping):
        found = {key: value for key, value in found.items() if key != "concurrency"}  # the job's; see `instantiate`
    try:
        return parsing.read(Schedule, found)
    except InvalidError as error:
        raise InvalidError([Problem(["schedule", *at], what) for at, what in error.problems]) from None


def _render_defaults(value: object, renderer: Renderer) -> object:
    return renderer.task(value, ["defaults"]) if isinstance(value, Mapping) else value


def _tasks(listed: Sequence[Any], names: Raw, origins: list[int], problems: list[Problem]) -> list[Any]:
    ids: dict[str, list[str]] = {}
    notes = ResultReferences(problems)
    made: list[Any] = []
    for number, task in enumerate(listed):
        at: Path = ["tasks", number]
        if not isinstance(task, Mapping):
            found: list[Any] = [task]
        elif not groups.is_group(task):
            found = [late_fields.split(task, at, names, notes)]
        elif not isinstance(base := task.get("id"), str):
            problems.append(Problem([*at, "id"], "is missing: the tasks of a list are named after it"))
            found = []
        elif groups.FOR_EACH in task and groups.MATRIX in task:
            problems.append(Problem([*at, groups.MATRIX], "cannot be used together with for_each"))
            found = []
        elif RESULTS in roots_of([task.get(groups.FOR_EACH), task.get(groups.MATRIX)]):
            found = [late_fields.split_group(task, at, names, notes)]
        else:
            found = _group(task, at, names, notes)
            ids[base] = [one["id"] for one in found]
        made += found
        origins += [number] * len(found)
        if len(made) > groups.MOST_TASKS:
            what = f"makes more than {groups.MOST_TASKS} tasks; queue them from a task"
            raise InvalidError([*problems, Problem(at, what)])
    for task in made if ids else ():
        if isinstance(task, dict) and isinstance(task.get("after"), list):
            task["after"] = [name for need in task["after"] for name in ids.get(str(need), [need])]
    late_fields.check_references(notes, made, ids)
    return made


def _group(task: Mapping[str, Any], at: Path, names: Raw, notes: ResultReferences) -> list[Raw]:
    """Return one task for each item of a list, or for each combination of several lists."""
    problems, base = notes.problems, task["id"]
    before = len(problems)
    matrix = groups.MATRIX in task
    lists = groups.read_lists(task, at, Renderer(names, problems))
    own = {name: value for name, value in task.items() if name not in (groups.FOR_EACH, groups.MATRIX)}
    made: list[Raw] = []
    for member in () if len(problems) > before else groups.members(base, lists, (), matrix=matrix):
        found = late_fields.split({"group": base, **own}, at, {**names, **member.names}, notes)
        found["id"] = member.id
        env = found.get("env", {})
        if isinstance(env, dict):
            found["env"] = member.env | env
        made.append(found)
        if len(problems) > before:
            return []  # each item would show the same
    return made

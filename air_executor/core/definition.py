"""Makes the data of a job from a definition: a job file with parameters, and with tasks that stand for several.

Works on the data as it was read, before `submission` checks it as a job. `{{ params.NAME }}` is replaced by a value
where a field is data; in shell text it is refused, so no value can ever become a command. Knows no files.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from air_executor.core.param_values import param_values, value_text
from air_executor.model import parsing
from air_executor.model.definition import MAX_ITEMS, Schedule
from air_executor.model.names import MAX_ID
from air_executor.model.problems import InvalidError, Path, Problem, nearest
from air_executor.model.quote import quoted
from air_executor.model.times import to_text

_TEMPLATE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*)\s*\}\}")
_NOT_IN_ID = re.compile(r"[^a-z0-9]+")
_LONGEST_SLUG = 20
_ROOTS = ("params", "item", "matrix", "scheduled_at", "scheduled_date")
MOST_TASKS = 100_000
"""Tasks that one definition makes at most; a job's own `max_tasks` is usually lower."""

Raw = dict[str, Any]


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

    A file without `name`, `params`, `for_each` and `matrix` is a job as it stands: nothing in it is replaced.

    Raises:
        InvalidError: a value, a template or a list is wrong; every problem is named.
    """
    tasks = raw.get("tasks")
    listed = tasks if isinstance(tasks, list) else []
    several = any(isinstance(task, Mapping) and ("for_each" in task or "matrix" in task) for task in listed)
    if not (several or "name" in raw or "params" in raw or "schedule" in raw or given):
        return Instance(dict(raw), list(range(len(listed))))
    problems: list[Problem] = []
    today = to_text(now)
    names: Raw = {"scheduled_at": today, "scheduled_date": today[:10]}
    values = param_values(raw.get("params", {}), given, _Renderer(names, problems).render, problems)
    names["params"] = values
    renderer = _Renderer(names, problems)
    made: Raw = {
        key: _render_defaults(value, renderer) if key == "defaults" else renderer.render(value, [key])
        for key, value in raw.items()
        if key not in ("params", "schedule", "tasks")
    }
    schedule = raw.get("schedule")
    if isinstance(schedule, Mapping) and "concurrency" in schedule:
        made.setdefault("concurrency", schedule["concurrency"])
    if schedule is not None:
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


def read_schedule(raw: Mapping[str, Any]) -> Schedule:
    """Return the schedule of a definition.

    Raises:
        InvalidError: it is wrong.
    """
    found = raw.get("schedule")
    if isinstance(found, Mapping):
        found = {key: value for key, value in found.items() if key != "concurrency"}  # the job's; see `instantiate`
    try:
        return parsing.read(Schedule, found)
    except InvalidError as error:
        raise InvalidError([Problem(["schedule", *at], what) for at, what in error.problems]) from None


def _render_defaults(value: object, renderer: _Renderer) -> object:
    return renderer.task(value, ["defaults"]) if isinstance(value, Mapping) else value


# Tasks that stand for several


def _tasks(listed: Sequence[Any], names: Raw, origins: list[int], problems: list[Problem]) -> list[Any]:
    groups: dict[str, list[str]] = {}
    made: list[Any] = []
    for number, task in enumerate(listed):
        at: Path = ["tasks", number]
        if not isinstance(task, Mapping):
            found: list[Any] = [task]
        elif "for_each" in task or "matrix" in task:
            found = _group(task, at, names, groups, problems)
        else:
            found = [_Renderer(names, problems).task(task, at)]
        made += found
        origins += [number] * len(found)
        if len(made) > MOST_TASKS:
            raise InvalidError([*problems, Problem(at, f"makes more than {MOST_TASKS} tasks; queue them from a task")])
    for task in made if groups else ():
        if isinstance(task, dict) and isinstance(task.get("after"), list):
            task["after"] = [name for need in task["after"] for name in groups.get(str(need), [need])]
    return made


def _group(
    task: Mapping[str, Any], at: Path, names: Raw, groups: dict[str, list[str]], problems: list[Problem]
) -> list[Raw]:
    """Return one task for each item of a list, or for each combination of several lists, and note their ids."""
    before = len(problems)
    base = task.get("id")
    lists = _lists(task, at, names, problems)
    if not isinstance(base, str):
        problems.append(Problem([*at, "id"], "is missing: the tasks of a list are named after it"))
    if len(problems) > before or not isinstance(base, str):
        return []
    own = {name: value for name, value in task.items() if name not in ("for_each", "matrix")}
    made: list[Raw] = []
    taken: set[str] = set()
    for number, choice in enumerate(itertools.product(*lists.values()), 1):
        picked = dict(zip(lists, choice, strict=True))
        roots = {"matrix": picked} if "matrix" in task else picked
        found = _Renderer({**names, **roots}, problems).task(own, at)
        found["id"] = _id_of(base, choice, number, taken)
        env = found.get("env", {})
        if isinstance(env, dict):
            variables = picked if "matrix" in task else {"ITEM": picked["item"]}
            found["env"] = {name: value_text(value) for name, value in variables.items()} | env
        made.append(found)
        if len(problems) > before:
            return []  # each item would show the same
    groups[base] = [one["id"] for one in made]
    return made


def _lists(task: Mapping[str, Any], at: Path, names: Raw, problems: list[Problem]) -> dict[str, list[Any]]:
    """Return the lists that a task is repeated over, by name; that of `for_each` is called `item`."""
    if "for_each" in task and "matrix" in task:
        problems.append(Problem([*at, "matrix"], "cannot be used together with for_each"))
        return {}
    key = "matrix" if "matrix" in task else "for_each"
    found = _Renderer(names, problems).render(task[key], [*at, key])
    if key == "matrix" and not isinstance(found, dict):
        problems.append(Problem([*at, key], f"must be a mapping of names and lists, got {quoted(found)}"))
        return {}
    lists: dict[str, Any] = found if key == "matrix" else {"item": found}
    for name, items in lists.items():
        if not isinstance(items, list) or len(items) > MAX_ITEMS:
            where = [*at, key, name] if key == "matrix" else [*at, key]
            problems.append(Problem(where, f"must be a list of at most {MAX_ITEMS} items, got {quoted(items)}"))
            return {}
    if math.prod(len(items) for items in lists.values()) > MOST_TASKS:
        problems.append(Problem([*at, key], f"makes more than {MOST_TASKS} tasks; let a task queue them"))
        return {}
    return lists


def _id_of(base: str, choice: Sequence[Any], number: int, taken: set[str]) -> str:
    """Return the id of one task of a group: by what it is for, or else by its number."""
    words = [_slug(value) for value in choice]
    name = "-".join([base, *words])
    if not all(words) or name in taken or len(name) > MAX_ID:
        name = f"{base}-{number}"
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


def _slug(value: object) -> str:
    if isinstance(value, Mapping):
        value = value.get("id", value.get("name", ""))
    text = _NOT_IN_ID.sub("-", value_text(value).lower()).strip("-")
    return text if len(text) <= _LONGEST_SLUG else ""


# Templates


class _Renderer:
    """Replaces `{{ name }}` in data; notes what cannot be replaced."""

    def __init__(self, names: Mapping[str, Any], problems: list[Problem]) -> None:
        self._names = names
        self._problems = problems

    def task(self, task: Mapping[str, Any], at: Path) -> Raw:
        """Return the fields of a task; shell text must stay as it is."""
        found = {}
        for key, value in task.items():
            if key == "command" and isinstance(value, str):
                self._check_shell(value, [*at, key])
                found[key] = value
            else:
                found[key] = self.render(value, [*at, key])
        return found

    def render(self, value: Any, at: Path) -> Any:  # noqa: ANN401 - JSON
        """Return data with all names in it replaced; a text that is one name alone becomes that value, of its kind."""
        if isinstance(value, str):
            return self._text(value, at) if "{{" in value else value
        if isinstance(value, list):
            return [self.render(part, [*at, number]) for number, part in enumerate(value)]
        if isinstance(value, dict):
            return {key: self.render(part, [*at, str(key)]) for key, part in value.items()}
        return value

    def _text(self, text: str, at: Path) -> Any:  # noqa: ANN401 - JSON
        alone = _TEMPLATE.fullmatch(text)
        if alone is not None:
            return self._value(alone[1], at)

        def replace(found: re.Match[str]) -> str:
            value = self._value(found[1], at)
            if isinstance(value, list | dict):
                kind = "list" if isinstance(value, list) else "mapping"
                what = f"{{{{ {found[1]} }}}} is a {kind}, so it must be the whole value"
                self._problems.append(Problem(at, what))
            return value_text(value)

        return _TEMPLATE.sub(replace, text)

    def _value(self, name: str, at: Path) -> Any:  # noqa: ANN401 - JSON
        here: Any = self._names
        known = ""
        for part in name.split("."):
            if not isinstance(here, Mapping) or part not in here:
                self._problems.append(Problem(at, f"{{{{ {name} }}}} is unknown{_hint(name, known, here)}"))
                return None
            here = here[part]
            known = f"{known}{part}."
        return here

    def _check_shell(self, text: str, at: Path) -> None:
        for found in _TEMPLATE.finditer(text):
            root, _, name = found[1].partition(".")
            if root in _ROOTS:
                variable = name if root in ("params", "matrix") else "ITEM" if root == "item" else None
                instead = f'use "${variable}", which holds the value' if variable else "pass it by `env`"
                self._problems.append(Problem(at, f"{found[0]} in shell text could become a command; {instead}"))
                return


def _hint(name: str, known: str, here: object) -> str:
    """Return what somebody may have meant by a name of which the part `known` leads to `here`."""
    options = [f"{known}{key}" for key in here] if isinstance(here, Mapping) else []
    guess = nearest(name, options)
    if guess is not None:
        return f"; did you mean {guess}?"
    return f" (there are: {', '.join(options[:10])})" if options else ""

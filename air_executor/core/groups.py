"""Tasks that stand for several: the lists of `for_each` and `matrix`, and what each of their tasks is for.

Used by `definition` where the lists are known at submit, and by `late_fields` where they are results. Knows no job.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from air_executor.core.templates import Renderer
from air_executor.core.value_text import value_text
from air_executor.model.definition import MAX_ITEMS
from air_executor.model.names import MAX_ID
from air_executor.model.problems import Path, Problem
from air_executor.model.quote import quoted

FOR_EACH, MATRIX = "for_each", "matrix"
MOST_TASKS = 100_000
"""Tasks that one definition makes at most; a job's own `max_tasks` is usually lower."""
_NOT_IN_ID = re.compile(r"[^a-z0-9]+")
_LONGEST_SLUG = 20

Lists = dict[str, list[Any]]
"""By name; that of `for_each` is called `item`."""


@dataclass(frozen=True, slots=True)
class Member:
    """One task of a group."""

    id: str
    names: dict[str, Any]
    """What templates call that which it is for."""
    env: dict[str, str]


def is_group(task: Mapping[str, Any]) -> bool:
    """Tell whether a task stands for several."""
    return FOR_EACH in task or MATRIX in task


def read_lists(task: Mapping[str, Any], at: Path, renderer: Renderer) -> Lists:
    """Return the lists that a task is repeated over; what is wrong is noted with the renderer's problems."""
    key = MATRIX if MATRIX in task else FOR_EACH
    before = len(renderer.problems)
    found: Any = renderer.render(task[key], [*at, key])
    if len(renderer.problems) > before:  # what it became says nothing more
        return {}
    if key == MATRIX and not isinstance(found, dict):
        renderer.problems.append(Problem([*at, key], f"must be a mapping of names and lists, got {quoted(found)}"))
        return {}
    lists: dict[str, Any] = found if key == MATRIX else {"item": found}
    for name, items in lists.items():
        if not isinstance(items, list) or len(items) > MAX_ITEMS:
            where = [*at, key, name] if key == MATRIX else [*at, key]
            what = f"must be a list of at most {MAX_ITEMS} items, got {quoted(items)}"
            renderer.problems.append(Problem(where, what))
            return {}
    if count(lists) > MOST_TASKS:
        renderer.problems.append(Problem([*at, key], f"makes more than {MOST_TASKS} tasks; let a task queue them"))
        return {}
    return lists


def count(lists: Lists) -> int:
    """Return how many tasks a group has."""
    return math.prod(len(items) for items in lists.values())


def members(base: str, lists: Lists, taken: Container[str], *, matrix: bool) -> Iterator[Member]:
    """Yield a task for each item, or for each combination of several lists; `taken` are ids that others have."""
    own: set[str] = set()
    spare = 0
    for number, choice in enumerate(itertools.product(*lists.values()), 1):
        picked = dict(zip(lists, choice, strict=True))
        name = "-".join([base, *(_slug(value) for value in choice)])
        if "" in map(_slug, choice) or len(name) > MAX_ID or name in own or name in taken:
            name = f"{base}-{number}"
        while name in own or name in taken:  # `spare` only grows: items may be numbers, too
            spare = max(spare, number) + 1
            name = f"{base}-{spare}"
        own.add(name)
        variables = picked if matrix else {"ITEM": picked["item"], "item": picked["item"]}
        env = {variable: value_text(value) for variable, value in variables.items()}
        yield Member(name, {MATRIX: picked} if matrix else picked, env)


def _slug(value: object) -> str:
    if isinstance(value, Mapping):
        value = value.get("id", value.get("name", ""))
    text = _NOT_IN_ID.sub("-", value_text(value).lower()).strip("-")
    return text if len(text) <= _LONGEST_SLUG else ""

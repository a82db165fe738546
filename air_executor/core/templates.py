"""Names in braces: `{{ params.REGION }}` is replaced by a value where a field is data, and refused in shell text.

Used at submit by `definition` and `groups`, and by `late_fields` once the results of tasks are known. There are dotted
names and nothing else, and no value is ever looked at for names: a value cannot become a command, nor a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from air_executor.core.script_words import script_words
from air_executor.core.value_text import value_text
from air_executor.model import parsing
from air_executor.model.problems import Path, Problem, nearest
from air_executor.model.quote import quoted
from air_executor.model.written import real_number

_TEMPLATE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*)\s*\}\}")
_BRACES = re.compile(r"\{\{\s*([A-Za-z_]+)\b[^{}]*\}\}")
"""Also braces with more than a name in them."""
RESULTS = "results"
MOST_VALUES = 5_000_000
"""Values in one job file, aliases expanded."""
_AS_IN_A_SHELL = '"${}"'
_OWN_IDS = ("job.id", "task.id")
"""Names that a task's `worktree` may have; they stay until it is made."""
_COMMANDS = ("command", "ready")
"""Fields of a task and of its services that are run."""
_ROOTS = ("params", "item", "matrix", "scheduled_at", "scheduled_date", RESULTS)

Raw = dict[str, Any]


class TooLargeError(Exception):
    """The values that were put in are more than a job may hold."""


class Room:
    """How many bytes the values that are put in may still have."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        """Take some of it. Raises TooLargeError if less is left."""
        self._left -= size
        if self._left < 0:
            raise TooLargeError


def is_name(value: object) -> bool:
    """Tell whether a value is one name in braces and nothing else."""
    return isinstance(value, str) and _TEMPLATE.fullmatch(value) is not None


def roots_of(value: object) -> set[str]:
    """Return the first words of all names in braces that data has."""
    found: set[str] = set()
    parts = [value]
    seen: set[int] = set()  # by aliases of YAML, data may contain itself
    while parts:
        part = parts.pop()
        if isinstance(part, str):
            if "{{" in part:
                found |= {one[1].partition(".")[0] for one in _TEMPLATE.finditer(part)}
        elif isinstance(part, Mapping | list) and id(part) not in seen:
            seen.add(id(part))
            parts += part.values() if isinstance(part, Mapping) else part
    return found


def names_to_replace(raw: Mapping[str, Any]) -> set[str]:
    """Return the first words of the names in braces that would be replaced if a job were a file."""
    found = roots_of([raw.get("tasks"), raw.get("defaults")])
    return found.intersection(_ROOTS if "params" in raw else (RESULTS,))


def expands(value: object) -> bool:
    """Tell whether data comes to more values than anybody writes: aliases of aliases, or data that contains itself."""
    parts = [value]
    for _ in range(MOST_VALUES):
        if not parts:
            return False
        part = parts.pop()
        if isinstance(part, Mapping):
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return True


class Renderer:
    """Replaces `{{ name }}` in data; notes what cannot be replaced."""

    def __init__(self, names: Mapping[str, Any], problems: list[Problem]) -> None:
        """`names`: values by the first word of their names."""
        self.problems = problems
        self._names = names

    def task(self, task: Mapping[str, Any], at: Path) -> Raw:
        """Return the fields of a task; shell text must stay as it is."""
        return {key: self._field(key, value, [*at, key]) for key, value in task.items()}

    def _field(self, key: str, value: Any, at: Path) -> Any:  # noqa: ANN401 - JSON
        """Return a field of a task, or of one of its services."""
        if key in _COMMANDS and isinstance(value, str):
            self._check_script(value, at)
            return value
        if key in _COMMANDS and isinstance(value, list):
            return self._words(value, at)
        if key == "env" and isinstance(value, dict):
            return {name: self._variable(part, [*at, str(name)]) for name, part in value.items()}
        if key == "services" and isinstance(value, list):
            return [
                self.task(one, [*at, number]) if isinstance(one, dict) else self.render(one, [*at, number])
                for number, one in enumerate(value)
            ]
        return self.render(value, at)

    def _words(self, command: list[Any], at: Path) -> list[Any]:
        words = script_words(command)
        found = [
            word if number in words.scripts else self.render(word, [*at, number]) for number, word in enumerate(command)
        ]
        for number, way in words.scripts.items():
            self._check_script(str(command[number]), [*at, number], "a script", way)
        for number in words.options:
            if (text := value_text(found[number])).startswith(("-", "+")):
                what = f"must not begin with {text[0]}, or the program takes it for an option, got {quoted(text)}"
                self.problems.append(Problem([*at, number], what))
        return found

    def _variable(self, value: Any, at: Path) -> Any:  # noqa: ANN401 - JSON
        found = self.render(value, at)
        return value_text(found) if is_name(value) and isinstance(found, list | dict) else found

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
            return self.value(alone[1], at)
        if (wrong := _expression(text)) is not None:
            self.problems.append(Problem(at, f"{wrong} is no name: braces take names alone, no filters or expressions"))
            return text

        def replace(found: re.Match[str]) -> str:
            value = self.value(found[1], at)
            if isinstance(value, list | dict):
                kind = "list" if isinstance(value, list) else "mapping"
                what = f"{{{{ {found[1]} }}}} is a {kind}, so it must be the whole value"
                self.problems.append(Problem(at, what))
            return value_text(value)

        return _TEMPLATE.sub(replace, text)

    def value(self, name: str, at: Path) -> Any:  # noqa: ANN401 - JSON
        """Return the value of a name."""
        if name in _OWN_IDS and "worktree" in at:
            return f"{{{{ {name} }}}}"
        if name.partition(".")[0] == RESULTS and RESULTS not in self._names:
            what = f"{{{{ {name} }}}} is not known yet: results are for fields of tasks, but for their order and time"
            self.problems.append(Problem(at, what))
            return None
        return self.find(self._names, name, "", name.split("."), at)

    def find(self, here: Any, name: str, known: str, parts: list[str], at: Path) -> Any:  # noqa: ANN401 - JSON
        """Follow the `parts` of a name through `here`, which is the value of its part `known`."""
        for part in parts:
            if not isinstance(here, Mapping) or part not in here:
                self.problems.append(Problem(at, f"{{{{ {name} }}}} is unknown{_hint(name, known, here)}"))
                return None
            here = here[part]
            known = f"{known}{part}."
        return here

    def _check_script(self, text: str, at: Path, where: str = "shell text", way: str | None = None) -> None:
        """Note a name in a script; `way` is what to do instead, see `script_words`."""
        for found in _BRACES.finditer(text):
            if found[1] in _ROOTS:
                named = _TEMPLATE.fullmatch(found[0])
                root, _, name = (found[1] if named is None else named[1]).partition(".")
                variable = name if root in ("params", "matrix") else "ITEM" if root == "item" else None
                what = f"{found[0]} in {where} could become a command; {_instead(variable, way)}"
                self.problems.append(Problem(at, what))
                return


class LateRenderer(Renderer):
    """Also knows results: those of the tasks that have succeeded. What it puts in is bounded."""

    def __init__(
        self, names: Mapping[str, Any], results: Mapping[str, Any], problems: list[Problem], room: Room
    ) -> None:
        super().__init__({**names, RESULTS: results}, problems)
        self._results = results
        self._room = room

    def with_names(self, names: Mapping[str, Any]) -> LateRenderer:
        """Return one that knows more names."""
        return LateRenderer({**self._names, **names}, self._results, self.problems, self._room)

    def value(self, name: str, at: Path) -> Any:  # noqa: ANN401 - JSON
        """Return the value of a name.

        Raises:
            TooLargeError: there is no room left for it.
        """
        found = self._result(name, at) if name.startswith(f"{RESULTS}.") else super().value(name, at)
        text = found if isinstance(found, str) else parsing.to_json(found).decode()
        self._room.take(len(text))
        return real_number(text) if isinstance(found, float) else found

    def _result(self, name: str, at: Path) -> Any:  # noqa: ANN401 - JSON
        task, keys = split_result(name.removeprefix(f"{RESULTS}."), self._results)
        if task is None:
            return self.find(self._results, name, f"{RESULTS}.", keys, at)
        if self._results[task] is None:
            self.problems.append(Problem(at, f"{{{{ {name} }}}} is unknown: task {task} left no result"))
            return None
        return self.find(self._results[task], name, f"{RESULTS}.{task}.", keys, at)


def _instead(variable: str | None, way: str | None) -> str:
    """Return what a script has in place of a name whose value is in a variable, if it is in one."""
    if way is not None and "{}" not in way:
        return way
    return f"use {(way or _AS_IN_A_SHELL).format(variable)}, which holds the value" if variable else "pass it by `env`"


def _expression(text: str) -> str | None:
    """Return the first braces in a text that begin with one of our names, and are more than a name."""
    found = (one for one in _BRACES.finditer(text) if one[1] in _ROOTS and _TEMPLATE.fullmatch(one[0]) is None)
    return next((one[0] for one in found), None)


def split_result(path: str, tasks: Mapping[str, object]) -> tuple[str | None, list[str]]:
    """Return which task a path like `TASK.key` is about, and the keys; ids of tasks may have dots."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        if (task := ".".join(parts[:end])) in tasks:
            return task, parts[end:]
    return None, parts


def _hint(name: str, known: str, here: object) -> str:
    """Return what somebody may have meant by a name of which the part `known` leads to `here`."""
    options = [f"{known}{key}" for key in here] if isinstance(here, Mapping) else []
    guess = nearest(name, options)
    if guess is not None:
        return f"; did you mean {guess}?"
    return f" (there are: {', '.join(options[:10])})" if options else ""

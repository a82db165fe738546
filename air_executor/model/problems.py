"""What is wrong with an input, in the words of the person who wrote it: one line per problem, starting with the field.

Turns pydantic's errors into `tasks[2].retries: must be a whole number between 0 and 1000, got "three"`, with the line
and column where the source is known. Knows records only by their annotations.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

from air_executor.errors import BadInputError
from air_executor.model.quote import quoted
from air_executor.model.types import About, Accepts

if TYPE_CHECKING:
    from pydantic import ValidationError

MOST_SHOWN = 20
MISSING = "is missing"
_UNKNOWN = "unexpected_keyword_argument"
"""What pydantic calls a key that no field has."""
_LONGEST_NAME = 100
_SHORT = 3
"""Characters of a name of which one may be wrong though that is a large part of it: `t1` for `_1`."""
_MOST_NAMES = 1000
"""Names among which the nearest one is looked for: the search costs time for each."""

_WORDS = {
    "after": "depends depends_on dependson dependencies needs requires upstream wait_for",
    "caches": "cache",
    "command": "args argv bash cmd entrypoint exec run script shell",
    "deadline": "activedeadlineseconds",
    "delay": "start_delay",
    "description": "desc doc help summary",
    "env": "environ environment variables vars",
    "id": "job_id job_name name task_id",
    "image": "container docker",
    "labels": "annotations metadata tags",
    "max_runners": "concurrency max_parallel parallel parallelism workers",
    "mounts": "volume volumes volumemounts",
    "on_failure": "continue_on_error fail_fast",
    "resources": "cpu cpus gpu gpus limits memory mem requests",
    "retries": "backofflimit max_retries restart retry retry_limit",
    "retry_delay": "retry_interval",
    "secrets": "secret",
    "services": "service sidecar sidecars",
    "tasks": "children jobs stages steps",
    "timeout": "timeout_minutes timeout_seconds",
    "when": "if trigger_rule",
    "workdir": "cwd dir working_dir working_directory workingdir",
}
"""Words of other tools for our fields, in lower case and with `_` for `-`."""
_FIELD = {word: field for field, words in _WORDS.items() for word in words.split()}

Path = Sequence[str | int]


class Problem(NamedTuple):
    """What is wrong with one part of an input."""

    at: Path
    """Keys and positions that lead to the part."""
    what: str


class InvalidError(Exception):
    """An input has problems. A caller that knows its source turns this into a `BadInputError`."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


def path_text(parts: Iterable[str | int]) -> str:
    """Return a path as people write it: `tasks[2].env.PORT`."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def lines(problems: Iterable[Problem], place: Callable[[Path], str] | None = None) -> list[str]:
    """Return one line per problem, at most `MOST_SHOWN` of them and a count; `place` says where a part stands."""
    problems = list(problems)
    found = []
    for at, what in problems[:MOST_SHOWN]:
        where = path_text(_printable(at))
        found.append(f"{where}: {what}" if where else what)
        if place is not None:
            found[-1] += place(at)
    more = len(problems) - MOST_SHOWN
    return [*found, f"and {more} more"] if more > 0 else found


def bad_input(found: Sequence[str], name: str | None = None) -> BadInputError:
    """Return the error that says all of it, after the name of the file if that is known."""
    if len(found) == 1:
        return BadInputError(f"{name}: {found[0]}" if name else found[0])
    return BadInputError("\n  ".join([f"{name}: {len(found)} problems" if name else f"{len(found)} problems", *found]))


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return which of `names` someone probably meant, if any; only the first thousand are compared."""
    alike = 0.5 if len(name) <= _SHORT else 0.6
    found = difflib.get_close_matches(name[:_LONGEST_NAME], list(islice(names, _MOST_NAMES)), n=1, cutoff=alike)
    return found[0] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return what to put behind a message that something does not exist; empty if nothing has nearly its name."""
    guess = nearest(name, names)
    return f"; did you mean {guess}?" if guess else ""


def _printable(parts: Iterable[str | int]) -> list[str | int]:
    return [p if isinstance(p, int) or (p.isprintable() and len(p) <= 60) else quoted(p)[1:-1] for p in parts]  # noqa: PLR2004


# From pydantic


def problems_of(error: ValidationError, record: Any) -> list[Problem]:  # noqa: ANN401 - JSON, a type or a record
    """Return what validation of `record` (a dataclass or another type) found, one problem for each place."""
    found: dict[tuple[str | int, ...], str] = {}
    meant: set[tuple[str | int, ...]] = set()
    for item in error.errors(include_url=False):
        problem = _problem(dict(item), record)
        found.setdefault(tuple(problem.at), problem.what)
        if item["type"] == _UNKNOWN and (guess := _guess(str(problem.at[-1]), _walk(record, item["loc"])[1])):
            meant.add((*problem.at[:-1], guess))
    return [Problem(at, what) for at, what in found.items() if not (what == MISSING and at in meant)]


def _problem(item: dict[str, Any], record: Any) -> Problem:  # noqa: ANN401 - JSON, a type or a record
    at, kind_of = _walk(record, item["loc"])
    kind, value = item["type"], item.get("input")
    if kind == "value_error":
        refusal = item["ctx"]["error"]
        return Problem([*at, *getattr(refusal, "at", ())], str(refusal))
    if kind == _UNKNOWN:
        return Problem(at, _unknown(str(at[-1]), kind_of))
    got, rule = quoted(value), _rule(kind_of)
    known = {
        "missing": MISSING,
        "dataclass_type": f"must be a mapping of fields, got {got}",
        "list_type": f"must be a list, got {got}",
        "too_long": f"must have at most {item.get('ctx', {}).get('max_length')} entries",
    }
    if kind in known:
        return Problem(at, known[kind])
    words = "text" if rule is None and kind == "string_type" else None if rule is None else rule.words(value)
    hint = "; put it in quotes" if kind == "string_type" and isinstance(value, int | float | date) else ""
    return Problem(at, item["msg"] if words is None else f"must be {words}, got {got}{hint}")


def _walk(record: Any, loc: Path) -> tuple[list[str | int], Any]:  # noqa: ANN401 - JSON, a type or a record
    """Return the path that a location names, without pydantic's own marks, and the type that stands there."""
    at: list[str | int] = []
    here = record
    for number, part in enumerate(loc):
        bare = _bare(here)
        last = number == len(loc) - 1
        if is_dataclass(bare):
            at.append(part)
            inner = {f.name: f.type for f in fields(bare)}.get(str(part))
            if inner is None:
                return at, bare  # an unknown key: the record knows which there are
            here = inner
        elif isinstance(part, int):
            at.append(part)
            here = (get_args(bare) or (Any,))[-1]
        elif get_origin(bare) in _MAPPINGS and not (last and part == "[key]"):
            at.append(part)
            here = (get_args(bare) or (Any, Any))[1]
    return at, here


_MAPPINGS = {dict}


def _bare(kind: Any) -> Any:  # noqa: ANN401 - JSON, a type or a record
    """Return a type without `Annotated` and `| None`."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, types.UnionType):
            inner = [one for one in get_args(kind) if one is not type(None)]
            if len(inner) != 1:
                return kind
            kind = inner[0]
        else:
            return kind


def _rule(kind: Any) -> Accepts | None:  # noqa: ANN401 - JSON, a type or a record
    while get_args(kind):
        if get_origin(kind) is Annotated:
            rules = [meta for meta in kind.__metadata__ if isinstance(meta, Accepts)]
            if rules:
                return rules[-1]
            kind = get_args(kind)[0]
        else:
            inner = [one for one in get_args(kind) if one is not type(None)]
            if get_origin(kind) not in (Union, types.UnionType) or len(inner) != 1:
                return None
            kind = inner[0]
    return None


def _unknown(name: str, record: Any) -> str:  # noqa: ANN401 - JSON, a type or a record
    guess = _guess(name, record)
    known = [field for field in fields(record) if field.init]
    described = [field for field in known if any(isinstance(meta, About) for meta in _metadata(field.type))]
    others = ", ".join(field.name for field in described or known)  # one without a description is not for users
    return f"is not a field{f'; did you mean {guess}?' if guess else f' (fields: {others})'}"


def _metadata(kind: object) -> tuple[Any, ...]:
    return getattr(kind, "__metadata__", ())


def _guess(name: str, record: Any) -> str | None:  # noqa: ANN401 - JSON, a type or a record
    """Return the field that somebody meant: another tool's word for it, or nearly its name."""
    names = [field.name for field in fields(record) if field.init]
    meant = _FIELD.get(name.lower().replace("-", "_"))
    return meant if meant in names else nearest(name, names)

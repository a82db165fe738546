"""What a task says of its earlier results (`memoize`), and what is kept of one.

`types` is about values that all records share; the parts of a key are known here alone.
"""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.checks import check_positive_duration, clean
from air_executor.model.quote import quoted
from air_executor.model.record import Record
from air_executor.model.refusal import RefusalError
from air_executor.model.types import Accepts
from air_executor.model.written import text_of

RULE = 'a mapping like {key: ["{{ params.REGION }}", {file: train.py}], for: 7d}'
DEFAULT_AGE = 7 * 86_400
_MOST_PARTS = 1000
_MOST_OUTPUTS = 100
_LONGEST_PATH = 1024
_LONGEST_TEXT = 16 * 1024
PLACES = ("file", "workspace")
"""Where a file of a key lies: relative to the project folder, or to the workspace."""


def check_memoize(value: object) -> dict[str, Any]:
    """Check which results of a task may be taken from an earlier run."""
    if not isinstance(value, Mapping):
        msg = f"must be {RULE}, got {quoted(value)}"
        raise RefusalError(msg)
    for name in value:
        if name not in _CHECKS:
            msg = f"is not a field (fields: {', '.join(_CHECKS)})"
            raise RefusalError(msg, (str(name),))
    if "key" not in value:
        raise RefusalError("is missing: a list of what its result depends on", ("key",))
    return {name: check(value[name]) for name, check in _CHECKS.items() if name in value}


def _check_key(value: object) -> list[str | dict[str, str]]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= _MOST_PARTS:
        msg = f"must be a list of 1 to {_MOST_PARTS} parts, got {quoted(value)}"
        raise RefusalError(msg, ("key",))
    return [_check_part(part, number) for number, part in enumerate(value)]


def _check_part(part: object, number: int) -> str | dict[str, str]:
    if isinstance(part, Mapping) and len(part) == 1 and next(iter(part)) in PLACES:
        place = str(next(iter(part)))
        return {place: _check_path(part[place], "key", number, place)}
    text = ("true" if part else "false") if isinstance(part, bool) else text_of(part)
    if text is None or not clean(text) or len(text) > _LONGEST_TEXT:
        msg = f"must be text, {{file: PATH}} or {{workspace: PATH}}, got {quoted(part)}"
        raise RefusalError(msg, ("key", number))
    return text


def _check_path(value: object, *at: str | int) -> str:
    parts = value.split("/") if isinstance(value, str) else [""]
    plain = [part for part in parts if part not in ("", ".")]
    path = "/".join(plain)
    if not plain or not parts[0] or ".." in plain or not clean(path) or len(path) > _LONGEST_PATH:
        msg = f"must be a relative path without `..`, got {quoted(value)}"
        raise RefusalError(msg, at)
    return path


def _check_outputs(value: object) -> list[str]:
    if not isinstance(value, list | tuple) or len(value) > _MOST_OUTPUTS:
        msg = f"must be a list of at most {_MOST_OUTPUTS} paths in the workspace, got {quoted(value)}"
        raise RefusalError(msg, ("outputs",))
    return [_check_path(path, "outputs", number) for number, path in enumerate(value)]


def _check_age(value: object) -> float:
    try:
        return check_positive_duration(value)
    except RefusalError as error:
        raise RefusalError(str(error), ("for",)) from None


_CHECKS: Mapping[str, Callable[[object], Any]] = {"key": _check_key, "outputs": _check_outputs, "for": _check_age}

_PATH: t.Json = {"type": "string", "minLength": 1, "maxLength": _LONGEST_PATH}
_FILE: t.Json = {
    "type": "object",
    "properties": dict.fromkeys(PLACES, _PATH),
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}
_SCHEMA: t.Json = {
    "type": "object",
    "properties": {
        "key": {
            "type": "array",
            "minItems": 1,
            "maxItems": _MOST_PARTS,
            "items": {"anyOf": [{"type": ["string", "number", "boolean"]}, _FILE]},
        },
        "outputs": {"type": "array", "maxItems": _MOST_OUTPUTS, "items": _PATH},
        "for": t.duration_schema({"exclusiveMinimum": 0}),
    },
    "required": ["key"],
    "additionalProperties": False,
}
Memoize = Annotated[dict[str, Any], MaxLen(3), Accepts(RULE, before=check_memoize, json=_SCHEMA)]
"""What a result depends on in `key`, files of the workspace that belong to it in `outputs`, and its age in `for`."""


def uses_workspace(memo: Mapping[str, Any]) -> bool:
    """Tell whether files of the workspace belong to a result, or decide about it."""
    return bool(memo.get("outputs")) or any(isinstance(part, dict) and "workspace" in part for part in memo["key"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reused(Record):
    """Whose result a task has, instead of a run of its own."""

    key: t.Word
    """Beginning of the hash of everything that it depends on; the name of its folder in `cache/`."""
    job: t.Id
    run: t.Word
    """Id of the run that had the result."""
    seconds: t.Amount = 0.0
    """Runner-seconds of that run, which were saved."""
    cost: t.Money = 0.0
    """What it had cost."""
    currency: t.Word | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFile(Record):
    """A file of the workspace that belongs to a result; `files/<n>` in the folder of the entry has its content."""

    path: t.Text
    size: t.Bytes
    sha256: t.Word
    mode: Annotated[int, *t.whole(0, 0o777)] = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry(Record):
    """`cache/<key>/entry.json`: the result of a task that succeeded."""

    format: Literal[1] = 1
    key: t.Word
    depends: dict[str, Any]
    """What the key was made of, in words."""
    made_at: t.Time
    expires_at: t.Time
    job: t.Id
    task: t.Id
    run: t.Word
    seconds: t.Amount = 0.0
    cost: t.Money = 0.0
    currency: t.Word | None = None
    result: Any = None
    files: Annotated[list[CachedFile], MaxLen(_MOST_OUTPUTS)] = field(default_factory=list)

    @property
    def reused(self) -> Reused:
        """What a task says that has this result."""
        return Reused(
            key=self.key, job=self.job, run=self.run, seconds=self.seconds, cost=self.cost, currency=self.currency
        )

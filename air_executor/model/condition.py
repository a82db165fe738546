"""The condition of a task, `only_if`, as people write it: a value of a result, and what must hold of it.

`types` binds the check to the field, `core.conditions` judges. Standard library alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from air_executor.model.checks import MOST_EXACT, clean
from air_executor.model.names import MAX_ID
from air_executor.model.quote import quoted
from air_executor.model.refusal import RefusalError

RULE = "a mapping like {result: discover.count, gt: 0}"
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LONGEST_PATH = 4 * MAX_ID
_LONGEST_TEXT = 16 * 1024
_MOST_VALUES = 1000

Plain = str | int | float | bool


def check_condition(value: object) -> dict[str, Any]:
    """Check a condition; a number of a result is compared with numbers, text with text."""
    if not isinstance(value, Mapping):
        raise _wrong(RULE, value)
    found = {}
    for name, operand in value.items():
        if name not in _CHECKS:
            what = f"is no part of a condition; it has `result` and at least one of {', '.join(OPERATORS)}"
            raise RefusalError(what, at=(str(name),))
        found[name] = _CHECKS[name](operand, name)
    if "result" not in found:
        raise RefusalError("is missing: the task and the keys of its value, like discover.count", ("result",))
    if len(found) == 1:
        msg = f"must have at least one of {', '.join(OPERATORS)} beside result"
        raise RefusalError(msg)
    return {name: found[name] for name in _CHECKS if name in found}


def _wrong(rule: str, value: object, *at: str | int) -> RefusalError:
    return RefusalError(f"must be {rule}, got {quoted(value)}", at)


def _path(value: object, name: str) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value) or len(value) > _LONGEST_PATH:
        raise _wrong("a task and keys of its result, like discover.count", value, name)
    return value


def _number(value: object, *at: str | int) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_exact(value):
        raise _wrong("a number", value, *at)
    return int(value) if value == int(value) else float(value)


def _is_exact(value: float) -> bool:
    return abs(value) <= MOST_EXACT if isinstance(value, int) else math.isfinite(value)


def _plain(value: object, *at: str | int) -> Plain:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value, *at)
    if isinstance(value, str) and clean(value) and len(value) <= _LONGEST_TEXT:
        return value
    raise _wrong("text, a number, true or false", value, *at)


def _list(value: object, name: str) -> list[Plain]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= _MOST_VALUES:
        rule = f"a list of 1 to {_MOST_VALUES} values"
        raise _wrong(rule, value, name)
    return [_plain(one, name, number) for number, one in enumerate(value)]


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong("true or false", value, name)
    return value


_CHECKS: Mapping[str, Callable[[object, str], Any]] = {
    "result": _path,
    "exists": _flag,
    "eq": _plain,
    "ne": _plain,
    "gt": _number,
    "lt": _number,
    "in": _list,
}
"""In the order in which they are judged: whether there is a value comes first."""
OPERATORS = tuple(name for name in _CHECKS if name != "result")

_VALUE = {"type": ["string", "number", "boolean"]}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "result": {"type": "string", "pattern": f"^{_PATH.pattern}$", "maxLength": _LONGEST_PATH},
        "exists": {"type": "boolean"},
        "eq": _VALUE,
        "ne": _VALUE,
        "gt": {"type": "number"},
        "lt": {"type": "number"},
        "in": {"type": "array", "minItems": 1, "maxItems": _MOST_VALUES, "items": _VALUE},
    },
    "required": ["result"],
    "minProperties": 2,
    "additionalProperties": False,
}

"""What becomes of a task with a condition, `only_if`, once everything that it waits for has ended. Pure.

`transitions` asks: the answer follows from results that the job's state holds, so it needs no line in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from air_executor.model.condition import OPERATORS
from air_executor.model.problems import did_you_mean
from air_executor.model.quote import quoted
from air_executor.model.state import ONLY_IF, REJECTED, JobState

_MISSING = object()
_VALUES_SHOWN = 6
_WORDS = {"eq": "=", "ne": "!=", "gt": ">", "lt": "<", "in": "in"}


class Unmet(NamedTuple):
    """Why a task does not run."""

    reason: str
    """`only_if`: its condition is not met; `rejected`: that cannot be told."""
    message: str


def unmet(job: JobState, condition: Mapping[str, Any]) -> Unmet | None:
    """Judge a condition; None: it is met. All its operators must hold.

    `null` is no value, as a key that is missing; only `exists` may meet one. Everything else says that it does, as a
    name in braces would: a wrong key must not skip tasks for ever.
    """
    path = condition["result"]
    value, why = _value(job, path)
    for name in OPERATORS:
        if name not in condition:
            continue
        operand = condition[name]
        if name == "exists":
            if (value is not _MISSING) is not operand:
                return Unmet(ONLY_IF, f"{path} {why}" if value is _MISSING else f"{path} exists: {quoted(value)}")
            if value is _MISSING:
                return None  # the other operators have nothing to say about it
        elif value is _MISSING:
            return Unmet(REJECTED, f"only_if: {path} {why}; add `exists: true` to skip the task then")
        elif (accepted := _accepted(name, operand)) and _kind(value) not in accepted:
            kinds = " or ".join(sorted(accepted))
            what = f"only_if: {path} must be {kinds} to be compared by {name}, got {quoted(value)}"
            return Unmet(REJECTED, what)
        elif not _TESTS[name](value, operand):
            return Unmet(ONLY_IF, f"{path} is {quoted(value)}, not {_WORDS[name]} {_shown(operand)}")
    return None


def condition_text(condition: Mapping[str, Any]) -> str:
    """Return a condition in a few words."""
    parts = [
        f"{'exists' if operand else 'does not exist'}" if name == "exists" else f"{_WORDS[name]} {_shown(operand)}"
        for name in OPERATORS
        if (operand := condition.get(name)) is not None
    ]
    return f"{condition['result']} {' and '.join(parts)}"


def _shown(operand: Any) -> str:  # noqa: ANN401 - JSON
    if not isinstance(operand, list):
        return quoted(operand)
    more = ["..."] if len(operand) > _VALUES_SHOWN else []
    return f"[{', '.join([quoted(one) for one in operand[:_VALUES_SHOWN]] + more)}]"


def _value(job: JobState, path: str) -> tuple[Any, str]:
    """Return the value at a path, or why there is none."""
    # Reading commands show conditions only, and load no pydantic.
    from air_executor.core.late_fields import Results  # noqa: PLC0415
    from air_executor.core.templates import split_result  # noqa: PLC0415

    results = Results(job)
    task, keys = split_result(path, job.tasks)
    if task is None or task not in results:
        return _MISSING, "does not exist: its task did not succeed"
    here, known = results[task], task
    if here is None:
        return _MISSING, f"does not exist: task {task} left no result"
    for key in keys:
        if not isinstance(here, Mapping) or key not in here:
            names = [f"{known}.{one}" for one in here] if isinstance(here, Mapping) else []
            return _MISSING, f"does not exist{did_you_mean(path, names)}"
        here, known = here[key], f"{known}.{key}"
    return (_MISSING, "is null") if here is None else (here, "")


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else ""  # of no operand


def _accepted(name: str, operand: Any) -> set[str]:  # noqa: ANN401 - JSON
    """Return the kinds of values that an operator can compare with its operand."""
    return {_kind(one) for one in (operand if name == "in" else [operand])}


_TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, operand: value == operand,
    "ne": lambda value, operand: value != operand,
    "gt": lambda value, operand: value > operand,
    "lt": lambda value, operand: value < operand,
    "in": lambda value, operand: any(_kind(one) == _kind(value) and one == value for one in operand),
}

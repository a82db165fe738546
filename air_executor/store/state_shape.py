"""What the values of a `state.json` must be, so that what a merge or an editor made of one is refused and not believed.

`codec` asks while it loads: a value of another kind would stop the manager in the middle of a cycle, and with it every
job. Only kinds are looked at, and bounds beyond which nothing can be computed or written; what makes sense is the
spec's to say, at submit. Unknown keys are anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from air_executor.errors import BadInputError
from air_executor.model.names import check_id
from air_executor.model.quote import quoted
from air_executor.model.sizes import MIB, PIB
from air_executor.model.times import MAX_DURATION, from_text

Check = Callable[[Any], bool]
Shape = Mapping[str, tuple[Check, str]]

_LARGEST = 2**53
_MAX_SEQ = 999_999_999
_MAX_SLOTS = 10_000
_UID = re.compile(r"[0-9a-f]{8}")


def _whole(low: int, high: int) -> tuple[Check, str]:
    return lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}"


def _real(high: float, low: float = 0) -> tuple[Check, str]:
    return lambda value: type(value) in (int, float) and low <= value <= high, f"a number from {low} to {high}"


def _or_null(kind: tuple[Check, str]) -> tuple[Check, str]:
    check, words = kind
    return lambda value: value is None or check(value), f"{words}, or null"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_words(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_amounts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_MONEY[0], value.values()))


def _is_command(value: object) -> bool:
    return _is_text(value) or (_is_texts(value) and value != [])


def _is_id(value: object) -> bool:
    try:
        return isinstance(value, str) and check_id(value) == value
    except BadInputError:
        return False


def _is_time(value: object) -> bool:
    try:
        return from_text(value) is not None
    except BadInputError:
        return False


def _is_uid(value: object) -> bool:
    return isinstance(value, str) and _UID.fullmatch(value) is not None


def _is_uids(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_id, value)) and all(map(_is_uid, value.values()))


_TEXT = _is_text, "text"
_TEXTS = _is_texts, "a list of texts"
_WORDS = _is_words, "an object of texts"
_OBJECT = (lambda value: isinstance(value, dict)), "an object"
_OBJECTS = (
    (lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value)),
    "a list of objects",
)
_FLAG = (lambda value: isinstance(value, bool)), "true or false"
_ID = _is_id, "an id"
_COUNT = _whole(0, _LARGEST)
_EXIT_CODE = _or_null(_whole(-_LARGEST, _LARGEST))
_PRIORITY = _whole(-_LARGEST, _LARGEST)
_SECONDS = _real(MAX_DURATION)
_AMOUNT = _real(_LARGEST)
_MONEY = _real(1e300)
_BYTES = _whole(MIB, PIB)
_AMOUNTS = _is_amounts, "an object of amounts"

_TASK_SPEC: Shape = {
    "command": (_is_command, "text or a list of texts"),
    "env": _WORDS,
    "secrets": _TEXTS,
    "image": _TEXT,
    "workdir": _TEXT,
    "mounts": _OBJECTS,
    "resources": _OBJECT,
    "network": _TEXT,
    "timeout": _SECONDS,
    "grace": _SECONDS,
    "retries": _COUNT,
    "retry_delay": _SECONDS,
    "retry_backoff": _AMOUNT,
    "retry_jitter": _AMOUNT,
    "retry_max_delay": _SECONDS,
    "delay": _SECONDS,
    "not_before": (_is_time, "a time"),
    "after": _TEXTS,
    "when": _TEXT,
    "priority": _PRIORITY,
    "labels": _WORDS,
}
_RESOURCES: Shape = {
    "cpu": _AMOUNT,
    "memory": _BYTES,
    "gpu": _COUNT,
    "memory_growth": _real(16, 1),
    "memory_max": _BYTES,
}
_JOB_SPEC: Shape = {
    "max_runners": _whole(1, _MAX_SLOTS),
    "on_failure": _TEXT,
    "queue": _TEXT,
    "priority": _PRIORITY,
    "after": _TEXTS,
    "deadline": _SECONDS,
    "max_tasks": _COUNT,
    "labels": _WORDS,
    "defaults": _OBJECT,
}
_JOB: Shape = {
    "id": _ID,
    "uid": (_is_uid, "eight hexadecimal digits"),
    "reason": _or_null(_TEXT),
    "message": _or_null(_TEXT),
    "spec": _OBJECT,
    "seq": _whole(0, _MAX_SEQ),
    "epoch": _COUNT,
    "version": _COUNT,
    "stop": _or_null(_TEXT),
    "after_uids": (_is_uids, "an object of job ids and their uids"),
    "submitted_by": _or_null(_TEXT),
    "usage": _OBJECT,
    "tasks": _OBJECTS,
}
_USAGE: Shape = {
    "start_seconds": _AMOUNT,
    "work_seconds": _AMOUNT,
    "finish_seconds": _AMOUNT,
    "cpu_seconds": _AMOUNT,
    "runs": _COUNT,
    "cost": _MONEY,
    "currency": _or_null(_TEXT),
    "other_costs": _AMOUNTS,
}
_TASK: Shape = {
    **_TASK_SPEC,
    "id": _ID,
    "exit_code": _EXIT_CODE,
    "runs": _COUNT,
    "queued_by": _or_null(_TEXT),
    "message": _or_null(_TEXT),
    "retrying": _FLAG,
    "run": _OBJECT,
    "charged": _COUNT,
    "faults": _COUNT,
    "attempts": _OBJECTS,
}
_RUN: Shape = {
    "seq": _whole(1, _MAX_SEQ),
    "slot": _whole(0, _MAX_SLOTS),
    "stop": _or_null(_TEXT),
    "stop_message": _TEXT,
    "hopeless": _FLAG,
    "waited": _AMOUNT,
    "memory_limit": _BYTES,
}
_ATTEMPT: Shape = {
    "seq": _COUNT,
    "slot": _COUNT,
    "start": _AMOUNT,
    "work": _AMOUNT,
    "finish": _AMOUNT,
    "reason": _TEXT,
    "exit_code": _EXIT_CODE,
    "message": _TEXT,
    "cpu": _AMOUNT,
    "memory": _whole(0, 2**63),
    "memory_limit": _BYTES,
    "cost": _MONEY,
    "clock_stepped": _FLAG,
    "waited": _AMOUNT,
    "backend": _TEXT,
    "price": _AMOUNTS,
    "currency": _TEXT,
}


def _check(raw: Mapping[str, Any], shape: Shape, where: str) -> None:
    for key, value in raw.items():
        found = shape.get(key)
        if found is not None and not found[0](value):
            msg = f"{where}{key}: must be {found[1]}, got {quoted(value)}"
            raise ValueError(msg)


def check_job(raw: Mapping[str, Any]) -> None:
    """Check a state's own values and those of its spec; tasks one by one.

    Raises:
        ValueError: one is of another kind; the message names it.
    """
    _check(raw, _JOB, "")
    _check(raw["spec"], _JOB_SPEC, "spec.")
    defaults = raw["spec"].get("defaults", {})
    _check(defaults, _TASK_SPEC, "spec.defaults.")
    _check(defaults.get("resources", {}), _RESOURCES, "spec.defaults.resources.")
    _check(raw.get("usage", {}), _USAGE, "usage.")


def check_task(raw: Mapping[str, Any], number: int) -> None:
    """Check the values of one task, the `number`th. Raises as `check_job`, and KeyError for a missing command."""
    where = f"tasks[{number}]."
    _check(raw, _TASK, where)
    _check(raw.get("resources", {}), _RESOURCES, f"{where}resources.")
    raw["command"]  # without one a task cannot start
    if "run" in raw:
        _check(raw["run"], _RUN, f"{where}run.")
    for attempt in raw.get("attempts", ()):
        _check(attempt, _ATTEMPT, f"{where}attempts.")

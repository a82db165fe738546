"""Checks of values that may be written in several forms: each says in one sentence what it accepts.

`types` binds them to fields. Each returns the one normal form (seconds, bytes, Unix time), so that nothing else needs
to know the forms that people may write. Standard library alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence, Sized
from datetime import date, datetime
from typing import Any

from air_executor.errors import BadInputError
from air_executor.model.names import ID_RULE, RUN_ENVIRONMENT
from air_executor.model.names import check_id as named_id
from air_executor.model.quote import quoted
from air_executor.model.refusal import RefusalError, wrong
from air_executor.model.shebang import interpreter
from air_executor.model.sizes import parse_memory
from air_executor.model.times import MAX_DURATION, MAX_TIME, MIN_TIME, TIME_RULE, from_text, parse_duration
from air_executor.model.written import text_of

_CPU = re.compile(r"[0-9]{1,9}m")
NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
_NAME = re.compile(NAME_PATTERN)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
TARGET_PATTERN = "^[a-z][a-z0-9_]{0,39}$"
TARGET_RULE = "lower-case letters, digits and _, beginning with a letter, at most 40 characters"
COMMAND_RULE = "text for the shell, or a list of arguments"
_LONGEST_LABEL = 256
_MOST_AMOUNTS = 20
MOST_REPORTED = 1e12
"""Largest amount that one line of a task may report: sums of as many as there can be stay exact enough."""
_LONGEST_NOTE = 200
LONGEST_TEXT = 131_071
"""Characters of an argument or a variable: Linux' MAX_ARG_STRLEN less its terminator."""
MOST_NAMES = 10_000
"""Entries of one list or mapping: arguments, variables, labels, secrets, ids."""
_LONGEST_PATH = 4096
_FIRST_BYTE = 0xDC80
"""What Python reads the byte 0x80 as."""
MAX_EXIT_CODE = 255
MAX_WEIGHT = 1_000_000
WEIGHT_RULE = f"a weight: a whole number between 1 and {MAX_WEIGHT}"
MOST_POOLS = 16
"""Pools of one task."""
MOST_EXACT = 10**18
"""Largest whole number that a parameter may be."""


def clean(value: str) -> bool:
    """Tell whether text can be an argument, a variable or a path: no NUL, and UTF-8 can hold it."""
    return "\0" not in value and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


def _unclean(text: str) -> str:
    """Return what is wrong with text that is not clean. A byte that is no UTF-8 becomes a half surrogate pair."""
    half = next((ord(char) for char in text if "\ud800" <= char <= "\udfff"), None)
    if "\0" in text or half is None:
        return "must not contain NUL bytes"
    if _FIRST_BYTE <= half <= _FIRST_BYTE + 0x7F:
        return f"must be UTF-8, got the byte 0x{half - _FIRST_BYTE + 0x80:02x}"
    return "must not contain half surrogate pairs"


def _plain(text: str) -> bool:
    return text.isascii() and "\0" not in text and len(text) <= LONGEST_TEXT


def _text(value: object, rule: str, *, at: Sequence[str | int] = (), show: bool = True) -> str:
    """Take text, or a number or a day as it was written. Others have more than one form: the user must choose."""
    text = text_of(value)
    if text is None:
        hint = "; put it in quotes" if isinstance(value, (bool, float, date)) else ""
        got = f", got {quoted(value)}" if show else ""
        msg = f"must be {rule}{got}{hint}"
        raise RefusalError(msg, at=at)
    if not clean(text):
        raise RefusalError(_unclean(text), at=at)
    if len(text) > LONGEST_TEXT:
        msg = f"must be at most {LONGEST_TEXT} characters, which is what a process takes, got {len(text)}"
        raise RefusalError(msg, at=at)
    return text


# Whole values


def check_listed(value: object) -> object:
    """Return a value that may stand alone or in a list as a list."""
    return [value] if isinstance(value, str) else value


def check_command(value: object) -> str | list[str]:
    """Check a command: text for the shell, or a list of arguments."""
    if isinstance(value, str):
        if not value.strip():
            raise RefusalError("must not be empty")
        if interpreter(value) == ():
            raise RefusalError('names no interpreter in its first line, like "#!/usr/bin/env python3"')
        return _text(value, COMMAND_RULE)
    if not isinstance(value, (list, tuple)):
        raise wrong(COMMAND_RULE, value)
    _bound(value)
    if value and type(value) is list and set(map(type, value)) == {str} and _plain("".join(value)) and value[0].strip():
        return value  # the usual case, which a state with many tasks pays for
    argv = [_text(part, "text", at=(number,)) for number, part in enumerate(value)]
    if not argv or not argv[0].strip():
        raise RefusalError("must not be empty: its first part is the program to run")
    return argv


def check_description(value: object) -> str:
    """Check a text for people, in any number of lines."""
    return _text(value, "text")


def check_question(value: object) -> str:
    """Check a question to people."""
    text = _text(value, "a question")
    if not text.strip():
        raise RefusalError("must not be empty")
    return text


def check_env(value: object) -> dict[str, str]:
    """Check environment variables."""
    env = {}
    for name, text in _mapping(value, "variables and their values").items():
        if not _NAME.fullmatch(name):
            raise RefusalError("is no name of a variable: letters, digits and _, not starting with a digit", at=(name,))
        if name in RUN_ENVIRONMENT:
            raise RefusalError("is set by Air-Executor for every run; choose another name", at=(name,))
        written = str(text).lower() if isinstance(text, bool) else text
        env[name] = _text(written, "text", at=(name,), show=False)
    return env


def check_labels(value: object) -> dict[str, str]:
    """Check labels."""
    labels = {}
    for name, raw in _mapping(value, "names and values").items():
        if not _LABEL.fullmatch(name):
            raise RefusalError(
                "is no name of a label: letters, digits and ._/- inside, at most 63 characters", at=(name,)
            )
        text = _text(raw, "text", at=(name,))
        if len(text) > _LONGEST_LABEL or not text.isprintable():
            msg = f"printable text of at most {_LONGEST_LABEL} characters"
            raise wrong(msg, text, at=(name,))
        labels[name] = text
    return labels


def check_pools(value: object) -> dict[str, int]:
    """Check how much a task takes of which pools."""
    pools = {}
    for name, weight in _mapping(value, "pools and weights").items():
        if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= MAX_WEIGHT:
            raise wrong(WEIGHT_RULE, weight, at=(name,))
        pools[_id_at(name, (name,))] = int(weight)
    if len(pools) > MOST_POOLS:
        msg = f"must be at most {MOST_POOLS} pools, got {len(pools)}"
        raise RefusalError(msg)
    return pools


def check_amounts(value: object) -> dict[str, float]:
    """Check amounts by names, which are those of labels."""
    amounts = {}
    for name, raw in _mapping(value, "names and amounts").items():
        if not _LABEL.fullmatch(name):
            raise RefusalError(
                "is no name of an amount: letters, digits and ._/- inside, at most 63 characters", at=(name,)
            )
        if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not 0 <= raw <= MOST_REPORTED:
            msg = f"a number between 0 and {MOST_REPORTED:g}"
            raise wrong(msg, raw, at=(name,))
        amounts[name] = int(raw) if raw == int(raw) else raw
    if len(amounts) > _MOST_AMOUNTS:
        msg = f"at most {_MOST_AMOUNTS} amounts"
        raise wrong(msg, f"{len(amounts)}")
    return amounts


def check_budget(value: object) -> dict[str, float]:
    """Check the amounts of a budget: of nothing there is no share."""
    budget = check_amounts(value)
    for name, amount in budget.items():
        if amount == 0:
            raise wrong("more than 0", amount, at=(name,))
    return budget


def check_note(value: object) -> str:
    """Return a note as it can be shown: one line, cut where it is too long."""
    text = " ".join(_text(value, "text").split())
    text = "".join(char if char.isprintable() else "?" for char in text[:1000])
    return text if len(text) <= _LONGEST_NOTE else f"{text[: _LONGEST_NOTE - 1]}…"


def check_params(value: object) -> dict[str, Any]:
    """Check values of parameters: text, numbers, true or false, and lists of those."""
    found = {}
    for name, one in _mapping(value, "names and values").items():
        if not _NAME.fullmatch(name) or name in RUN_ENVIRONMENT:
            raise RefusalError(
                "is no name of a parameter: letters, digits and _, not starting with a digit", at=(name,)
            )
        items = one if isinstance(one, list) else [one]
        if len(items) > MOST_NAMES or not all(_is_plain_value(item) for item in items):
            rule = f"text, a number, true or false, or a list of at most {MOST_NAMES} of those"
            raise wrong(rule, one, at=(name,))
        found[name] = [_plain_value(item) for item in items] if isinstance(one, list) else _plain_value(one)
    return found


def _is_plain_value(value: object) -> bool:
    if isinstance(value, str):
        return clean(value) and len(value) <= LONGEST_TEXT
    if isinstance(value, int):
        return abs(value) <= MOST_EXACT
    return isinstance(value, float) and math.isfinite(value)


def _plain_value(value: Any) -> Any:  # noqa: ANN401 - JSON
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _mapping(value: object, of: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        msg = f"a mapping of {of}"
        raise wrong(msg, value)
    _bound(value)
    for key in value:
        if not isinstance(key, str):
            msg = f"a mapping of {of}; put the name in quotes"
            raise wrong(msg, key)
    return value


def check_secrets(value: object) -> list[str]:
    """Check names of secrets."""
    names = _list(value, "names of secrets")
    for number, name in enumerate(names):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise wrong("a name of letters, digits and _, not starting with a digit", name, at=(number,))
        if name in RUN_ENVIRONMENT:
            msg = f"{name} is set by Air-Executor for every run; choose another name"
            raise RefusalError(msg, at=(number,))
    return _distinct(names)


def _list(value: object, of: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        msg = f"a list of {of}"
        raise wrong(msg, value)
    _bound(value)
    return list(value)


def _bound(value: Sized) -> None:
    if len(value) > MOST_NAMES:
        msg = f"must have at most {MOST_NAMES} entries, got {len(value)}"
        raise RefusalError(msg)


def _distinct(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _id_at(value: object, at: Sequence[str | int]) -> str:
    if isinstance(value, str):
        try:
            return named_id(value)
        except BadInputError:
            pass
    raise wrong(ID_RULE, value, at=at)


def check_ids(value: object) -> list[str]:
    """Check a list of ids; one that is named twice counts once."""
    return _distinct([_id_at(name, (number,)) for number, name in enumerate(_list(value, "ids"))])


def check_exit_codes(value: object) -> list[int]:
    """Check a list of exit codes; 0 is none, for it is success."""
    codes = _list(value, "exit codes")
    for number, code in enumerate(codes):
        if not isinstance(code, int) or isinstance(code, bool) or not 1 <= code <= MAX_EXIT_CODE:
            rule = f"an exit code: a whole number between 1 and {MAX_EXIT_CODE}"
            raise wrong(rule, code, at=(number,))
    return list(dict.fromkeys(map(int, codes)))


def check_allowed_failure(value: object) -> bool | list[int]:
    """Check which failures of a task are allowed: all, none, or those with certain exit codes."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, (list, tuple)):
        raise wrong("true, false or a list of exit codes", value)
    return check_exit_codes(value)


def check_workdir(value: object) -> str:
    """Check the folder of a task: a relative path stays inside the project, an absolute one may leave it."""
    path = check_path(value)
    if ".." in path.split("/"):
        msg = f"must not contain .. as a part, got {quoted(value)}; use an absolute path to leave the project"
        raise RefusalError(msg)
    return path


def check_path(value: object) -> str:
    """Check a path."""
    path = text_of(value)
    if not path or not clean(path) or len(path) > _LONGEST_PATH:
        raise wrong("a path", value)
    return path


def check_time(value: object) -> float:
    """Check a time: text with its zone, or an aware `datetime`; give it back in Unix seconds."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            msg = f"must be {TIME_RULE}, got {value.isoformat()} without a zone"
            raise RefusalError(msg)
        return value.timestamp()
    if isinstance(value, float) and MIN_TIME <= value <= MAX_TIME:  # a record in memory that is checked again
        return value
    try:
        return from_text(value)
    except (BadInputError, ValueError, OverflowError):
        raise wrong(TIME_RULE, value) from None


def load_time(value: object) -> float:
    """Read a time as it is stored; give it back in Unix seconds."""
    try:
        return from_text(value)
    except BadInputError:
        raise wrong(TIME_RULE, value) from None


def check_duration(value: object) -> float:
    """Check a duration; give it back in seconds."""
    if type(value) is int and 0 <= value <= MAX_DURATION:
        return value
    try:
        return parse_duration(value)  # type: ignore[arg-type]  # refuses what it does not know
    except BadInputError as error:
        raise RefusalError(str(error)) from None


def check_positive_duration(value: object) -> float:
    """Check a duration that is longer than nothing."""
    seconds = check_duration(value)
    if seconds == 0:
        msg = f"must be longer than nothing, got {quoted(value)}"
        raise RefusalError(msg)
    return seconds


def check_memory(value: object) -> int:
    """Check an amount of memory; give it back in bytes."""
    try:
        return parse_memory(value)
    except BadInputError as error:
        raise RefusalError(str(error)) from None


def check_cpu(value: object) -> float:
    """Check a number of CPUs."""
    cpus: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        cpus = value
    elif isinstance(value, str) and _CPU.fullmatch(value):
        cpus = int(value[:-1]) / 1000
    if cpus is None or not 0.001 <= cpus <= 100_000:  # noqa: PLR2004 - a millicore to a large cluster
        raise wrong('a number of CPUs (2, 0.5) or "500m"', value)
    return int(cpus) if cpus == int(cpus) else cpus


def finite(low: float, high: float, rule: str) -> Callable[[object], float]:
    """Return the check for a number within bounds; 2.0 becomes 2."""

    def check(value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
            raise wrong(rule, value)
        return int(value) if value == int(value) else value

    return check

"""Checks of values that may be written in several forms: each says in one sentence what it accepts.

`types` binds them to fields. Each returns the one normal form (seconds, bytes, Unix time), so that nothing else needs
to know the forms that people may write. Standard library alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence, Sized
from datetime import datetime
from typing import Any

from air_executor.errors import BadInputError
from air_executor.model.names import ID_RULE, RUN_ENVIRONMENT
from air_executor.model.names import check_id as named_id
from air_executor.model.quote import quoted
from air_executor.model.shebang import interpreter
from air_executor.model.sizes import parse_memory
from air_executor.model.times import MAX_DURATION, MAX_TIME, MIN_TIME, TIME_RULE, from_text, parse_duration
from air_executor.model.written import RealNumber

_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DOMAIN_PART = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_IMAGE = re.compile(
    rf"(?:(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,})?"
)
"""The grammar of image references, as registries and engines share it."""
_LONGEST_IMAGE = 512
_KERNELS = ("/proc", "/sys", "/dev")
"""Folders of a container that its platform fills."""
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a place in a container
_CPU = re.compile(r"[0-9]{1,9}m")
NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
_NAME = re.compile(NAME_PATTERN)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
NETWORK_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
_NETWORK = re.compile(NETWORK_PATTERN)
COMMAND_RULE = "text for the shell, or a list of arguments"
_LONGEST_LABEL = 256
LONGEST_TEXT = 131_071
"""Characters of an argument or a variable: Linux' MAX_ARG_STRLEN less its terminator."""
MOST_NAMES = 10_000
"""Entries of one list or mapping: arguments, variables, labels, secrets, ids."""
_LONGEST_PATH = 4096
MOST_EXACT = 10**18
"""Largest whole number that a parameter may be."""


class RefusalError(ValueError):
    """A wrong value; `at` is where in it, if it has parts. Becomes one line of a message in `problems`."""

    def __init__(self, message: str, at: Sequence[str | int] = ()) -> None:
        super().__init__(message)
        self.at = tuple(at)


def _wrong(rule: str, value: object, *, at: Sequence[str | int] = ()) -> RefusalError:
    return RefusalError(f"must be {rule}, got {quoted(value)}", at)


def clean(value: str) -> bool:
    """Tell whether text can be an argument, a variable or a path: no NUL, and UTF-8 can hold it."""
    return "\0" not in value and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


def _plain(text: str) -> bool:
    return text.isascii() and "\0" not in text and len(text) <= LONGEST_TEXT


def _text(value: object, rule: str, *, at: Sequence[str | int] = (), show: bool = True) -> str:
    """Take text, or a number as it was written. Python's own floats have more than one form: the user must choose."""
    if isinstance(value, str):
        if not clean(value):
            raise RefusalError("must not contain NUL bytes or half surrogate pairs", at=at)
        if len(value) > LONGEST_TEXT:
            msg = f"must be at most {LONGEST_TEXT} characters, which is what a process takes, got {len(value)}"
            raise RefusalError(msg, at=at)
        return value
    if isinstance(value, int | RealNumber) and not isinstance(value, bool):
        return str(getattr(value, "source", value))  # a file's own digits
    hint = "; put it in quotes" if isinstance(value, (bool, float)) else ""
    got = f", got {quoted(value)}" if show else ""
    msg = f"must be {rule}{got}{hint}"
    raise RefusalError(msg, at=at)


# Whole values


def check_command(value: object) -> str | list[str]:
    """Check a command: text for the shell, or a list of arguments."""
    if isinstance(value, str):
        if not value.strip():
            raise RefusalError("must not be empty")
        if interpreter(value) == ():
            raise RefusalError('names no interpreter in its first line, like "#!/usr/bin/env python3"')
        return _text(value, COMMAND_RULE)
    if not isinstance(value, (list, tuple)):
        raise _wrong(COMMAND_RULE, value)
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
            raise _wrong(msg, text, at=(name,))
        labels[name] = text
    return labels


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
            raise _wrong(rule, one, at=(name,))
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
        raise _wrong(msg, value)
    _bound(value)
    for key in value:
        if not isinstance(key, str):
            msg = f"a mapping of {of}; put the name in quotes"
            raise _wrong(msg, key)
    return value


def check_secrets(value: object) -> list[str]:
    """Check names of secrets."""
    names = _list(value, "names of secrets")
    for number, name in enumerate(names):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _wrong("a name of letters, digits and _, not starting with a digit", name, at=(number,))
        if name in RUN_ENVIRONMENT:
            msg = f"{name} is set by Air-Executor for every run; choose another name"
            raise RefusalError(msg, at=(number,))
    return _distinct(names)


def _list(value: object, of: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        msg = f"a list of {of}"
        raise _wrong(msg, value)
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
    raise _wrong(ID_RULE, value, at=at)


def check_ids(value: object) -> list[str]:
    """Check a list of ids; one that is named twice counts once."""
    return _distinct([_id_at(name, (number,)) for number, name in enumerate(_list(value, "ids"))])


def check_workdir(value: object) -> str:
    """Check the folder of a task: a relative path stays inside the project, an absolute one may leave it."""
    path = check_path(value)
    if ".." in path.split("/"):
        msg = f"must not contain .. as a part, got {quoted(value)}; use an absolute path to leave the project"
        raise RefusalError(msg)
    return path


def check_path(value: object) -> str:
    """Check a path."""
    if not isinstance(value, str) or not value or not clean(value) or len(value) > _LONGEST_PATH:
        raise _wrong("a path", value)
    return value


def check_target(value: object) -> str:
    """Check a place in a container."""
    path = check_path(value)
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if not path.startswith("/") or not parts or ".." in parts:
        raise _wrong("an absolute path below / and without ..", value)
    target = "/" + "/".join(parts)  # one way to write a place, for who must compare it: //air is /air
    if f"/{parts[0]}" in _KERNELS and target != _SHARED_MEMORY:
        msg = f"must not lie in /{parts[0]}, which the platform fills, got {quoted(value)}"
        raise RefusalError(msg)
    return target


def check_image(value: object) -> str:
    """Check the name of an image."""
    if not isinstance(value, str) or not is_image_reference(value):
        raise _wrong('the name of an image, like "python:3.12-slim" or "registry.example/team/tool@sha256:..."', value)
    return value


def is_image_reference(text: str) -> bool:
    """Tell whether a text names an image: [registry/]path[:tag][@digest]."""
    return len(text) <= _LONGEST_IMAGE and _IMAGE.fullmatch(text) is not None


def check_network(value: object) -> str:
    """Check the name of a network."""
    if not isinstance(value, str) or not _NETWORK.fullmatch(value):
        raise _wrong('"none", "default" or the name of a network', value)
    return value


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
        raise _wrong(TIME_RULE, value) from None


def load_time(value: object) -> float:
    """Read a time as it is stored; give it back in Unix seconds."""
    try:
        return from_text(value)
    except BadInputError:
        raise _wrong(TIME_RULE, value) from None


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
        raise _wrong('a number of CPUs (2, 0.5) or "500m"', value)
    return int(cpus) if cpus == int(cpus) else cpus


def finite(low: float, high: float, rule: str) -> Callable[[object], float]:
    """Return the check for a number within bounds; 2.0 becomes 2."""

    def check(value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
            raise _wrong(rule, value)
        return int(value) if value == int(value) else value

    return check

"""Kinds of settings' values: each takes what a flag, a variable (text) or a TOML file (typed) gives.

Used by `model.py` alone. Messages say what is accepted; the caller puts in front which setting it is.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from types import MappingProxyType

from air_executor.errors import BadInputError
from air_executor.model.names import check_id
from air_executor.model.quote import quoted
from air_executor.model.sizes import parse_memory
from air_executor.model.times import format_duration, parse_duration

_LONGEST_PREFIX = 12
_SHORTEST_POLL = 0.01
_MOST = 1_000_000_000
_FEWEST_CPUS = 0.01
_MOST_CPUS = 100_000
_LONGEST_CURRENCY = 12
PRICES = ("runner_hour", "cpu_hour", "memory_hour", "gpu_hour")
_OTHER_PRICES = "runner_hour, memory_hour, gpu_hour"
_LOWEST_RATE, _HIGHEST_RATE = 1, 10_000
_LONGEST_OBJECT = 253
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def to_text(value: object) -> str:
    """Take printable text without spaces around it."""
    if not isinstance(value, str) or not value.isprintable() or value != value.strip() or not value:
        msg = f"must be text without spaces around it, got {quoted(value)}"
        raise BadInputError(msg)
    return value


def to_secret(value: object) -> str:
    """Take a secret that fits into a header; no message shows it."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value or not value:
        raise BadInputError("must be ASCII text without spaces")
    return value


def to_path(value: object) -> str:
    """Take a path; `~` is the home folder."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value) or "\0" in str(value):
        msg = f"must be a path, got {quoted(value)}"
        raise BadInputError(msg)
    return os.path.expanduser(str(value))


def to_id(value: object) -> str:
    """Take a name under the rule for ids."""
    if not isinstance(value, str):
        msg = f"must be text, got {quoted(value)}"
        raise BadInputError(msg)
    try:
        return check_id(value)
    except BadInputError as error:
        raise BadInputError(str(error).removeprefix("id: ")) from None


def to_prefix(value: object) -> str:
    """Take an id that leaves room for a job's in a platform's name."""
    name = to_id(value)
    if len(name) > _LONGEST_PREFIX:
        msg = f"must be at most {_LONGEST_PREFIX} characters, got {quoted(name)}"
        raise BadInputError(msg)
    return name


def to_whole(low: int, high: int) -> Callable[[object], int]:
    """Return the kind of whole numbers within bounds."""

    def parse(value: object) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value, re.ASCII) else value
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            msg = f"must be a whole number between {low} and {high}, got {quoted(value)}"
            raise BadInputError(msg)
        return number

    return parse


def to_price(value: object) -> float:
    """Take an amount of money."""
    number: object = value
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value, re.ASCII):
        number = float(value)
    if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 <= number <= _MOST:
        msg = f"must be a number that is not negative, like 0.12, got {quoted(value)}"
        raise BadInputError(msg)
    return float(number)


def to_currency(value: object) -> str:
    """Take the name of a currency: short text without spaces, like `EUR` or `credits`."""
    name = to_text(value)
    if " " in name or len(name) > _LONGEST_CURRENCY:
        msg = f"must be at most {_LONGEST_CURRENCY} characters without spaces, like EUR, got {quoted(value)}"
        raise BadInputError(msg)
    return name


def to_day(value: object) -> str:
    """Take a day, as text or as TOML has it, and return it as text."""
    text = value.isoformat() if isinstance(value, date) else value
    if isinstance(text, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
        with contextlib.suppress(ValueError):
            return date.fromisoformat(text).isoformat()
    msg = f"must be a day, like 2026-01-31, got {quoted(value)}"
    raise BadInputError(msg)


def to_backend_prices(value: object) -> Mapping[str, float]:
    """Take prices by backend: tables in a table, or text like `docker.cpu_hour=0.04`; the names are as in the text."""
    pairs: list[tuple[str, object]] = []
    if isinstance(value, str):
        pairs += [_pair(part) for part in value.split(",")]
    elif isinstance(value, Mapping):
        for backend, prices in value.items():
            inner = prices.items() if isinstance(prices, Mapping) else [("", prices)]
            pairs += [(f"{backend}.{name}", price) for name, price in inner]
    else:
        msg = f'must be prices by backend, like "docker.cpu_hour=0.04", got {quoted(value)}'
        raise BadInputError(msg)
    found: dict[str, float] = {}
    for name, price in pairs:
        backend, _, price_name = name.partition(".")
        if price_name not in PRICES:
            msg = f"{quoted(name)[1:-1]}: must be a backend and a price, like docker.cpu_hour (or {_OTHER_PRICES})"
            raise BadInputError(msg)
        try:
            found[f"{to_id(backend)}.{price_name}"] = to_price(price)
        except BadInputError as error:
            msg = f"{quoted(name)[1:-1]} {error}"
            raise BadInputError(msg) from None
    return MappingProxyType(found)


def to_interval(value: object) -> float:
    """Take a duration that does not make a loop spin."""
    seconds = parse_duration(value)  # type: ignore[arg-type]  # refuses what it does not know
    if seconds < _SHORTEST_POLL:
        msg = f"must be at least {format_duration(_SHORTEST_POLL)}, got {quoted(value)}"
        raise BadInputError(msg)
    return seconds


def to_memory(value: object) -> int:
    """Take an amount of memory; a variable's text may be a plain number of bytes."""
    return parse_memory(int(value) if isinstance(value, str) and value.isdecimal() else value)


def to_cpus(value: object) -> float:
    """Take a number of CPUs."""
    number = to_price(value)
    if not _FEWEST_CPUS <= number <= _MOST_CPUS:
        msg = f"must be a number of CPUs, like 2 or 0.5, got {quoted(value)}"
        raise BadInputError(msg)
    return number


def to_rate(value: object) -> float:
    """Take how often something may happen in a second."""
    number = to_price(value)
    if not _LOWEST_RATE <= number <= _HIGHEST_RATE:
        msg = f"must be a number between {_LOWEST_RATE:g} and {_HIGHEST_RATE:g}, got {quoted(value)}"
        raise BadInputError(msg)
    return number


def to_object(value: object) -> str:
    """Take the name of an object of Kubernetes."""
    if not isinstance(value, str) or len(value) > _LONGEST_OBJECT or not _OBJECT.fullmatch(value):
        msg = f"must be the name of an object of Kubernetes, like state-volume, got {quoted(value)}"
        raise BadInputError(msg)
    return value


def to_inner_path(value: object) -> str:
    """Take a path within a volume."""
    path = to_text(value).strip("/")
    if ".." in path.split("/"):
        msg = f"must be a path within the volume, got {quoted(value)}"
        raise BadInputError(msg)
    return path


def to_choice(*words: str) -> Callable[[object], str]:
    """Return the kind of one of some words."""

    def parse(value: object) -> str:
        if value not in words:
            msg = f"must be {', '.join(words[:-1])} or {words[-1]}, got {quoted(value)}"
            raise BadInputError(msg)
        return str(value)

    return parse


def to_user(value: object) -> tuple[int, int]:
    """Take numbers of a user and a group, like `1000:1000`; not those of root."""
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", value, re.ASCII) if isinstance(value, str) else None
    if match is None or 0 in (ids := (int(match[1]), int(match[2]))):
        msg = f'must be the numbers of a user and a group other than root, like "1000:1000", got {quoted(value)}'
        raise BadInputError(msg)
    return ids


def to_names(value: object) -> tuple[str, ...]:
    """Take a list, or text with commas between its parts."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        msg = f'must be names with commas between them, like "one,two", got {quoted(value)}'
        raise BadInputError(msg)
    return tuple(to_text(part.strip() if isinstance(part, str) else part) for part in parts)


def to_switch(value: object) -> bool:
    """Take a yes or no."""
    found = value if isinstance(value, bool) else _SWITCH.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        msg = f"must be true or false, got {quoted(value)}"
        raise BadInputError(msg)
    return found


def to_limits(value: object) -> Mapping[str, int]:
    """Take limits by name: a table, or text like `gpu=2,default=8`."""
    pairs: Iterable[tuple[object, object]]
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, str):
        pairs = [_pair(part) for part in value.split(",")]
    else:
        msg = f'must be limits by queue, like "gpu=2,default=8", got {quoted(value)}'
        raise BadInputError(msg)
    limits: dict[str, int] = {}
    for name, limit in pairs:
        queue = to_id(name)
        if queue in limits:
            msg = f"names the queue {queue} twice"
            raise BadInputError(msg)
        try:
            limits[queue] = to_whole(0, 1_000_000)(limit)
        except BadInputError as error:
            msg = f"the limit of {queue} {error}"
            raise BadInputError(msg) from None
    return MappingProxyType(limits)


def _pair(text: str) -> tuple[str, str]:
    name, _, limit = text.partition("=")
    return name.strip(), limit.strip()

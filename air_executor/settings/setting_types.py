"""Types of settings: accepted input, unit, bounds, and display.

A type accepts text (from variables), typed values (from flags and TOML) and its own values. Error messages say what is
accepted; `setting_errors` adds the name. Knows no setting and no source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from air_executor.errors import BadInputError
from air_executor.model.checks import TARGET_PATTERN, TARGET_RULE
from air_executor.model.names import PLAIN_RULE, check_id, is_plain
from air_executor.model.quote import quoted
from air_executor.model.sizes import format_memory, parse_memory
from air_executor.model.times import format_duration, parse_duration
from air_executor.model.types import OCCASIONS, Occasion
from air_executor.settings.project import parse_path

REFUSED = "refused"
"""Type of the error whose message comes from `BadInputError`."""
MUST_BE = "must_be"
"""Type of the error that `MustBe` makes."""

PRICES = ("runner_hour", "cpu_hour", "memory_hour", "gpu_hour")
_MIN_INTERVAL = 0.01
_MAX_NAMES = 1000
_MAX_TEXT = 4096
_MAX_PREFIX = 12
_MAX_CURRENCY = 12
_MAX_DIGITS = 30
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class MustBe:
    """Accepted input, in words: one message for all errors of the annotations before it."""

    accepted: str
    item: str = ""
    """Noun before the key, for a value in a mapping: `the limit of `."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Wrap the type's schema; a hook of pydantic."""
        return core_schema.custom_error_schema(
            handler(source),
            MUST_BE,
            custom_error_message="must be {accepted}",
            custom_error_context={"accepted": self.accepted, "item": self.item},
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """Display of a value."""

    text: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class DefaultText:
    """Default value in words, for documentation."""

    text: str


@dataclass(frozen=True, slots=True)
class PathMark:
    """Marks a path, which may be relative to the folder of its source."""


def parsed(parse: Callable[[Any], object]) -> BeforeValidator:
    """Return the validator for a function that raises `BadInputError`; its message is kept."""

    def validate(value: object) -> object:
        try:
            return parse(value)
        except BadInputError as error:
            raise PydanticCustomError(REFUSED, "{message}", {"message": str(error)}) from None

    return BeforeValidator(validate)


def whole(low: int, high: int, item: str = "") -> tuple[object, ...]:
    """Return the annotations of an `int` within bounds."""
    accepted = f"a whole number between {low} and {high}"
    return Field(ge=low, le=high), BeforeValidator(_whole_number), MustBe(accepted, item)


def real(low: float, high: float, accepted: str, item: str = "") -> tuple[object, ...]:
    """Return the annotations of a `float` within bounds."""
    bounds = Field(ge=low, le=high, allow_inf_nan=False)
    return bounds, BeforeValidator(_number), MustBe(accepted, item), Shown(_number_text)


# Conversions. Those that raise ValueError are followed by a `MustBe`.


def _whole_number(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - pydantic handles ValueError only
    return value


def _number(value: object) -> float:
    if isinstance(value, str) and len(value) <= _MAX_DIGITS and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value, re.ASCII):
        return float(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - pydantic handles ValueError only
    return value


def _switch(value: object) -> bool:
    found = value if isinstance(value, bool) else _SWITCH.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError
    return found


def _printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError
    return value


def _inner_path(value: str) -> str:
    path = value.strip("/")
    if ".." in path.split("/"):
        raise ValueError
    return path


def _pool(value: object) -> str:
    if not isinstance(value, str):
        msg = f"must be text, got {quoted(value)}"
        raise BadInputError(msg)
    try:
        return check_id(value)
    except BadInputError as error:
        raise BadInputError(str(error).removeprefix("id: ")) from None


def _identifier(value: object) -> str:
    name = _pool(value)
    if not is_plain(name):
        msg = f"{name!r} is not a valid id; use {PLAIN_RULE}"
        raise BadInputError(msg)
    return name


def _interval(value: float | str) -> float:
    seconds = parse_duration(value)
    if seconds < _MIN_INTERVAL:
        msg = f"must be at least {format_duration(_MIN_INTERVAL)}, got {quoted(value)}"
        raise BadInputError(msg)
    return seconds


def _memory(value: object) -> int:
    """Accept plain digits too: a variable's number of bytes is text."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):
        return parse_memory(int(value))
    return parse_memory(value)


def _token(value: object) -> str:
    """Accept text that fits into an HTTP header; the message must not show it."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not re.fullmatch(r"[!-~]+", text) or len(text) > _MAX_TEXT:
        msg = f"must be ASCII text without spaces, of at most {_MAX_TEXT} characters"
        raise BadInputError(msg)
    return text


def _user(value: object) -> object:
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", value, re.ASCII) if isinstance(value, str) else None
    if match is None and not isinstance(value, tuple):
        raise ValueError
    return value if match is None else (int(match[1]), int(match[2]))


def _day(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value, re.ASCII):
        return date.fromisoformat(value)
    if type(value) is not date:
        raise ValueError
    return value


def _names(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    if not isinstance(value, (list, tuple)):
        msg = f'must be names with commas between them, like "one,two", got {quoted(value)}'
        raise BadInputError(msg)
    return tuple(value)


def _limits(value: object) -> object:
    """Accept a table, or text like `gpu=2,default=8`."""
    if not isinstance(value, str):
        if not isinstance(value, Mapping):
            msg = f'must be limits by pool, like "gpu=2,default=8", got {quoted(value)}'
            raise BadInputError(msg)
        return dict(value)
    limits: dict[str, str] = {}
    for pool, limit in map(_pair, value.split(",")):
        if pool in limits:
            msg = f"names the pool {quoted(pool)[1:-1]} twice"
            raise BadInputError(msg)
        limits[pool] = limit
    return limits


def _occasions(value: object) -> object:
    """Accept a table of lists, or text like `ops=failure+late,boss=success`; return what each target is told."""
    if isinstance(value, str):
        value = dict(map(_pair, value.split(",")))
    if not isinstance(value, Mapping):
        msg = f'must be targets and what they are told, like "ops=failure+late,boss=success", got {quoted(value)}'
        raise BadInputError(msg)
    return {name: tuple(on.split("+")) if isinstance(on, str) else on for name, on in value.items()}


def _target(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(TARGET_PATTERN, value):
        msg = f"{quoted(value)} is no name of a target; use {TARGET_RULE}"
        raise BadInputError(msg)
    return value


def _prices(value: object) -> object:
    """Accept tables by backend, or text like `docker.cpu_hour=0.04`; return prices by such names."""
    if isinstance(value, str):
        return dict(map(_pair, value.split(",")))
    if not isinstance(value, Mapping):
        msg = f'must be prices by backend, like "docker.cpu_hour=0.04", got {quoted(value)}'
        raise BadInputError(msg)
    return {
        name: price
        for key, inner in value.items()
        for name, price in (
            {f"{key}.{hour}": price for hour, price in inner.items()} if isinstance(inner, Mapping) else {key: inner}
        ).items()
    }


def _price_name(value: str) -> str:
    backend, _, price = value.partition(".")
    if price not in PRICES:
        others = ", ".join(name for name in PRICES if name != "cpu_hour")
        msg = f"{quoted(value)[1:-1]}: must be a backend and a price, like docker.cpu_hour (or {others})"
        raise BadInputError(msg)
    try:
        return f"{_identifier(backend)}.{price}"
    except BadInputError as error:
        msg = f"{quoted(value)[1:-1]} {error}"
        raise BadInputError(msg) from None


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip()


def _pairs_text(value: Mapping[str, float]) -> str:
    return ",".join(f"{name}={_number_text(number)}" for name, number in value.items()) or "none"


def _number_text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# The types

Switch = Annotated[
    bool, BeforeValidator(_switch), MustBe("true or false"), Shown(lambda value: "true" if value else "false")
]
Text = Annotated[
    str,
    Field(min_length=1, max_length=_MAX_TEXT),
    AfterValidator(_printable),
    MustBe(f"text of at most {_MAX_TEXT} characters without spaces around it"),
]
PoolName = Annotated[str, parsed(_pool)]
Identifier = Annotated[str, parsed(_identifier)]
"""Part of names on platforms, so narrower than an id."""
Prefix = Annotated[str, Field(max_length=_MAX_PREFIX), MustBe(f"at most {_MAX_PREFIX} characters"), parsed(_identifier)]
Names = Annotated[
    tuple[Text, ...], Field(max_length=_MAX_NAMES), parsed(_names), Shown(lambda value: ",".join(value) or "none")
]
FilePath = Annotated[str, parsed(parse_path), PathMark()]
Token = Annotated[SecretStr, parsed(_token), Shown(lambda _: "(set)")]
Seconds = Annotated[float, parsed(_interval), Shown(format_duration)]
"""Positive duration in seconds, at most what `parse_duration` accepts."""
PerhapsSeconds = Annotated[float, parsed(parse_duration), Shown(format_duration)]
"""The same, or 0."""
Bytes = Annotated[int, parsed(_memory), Shown(format_memory)]
"""Amount of memory in bytes, within the bounds of `parse_memory`."""
Cpus = Annotated[float, *real(0.01, 100_000, "a number of CPUs, like 2 or 0.5")]
Price = Annotated[float, *real(0, 1_000_000_000, "a number that is not negative, like 0.12")]
"""Amount of money."""
PerSecond = Annotated[float, *real(1, 10_000, "a number between 1 and 10000")]
Currency = Annotated[
    str,
    Field(min_length=1, max_length=_MAX_CURRENCY, pattern="^[^ ]*$"),
    AfterValidator(_printable),
    MustBe(f"at most {_MAX_CURRENCY} characters without spaces, like EUR"),
]
Day = Annotated[date, BeforeValidator(_day), MustBe("a day, like 2026-01-31")]
Transport = Annotated[Literal["volume", "http"], MustBe("volume or http")]
PullPolicy = Annotated[Literal["missing", "always", "never"], MustBe("missing, always or never")]
UserAndGroup = Annotated[
    tuple[Annotated[int, Field(ge=1, le=999_999_999)], Annotated[int, Field(ge=1, le=999_999_999)]],
    BeforeValidator(_user),
    MustBe('the numbers of a user and a group other than root, like "1000:1000"'),
    Shown(lambda value: f"{value[0]}:{value[1]}"),
]
ObjectName = Annotated[
    str,
    Field(max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"),
    MustBe("the name of an object of Kubernetes, like state-volume"),
]
InnerPath = Annotated[
    str,
    Field(max_length=_MAX_TEXT),
    AfterValidator(_printable),
    AfterValidator(_inner_path),
    MustBe("a path within the volume"),
]
Limits = Annotated[
    Mapping[PoolName, Annotated[int, *whole(0, 1_000_000, "the limit of ")]],
    Field(max_length=_MAX_NAMES),
    parsed(_limits),
    Shown(_pairs_text),
]
NotifyRules = Annotated[
    Mapping[
        Annotated[str, parsed(_target)],
        Annotated[
            tuple[Occasion, ...],
            Field(min_length=1, max_length=len(OCCASIONS)),
            MustBe(f"{', '.join(OCCASIONS)}, with + between them", "what is told to "),
        ],
    ],
    Field(max_length=20),
    parsed(_occasions),
    Shown(lambda value: ",".join(f"{to}={'+'.join(on)}" for to, on in value.items()) or "none"),
]
"""What each target of notifications is told."""
BackendPrices = Annotated[
    Mapping[Annotated[str, parsed(_price_name)], Price],
    Field(max_length=_MAX_NAMES),
    parsed(_prices),
    Shown(_pairs_text),
]
"""Prices by names like `docker.cpu_hour`."""

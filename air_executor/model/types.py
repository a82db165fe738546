"""The types of fields: what each accepts, in which bounds, and how a refusal names it.

Records declare their fields with these, and `parsing` hands the records to pydantic. Nothing here imports pydantic, so
commands that only show a state start without it. A type gives one normal form (seconds, bytes, Unix time, text).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from air_executor.model import checks, condition, container_checks, sizes
from air_executor.model.names import ID_PATTERN, ID_RULE, MAX_ID, MAX_NAME, NAME_RULE
from air_executor.model.times import DURATION_PATTERN, MAX_DURATION, MAX_TIME, MIN_TIME, to_text

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core.core_schema import CoreSchema

Json = dict[str, Any]

MAX_COUNT = 2**53
"""Largest whole number that every reader of JSON keeps exact."""
MAX_AMOUNT = 1e15
"""Largest amount of money, seconds or CPUs: sums of as many as a job can have stay finite and exact enough."""
MAX_MONEY = 1e300
MAX_SEQ = 999_999_999
MAX_LAST_SEQ = MAX_SEQ // 2
MAX_SLOTS = 10_000
MAX_TASKS = 1_000_000
MAX_MESSAGE = 64 * 1024
"""Characters of a message that a state keeps."""
MAX_COMMAND = checks.LONGEST_TEXT
MAX_NAMES = checks.MOST_NAMES
MAX_CPUS = 100_000


_stored: ContextVar[bool] = ContextVar("_stored", default=False)


@contextmanager
def stored_form() -> Iterator[None]:
    """Within this, types describe the normal form alone, which is what Air-Executor itself has written.

    The checks of other forms are left out then: they are most of the time that reading a state would take.
    """
    token = _stored.set(True)
    try:
        yield
    finally:
        _stored.reset(token)


class Accepts:
    """What a field takes, in words, with the checks that bring what people write into one form.

    Args:
        rule: completes "must be ...", or a function of the refused value that returns such words.
        before: takes the value as written; raises `RefusalError`. Left out in the stored form.
        load: takes the value as stored, where that differs from the form in memory; raises ValueError.
        write: returns the form on the volume, where that differs from the one in memory.
        json: JSON Schema of what may be written, where that differs from the normal form.
    """

    __slots__ = ("_before", "_json", "_load", "_write", "rule")

    def __init__(
        self,
        rule: str | Callable[[object], str],
        *,
        before: Callable[[Any], Any] | None = None,
        load: Callable[[Any], Any] | None = None,
        write: Callable[[Any], str] | None = None,
        json: Json | None = None,
    ) -> None:
        self.rule = rule
        self._before, self._load, self._write, self._json = before, load, write, json

    def words(self, value: object) -> str:
        """Return what is accepted in place of a refused value."""
        return self.rule if isinstance(self.rule, str) else self.rule(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - see the module

        schema: Any = handler(source)
        check = self._load if _stored.get() else self._before
        if check is not None:
            schema = core_schema.no_info_before_validator_function(check, schema)
        if self._write is not None:
            text = core_schema.str_schema()
            schema["serialization"] = core_schema.plain_serializer_function_ser_schema(self._write, return_schema=text)
        return schema  # type: ignore[no-any-return]  # a TypedDict of one of many kinds

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return handler(schema) if self._json is None else dict(self._json)


def fit(message: str | None) -> str | None:
    """Return a message as a record can keep it: text that UTF-8 can hold, cut where it is too long."""
    if message is None:
        return None
    text = message if message.isascii() else message.encode(errors="replace").decode()
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"


class About:
    """What a field is for: one sentence for documentation and editors."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {**handler(schema), "description": self.text}


class Strict:
    """No conversion: `"3"`, `3.0` and `true` are no whole numbers. `pattern` is for text (Rust's syntax)."""

    __slots__ = ("_pattern",)

    def __init__(self, pattern: str | None = None) -> None:
        self._pattern = pattern

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: Any = handler(source)
        schema["strict"] = True
        if self._pattern is not None:
            schema["pattern"] = self._pattern
        return schema  # type: ignore[no-any-return]  # a TypedDict of one of many kinds


class Lenient:
    """Take the default in place of a value that is refused."""

    __slots__ = ("_default",)

    def __init__(self, *, default: object = None) -> None:
        self._default = default

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - see the module

        return core_schema.with_default_schema(handler(source), default=self._default, on_error="default")


def whole(low: int, high: int) -> tuple[object, ...]:
    """Return what makes a field a whole number within bounds."""

    def words(value: object) -> str:
        too_low = isinstance(value, int) and not isinstance(value, bool) and value < low
        return f"a whole number >= {low}" if too_low and low >= 0 else f"a whole number between {low} and {high}"

    return Strict(), Ge(low), Le(high), Accepts(words)


def real(low: float, high: float) -> tuple[object, ...]:
    """Return what makes an `int | float` field that people write a number within bounds; 2.0 becomes 2."""
    words = f"a number between {low:g} and {high:g}"
    schema = {"type": "number", "minimum": low, "maximum": high}
    return Ge(low), Le(high), Accepts(words, before=checks.finite(low, high, words), json=schema)


def plain(low: float, high: float) -> tuple[object, ...]:
    """Return what makes a `float` field that only Air-Executor writes a number within bounds."""
    return Strict(), Ge(low), Le(high), Accepts(f"a number between {low:g} and {high:g}")


def one_of(*names: str) -> tuple[object, ...]:
    """Return what names the words of a `Literal` field."""
    return (Accepts(", ".join(f'"{name}"' for name in names[:-1]) + f' or "{names[-1]}"'),)


_TEXT: Json = {"type": "string", "minLength": 1}
_WORD: Json = {"type": ["string", "number"]}
_VALUE: Json = {"type": ["string", "number", "boolean"]}
_ID: Json = {"type": "string", "pattern": ID_PATTERN, "maxLength": MAX_ID}
_COMMAND: Json = {"anyOf": [{"type": "string", "pattern": r"\S"}, {"type": "array", "minItems": 1, "items": _WORD}]}
_NAME: Json = {"type": "string", "pattern": checks.NAME_PATTERN}
_ENV: Json = {"type": "object", "propertyNames": {"pattern": checks.NAME_PATTERN}, "additionalProperties": _VALUE}
_LABELS: Json = {"type": "object", "additionalProperties": _WORD}

_AMOUNTS: Json = {
    "type": "object",
    "maxProperties": 20,
    "additionalProperties": {"type": "number", "minimum": 0, "maximum": checks.MOST_REPORTED},
}


def duration_schema(least: Json) -> Json:
    """Return the schema of a duration with a lower limit."""
    written = {"type": "string", "pattern": DURATION_PATTERN}
    return {"anyOf": [{"type": "number", **least, "maximum": MAX_DURATION}, written]}


# What people write

_Seconds = Annotated[int, Strict(), Ge(0), Le(MAX_DURATION)] | Annotated[float, Strict(), Ge(0), Le(MAX_DURATION)]

Id = Annotated[str, MaxLen(MAX_ID), Strict(ID_PATTERN), Accepts(ID_RULE, json=_ID)]
Name = Annotated[str, MaxLen(MAX_NAME), Strict(ID_PATTERN), Accepts(NAME_RULE, json={**_ID, "maxLength": MAX_NAME})]
"""Name of a definition; its runs have ids like `name-12`."""
Ids = Annotated[
    list[str],
    MaxLen(MAX_NAMES),
    Accepts("a list of ids", before=checks.check_ids, json={"type": "array", "items": _ID}),
]
Command = Annotated[
    Annotated[str, MaxLen(MAX_COMMAND)] | Annotated[list[str], MinLen(1), MaxLen(MAX_NAMES)],
    Accepts(checks.COMMAND_RULE, before=checks.check_command, json=_COMMAND),
]
_CODE: Json = {"type": "integer", "minimum": 1, "maximum": checks.MAX_EXIT_CODE}
_CODES: Json = {"type": "array", "items": _CODE}
ExitCodes = Annotated[
    list[int],
    MaxLen(checks.MAX_EXIT_CODE),
    Accepts("a list of exit codes", before=checks.check_exit_codes, json=_CODES),
]
AllowedFailure = Annotated[
    bool | list[int],
    Accepts(
        "true, false or a list of exit codes",
        before=checks.check_allowed_failure,
        json={"anyOf": [{"type": "boolean"}, _CODES]},
    ),
]
OnlyIf = Annotated[
    dict[str, Any],
    MaxLen(len(condition.OPERATORS) + 1),
    Accepts(condition.RULE, before=condition.check_condition, json=condition.SCHEMA),
]
"""A condition on a result: its path in `result`, and what must hold by operator."""
Description = Annotated[
    str, MaxLen(MAX_COMMAND), Accepts("text", before=checks.check_description, json={"type": "string"})
]
Question = Annotated[str, MaxLen(MAX_COMMAND), Accepts("a question", before=checks.check_question, json=_TEXT)]
Env = Annotated[dict[str, str], MaxLen(MAX_NAMES), Accepts("variables", before=checks.check_env, json=_ENV)]
Secrets = Annotated[
    list[str], MaxLen(MAX_NAMES), Accepts("names", before=checks.check_secrets, json={"type": "array", "items": _NAME})
]
Labels = Annotated[dict[str, str], MaxLen(MAX_NAMES), Accepts("labels", before=checks.check_labels, json=_LABELS)]
Pools = Annotated[
    dict[str, int],
    MaxLen(checks.MOST_POOLS),
    Accepts(
        "pools and weights",
        before=checks.check_pools,
        json={
            "type": "object",
            "maxProperties": checks.MOST_POOLS,
            "propertyNames": _ID,
            "additionalProperties": {"type": "integer", "minimum": 1, "maximum": checks.MAX_WEIGHT},
        },
    ),
]
"""Weights by pool."""
Amounts = Annotated[
    dict[str, int | float], MaxLen(MAX_NAMES), Accepts("amounts", before=checks.check_amounts, json=_AMOUNTS)
]
Budget = Annotated[
    dict[str, int | float], MaxLen(MAX_NAMES), Accepts("a budget", before=checks.check_budget, json=_AMOUNTS)
]
OnBudget = Annotated[Literal["pause", "stop"], *one_of("pause", "stop")]
Params = Annotated[
    dict[str, Any],
    MaxLen(1000),
    Accepts("values of parameters", before=checks.check_params, json={"type": "object"}),
]
Image = Annotated[str, MaxLen(4096), Accepts("an image", before=container_checks.check_image, json=_TEXT)]
Workdir = Annotated[str, MaxLen(4096), Accepts("a path", before=checks.check_workdir, json=_TEXT)]
Source = Annotated[str, MaxLen(4096), Accepts("a path", before=checks.check_path, json=_TEXT)]
Target = Annotated[
    str,
    MaxLen(4096),
    Accepts("a path", before=container_checks.check_target, json={"type": "string", "pattern": "^/."}),
]
Network = Annotated[
    str,
    MaxLen(63),
    Accepts(
        "a network",
        before=container_checks.check_network,
        json={"type": "string", "pattern": container_checks.NETWORK_PATTERN},
    ),
]
Duration = Annotated[
    _Seconds, Accepts("a duration", before=checks.check_duration, json=duration_schema({"minimum": 0}))
]
"""Seconds. Takes text like `1h30m` and a `timedelta`, too."""
PositiveDuration = Annotated[
    _Seconds,
    Accepts("a duration", before=checks.check_positive_duration, json=duration_schema({"exclusiveMinimum": 0})),
]
Memory = Annotated[
    int,
    Ge(sizes.MIB),
    Le(sizes.PIB),
    Accepts(
        "memory",
        before=checks.check_memory,
        json={
            "anyOf": [
                {"type": "integer", "minimum": sizes.MIB, "maximum": sizes.PIB},
                {"type": "string", "pattern": sizes.MEMORY_PATTERN},
            ]
        },
    ),
]
"""Bytes. Takes text like `512Mi`, too."""
Cpu = Annotated[
    Annotated[int, Strict(), Ge(0), Le(MAX_CPUS)] | Annotated[float, Strict(), Ge(0), Le(MAX_CPUS)],
    Accepts(
        "CPUs",
        before=checks.check_cpu,
        json={"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": "^[0-9]{1,9}m$"}]},
    ),
]
Flag = Annotated[bool, Strict(), Accepts("true or false")]
Priority = Annotated[int, *whole(-1_000_000, 1_000_000)]
Time = Annotated[
    float,
    Ge(MIN_TIME),
    Le(MAX_TIME),
    Accepts(
        "a time",
        before=checks.check_time,
        load=checks.load_time,
        write=to_text,
        json={"type": "string", "format": "date-time"},
    ),
]
"""Unix seconds in memory, UTC text with milliseconds on the volume. Takes an aware `datetime`, too."""
When = Annotated[Literal["success", "failure", "always"], *one_of("success", "failure", "always")]
Concurrency = Annotated[Literal["allow", "forbid", "queue", "replace"], *one_of("allow", "forbid", "queue", "replace")]
OCCASIONS = ("failure", "late", "recovered", "success", "approval", "budget")
Occasion = Annotated[Literal["failure", "late", "recovered", "success", "approval", "budget"], *one_of(*OCCASIONS)]
_WORDS: Json = {"enum": list(OCCASIONS)}
Occasions = Annotated[
    list[Occasion],
    MinLen(1),
    MaxLen(len(OCCASIONS)),
    Accepts(
        f"one of {', '.join(OCCASIONS)}, or a list of them",
        before=checks.check_listed,
        json={"anyOf": [_WORDS, {"type": "array", "minItems": 1, "items": _WORDS}]},
    ),
]
TargetName = Annotated[str, Strict(checks.TARGET_PATTERN), Accepts(checks.TARGET_RULE)]
"""Whom notifications go to; also part of a variable's name."""
OnFailure = Annotated[Literal["stop", "continue"], *one_of("stop", "continue")]

# What Air-Executor writes

TimeText = Annotated[
    str, Strict(r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z$"), Accepts("a time")
]
"""UTC text in memory, too: for times that every task has and few callers read. Sorts by time."""

Text = Annotated[str, Strict(), MaxLen(MAX_MESSAGE), Accepts("text")]
Word = Annotated[str, Strict(), MaxLen(256), Accepts("a word")]
Uid = Annotated[str, Strict("^[0-9a-f]{8,32}$"), Accepts("8 to 32 hexadecimal digits")]
EarlierRuns = Annotated[dict[Id, Uid], MaxLen(10_000)]
Count = Annotated[int, *whole(0, MAX_COUNT)]
Seq = Annotated[int, *whole(0, MAX_SEQ)]
LastSeq = Annotated[int, *whole(0, MAX_LAST_SEQ)]
"""As the other types of what grows: what is read leaves room, so that what comes of it can be read again."""
Total = Annotated[int, *whole(0, MAX_COUNT // 2)]
SlotNumber = Annotated[int, *whole(0, MAX_SLOTS)]
ExitCode = Annotated[int, *whole(-(2**31), 2**32 - 1)]
Bytes = Annotated[int, *whole(0, 2**63 - 1)]
Amount = Annotated[float, *plain(0, MAX_AMOUNT)]
"""Seconds or CPUs."""
TotalAmount = Annotated[float, *plain(0, MAX_AMOUNT / 2)]
Money = Annotated[float, *plain(0, MAX_MONEY)]
"""Money, or a price per hour, in whatever currency."""
TotalMoney = Annotated[float, *plain(0, MAX_MONEY / 2)]
Moment = Annotated[float, *plain(MIN_TIME, MAX_TIME)]
"""Unix seconds as the journal has them, exact to a microsecond."""
ClockOffset = Annotated[float, *plain(-MAX_TIME, MAX_TIME)]
"""Seconds between two clocks of one host."""
Shift = Annotated[float, *plain(-MAX_DURATION, MAX_DURATION)]
"""Seconds by which a clock was set."""

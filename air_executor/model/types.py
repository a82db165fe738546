"""The kinds of fields that jobs and tasks have: what type checkers see, the check, and what editors see.

`spec.py` builds its models from these. Fields are written in several forms and kept in one, so the values need no
further conversion when a model is dumped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from air_executor.model import checks, sizes
from air_executor.model.names import MAX_ID
from air_executor.model.times import DURATION_PATTERN, MAX_DURATION

Schema = dict[str, Any]
Kind = tuple[PlainValidator, PlainSerializer, WithJsonSchema]


def _kind(check: Callable[[object], Any], schema: Schema) -> Kind:
    return PlainValidator(check), PlainSerializer(lambda value: value), WithJsonSchema(schema)


def _maybe(check: Callable[[object], Any], schema: Schema) -> Kind:
    return _kind(checks.or_nothing(check), {"anyOf": [schema, {"type": "null"}]})


def whole(low: int, high: int) -> Kind:
    """Return what makes a field a whole number within bounds."""
    return _kind(checks.whole(low, high), {"type": "integer", "minimum": low, "maximum": high})


def real(low: float, high: float) -> Kind:
    """Return what makes a field a number within bounds."""
    return _kind(checks.real(low, high), {"type": "number", "minimum": low, "maximum": high})


def one_of(*names: str) -> Kind:
    """Return what makes a field one of some words."""
    return _kind(checks.one_of(*names), {"type": "string", "enum": list(names)})


_TEXT: Schema = {"type": "string", "minLength": 1}
_WORD: Schema = {"type": ["string", "integer"]}
_ID: Schema = {"type": "string", "pattern": checks.ID_PATTERN, "maxLength": MAX_ID}
_COMMAND: Schema = {"anyOf": [{"type": "string", "pattern": r"\S"}, {"type": "array", "minItems": 1, "items": _WORD}]}
_DURATION: Schema = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": MAX_DURATION},
        {"type": "string", "pattern": DURATION_PATTERN},
    ]
}
_LONGER: Schema = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DURATION},
        {"type": "string", "pattern": DURATION_PATTERN},
    ]
}
_MEMORY: Schema = {
    "anyOf": [
        {"type": "integer", "minimum": sizes.MIB, "maximum": sizes.PIB},
        {"type": "string", "pattern": sizes.MEMORY_PATTERN},
    ]
}
_CPU: Schema = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": "^[0-9]{1,9}m$"}]}
_NAME: Schema = {"type": "string", "pattern": checks.NAME_PATTERN}
_OWN_ID: Schema = {**_ID, "not": {"pattern": "^t[0-9]+(-[0-9]+)?$"}}
_ENV: Schema = {
    "type": "object",
    "propertyNames": {"pattern": checks.NAME_PATTERN},
    "additionalProperties": _WORD,
}

Id = Annotated[str, *_kind(checks.check_id, _ID)]
TaskId = Annotated[str | None, *_maybe(checks.check_own_id, _OWN_ID)]
Ids = Annotated[Sequence[str], *_kind(checks.check_ids, {"type": "array", "items": _ID})]
Command = Annotated[str | Sequence[str], *_kind(checks.check_command, _COMMAND)]
MaybeCommand = Annotated[str | Sequence[str] | None, *_maybe(checks.check_command, _COMMAND)]
Env = Annotated[Mapping[str, str], *_kind(checks.check_env, _ENV)]
Secrets = Annotated[Sequence[str], *_kind(checks.check_secrets, {"type": "array", "items": _NAME})]
Labels = Annotated[Mapping[str, str], *_kind(checks.check_labels, {"type": "object", "additionalProperties": _WORD})]
Image = Annotated[str | None, *_maybe(checks.check_image, _TEXT)]
Workdir = Annotated[str | None, *_maybe(checks.check_workdir, _TEXT)]
Source = Annotated[str, *_kind(checks.check_path, _TEXT)]
Target = Annotated[str, *_kind(checks.check_target, {"type": "string", "pattern": "^/."})]
Network = Annotated[str | None, *_maybe(checks.check_network, {"type": "string", "pattern": checks.NETWORK_PATTERN})]
Duration = Annotated[float | str | timedelta, *_kind(checks.check_duration, _DURATION)]
MaybeDuration = Annotated[float | str | timedelta | None, *_maybe(checks.check_duration, _DURATION)]
PositiveDuration = Annotated[float | str | timedelta | None, *_maybe(checks.check_positive_duration, _LONGER)]
Time = Annotated[str | datetime | None, *_maybe(checks.check_time, {"type": "string", "format": "date-time"})]
Memory = Annotated[int | str | None, *_maybe(checks.check_memory, _MEMORY)]
Cpu = Annotated[float | str | None, *_maybe(checks.check_cpu, _CPU)]
Flag = Annotated[bool, *_kind(checks.check_flag, {"type": "boolean"})]
Priority = Annotated[int, *whole(-1_000_000, 1_000_000)]

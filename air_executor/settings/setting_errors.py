"""Error messages for settings: one line per problem, with the flag, the variable, or the file and key.

Turns pydantic's errors into `AIR_MAX_RUNNERS: must be a whole number between 1 and 100000, got "many"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from air_executor.errors import BadInputError
from air_executor.model.quote import quoted
from air_executor.settings.setting_info import group_of, no_setting, settings_of
from air_executor.settings.setting_types import MUST_BE, REFUSED


class ValueOrigin(NamedTuple):
    """Source of a value."""

    source: str
    """For `doctor`: a flag, a variable, or the path of the file."""
    label: str
    """For messages: the same, with the key for a file."""


def bad_settings(error: ValidationError, model: type[BaseModel], origins: Mapping[str, ValueOrigin]) -> BadInputError:
    """Return the error that names all problems; `origins` go by name, unknown names of a file included."""
    items: list[dict[str, Any]] = [dict(item) for item in error.errors(include_url=False)]
    wrong_keys = {item["loc"][:-1] for item in items if item["loc"][-1:] == ("[key]",)}
    lines = [_line(item, model, origins) for item in items if item["loc"] not in wrong_keys]
    return BadInputError("\n  ".join(["settings:", *lines]) if len(lines) > 1 else lines[0])


def _line(item: dict[str, Any], model: type[BaseModel], origins: Mapping[str, ValueOrigin]) -> str:
    known = {info.name: info for info in settings_of(model)}
    former = {old: info.name for info in known.values() for old in info.deprecated_names}
    first, *rest = item["loc"]
    name = former.get(first, str(first))
    field = model.model_fields.get(name)
    if field is not None and group_of(field) is not None and rest:
        name = f"{name}.{rest.pop(0)}"
        name = former.get(name, name)
    origin = origins.get(name)
    if name not in known:
        unknown = no_setting(name, known)
        if field is not None and "." not in name:
            unknown = f"{name} is not a setting but a table of settings, got {quoted(item['input'])}"
        return unknown if origin is None else f"{origin.source}: {unknown}"
    text = _message(item, rest)
    return f"{name if origin is None else origin.label}: {text}"


def _message(item: dict[str, Any], inside: Sequence[str | int]) -> str:
    """Return the message without its source; `inside` is the path of the wrong part within the value."""
    context = item.get("ctx", {})
    if item["type"] == REFUSED:
        text = str(item["msg"])
    elif item["type"] == MUST_BE:
        text = f"{item['msg']}, got {quoted(item['input'])}"
    elif item["type"] == "too_long":
        text = f"must have at most {context['max_length']} parts"
    else:
        text = f"cannot be {quoted(item['input'])}: {item['msg']}"
    if inside and isinstance(inside[0], str) and inside[-1] != "[key]":
        text = f"{context.get('item', '')}{quoted(inside[0])[1:-1]} {text}"
    return text

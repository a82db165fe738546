"""What is wrong with an input, in the words of the person who wrote it: one line per problem, starting with the field.

Turns pydantic's errors into `tasks[2].retries: must be a whole number between 0 and 1000, got "three"`. Knows models
only by their fields.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from air_executor.errors import BadInputError
from air_executor.model.quote import quoted

MOST_SHOWN = 20

Problem = tuple[Sequence[str | int], str]
"""Where (the parts of a path) and what."""


def path_text(parts: Iterable[str | int]) -> str:
    """Return a path as people write it: `tasks[2].env.PORT`."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return one line per problem that validation of `model` found, at most `MOST_SHOWN` of them and a count."""
    lines: list[str] = []
    for item in error.errors(include_url=False):
        for parts, what in _problems(dict(item), model):
            where = path_text(_printable(parts))
            lines.append(f"{where}: {what}" if where else what)
    more = len(lines) - MOST_SHOWN
    return [*lines[:MOST_SHOWN], f"and {more} more"] if more > 0 else lines


def bad_input(lines: Sequence[str], name: str | None = None) -> BadInputError:
    """Return the error that says all of it, after the name of the file if that is known."""
    if len(lines) == 1:
        return BadInputError(f"{name}: {lines[0]}" if name else lines[0])
    return BadInputError("\n  ".join([f"{name}: {len(lines)} problems" if name else f"{len(lines)} problems", *lines]))


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return which of `names` someone probably meant, if any."""
    found = difflib.get_close_matches(name[:100], list(names), n=1)
    return found[0] if found else None


def _printable(parts: Iterable[str | int]) -> list[str | int]:
    return [p if isinstance(p, int) or (p.isprintable() and len(p) <= 60) else quoted(p)[1:-1] for p in parts]  # noqa: PLR2004


def _problems(item: dict[str, Any], model: type[BaseModel]) -> list[Problem]:
    loc, kind, ctx = list(item["loc"]), item["type"], item.get("ctx", {})
    if kind == "refused":
        return [([*loc, *ctx["at"]], ctx["message"])]
    if kind == "refused_together":
        return [([*loc, *parts], what) for parts, what in ctx["problems"]]
    if kind == "invalid_key":
        return [(loc[:-1], f"has the key {quoted(item['input'])}, which is not text")]
    if kind == "extra_forbidden":
        return [(loc, _unknown(str(loc[-1]), _model_at(model, loc[:-1])))]
    got = quoted(item["input"])
    known = {
        "missing": "is missing",
        "list_type": f"must be a list, got {got}",
        "model_type": f"must be a mapping of fields, got {got}",
    }
    return [(loc, known.get(kind, item["msg"]))]


def _unknown(name: str, model: type[BaseModel]) -> str:
    names = list(model.model_fields)
    guess = nearest(name, names)
    return f"is not a field{f'; did you mean {guess}?' if guess else ''} (fields: {', '.join(names)})"


def _model_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel]:
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - an annotation can be anything
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)

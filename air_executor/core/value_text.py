"""The values of parameters and items as text. Imports little: the lists of jobs show them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from air_executor.model.written import text_of


def value_text(value: object) -> str:
    """Return a value as a variable, or a text around it, holds it: lists and mappings as JSON."""
    written = text_of(value)
    return written if written is not None else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def environment(values: Mapping[str, object]) -> dict[str, str]:
    """Return the variables that every task has of its job's parameters."""
    return {name: value_text(value) for name, value in values.items()}


def params_text(values: Mapping[str, object]) -> str:
    """Return values as people read them: `DATE=2026-01-31 REGION=eu`."""
    return " ".join(f"{name}={value_text(value)}" for name, value in values.items())

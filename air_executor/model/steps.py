"""Long work in steps: a generator that yields where somebody else may go first, and returns what was asked for."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

R = TypeVar("R")

Steps = Generator[None, None, R]
STEP = 100
"""Tasks that are looked at in one step."""


def at_once(work: Steps[R]) -> R:
    """Do all of it now."""
    try:
        while True:
            next(work)
    except StopIteration as done:
        result: R = done.value
        return result

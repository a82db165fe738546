"""The mark of an effect: a function that changes the volume or a platform.

A manager may die between any two effects, and the next manager must carry on from there. So a function is marked where
it is defined, in `store/`, `manager/` and the backends' protocol; tests find the marks and kill a manager before and
after each effect. A marked function stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def effect(function: F) -> F:
    """Mark a function that changes the volume or a platform."""
    function.is_effect = True  # type: ignore[attr-defined]
    return function

"""Deaths of a manager at the effects that the code declares (`EFFECTS`): before or after one, and at no other.

From its death on a manager has no effect: what its `finally` clauses try is refused, as it is for a killed process.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

import air_executor.manager
import air_executor.store
from air_executor.backends import base
from tests.fake_backend import FakeBackend


class Killed(BaseException):
    """The process is gone."""


def modules() -> Iterator[ModuleType]:
    """Return the modules that change the volume, and the one that says how platforms are changed."""
    for package in (air_executor.store, air_executor.manager):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(found.name)
    yield base


@functools.cache
def effects() -> dict[str, tuple[Any, str]]:
    """Return where each effect is found, owner and name, by `module.function` or `module.Class.method`."""
    found: dict[str, tuple[Any, str]] = {}
    for module in modules():
        classes = [value for value in vars(module).values() if inspect.isclass(value)]
        for owner in (module, *(one for one in classes if one.__module__ == module.__name__)):
            for value in vars(owner).get("EFFECTS", ()):
                place = FakeBackend if module is base else owner
                found[f"{module.__name__.rpartition('.')[2]}.{value.__qualname__}"] = place, value.__name__
    return found


class Death:
    """One death to come, at a call of an effect; without one it only counts."""

    def __init__(self, point: str = "", call: int = 1, *, after: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        """Calls so far, of each effect."""
        self.happened = False
        self._point = point
        self._call = call
        self._after = after

    @contextmanager
    def threatens(self) -> Iterator[None]:
        """Let `Killed` cut short what is done in this block; after the death another process does it."""
        with pytest.MonkeyPatch.context() as patch:
            for point, (owner, name) in () if self.happened else effects().items():
                patch.setattr(owner, name, self._deadly(point, getattr(owner, name)))
            yield

    def _deadly(self, point: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(whole)
        def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - stands in for any function
            if self.happened:
                raise Killed
            self.counts[point] += 1
            if point != self._point or self.counts[point] != self._call:
                return whole(*args, **kwargs)
            try:
                if self._after:
                    whole(*args, **kwargs)
            finally:
                self.happened = True
            raise Killed

        return called

"""Loaded by `make mutants` alone: a changed function is tested by the quickest of its tests first, for some seconds.

By itself mutmut collects and runs all tests of a function in any order, though most changes are noticed within
milliseconds.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
from pathlib import Path

import pytest

AT_MOST = 10.0
"""Seconds that the tests of one change may take together, as measured without it; slower ones are left out."""


def pytest_configure(config: pytest.Config) -> None:
    """Collect the quickest tests alone, where one change is tested: not where mutmut lists or measures tests."""
    seconds = _seconds()  # also in the process from which those of all changes are forked: the file is large
    if "__mutmut_" not in os.environ.get("MUTANT_UNDER_TEST", ""):
        return
    names = sorted(config.args, key=lambda name: seconds.get(name, 0.0))
    sums = itertools.accumulate(seconds.get(name, 0.0) for name in names)
    config.args[:] = names[: max(1, sum(so_far <= AT_MOST for so_far in sums))]
    config.pluginmanager.register(_Order({name: number for number, name in enumerate(config.args)}))


@functools.cache
def _seconds() -> dict[str, float]:
    """Return how long each test takes; empty where that is being measured."""
    try:
        text = Path("mutmut-stats.json").read_text("utf-8")
    except FileNotFoundError:
        return {}
    return dict(json.loads(text)["duration_by_test"])


class _Order:
    def __init__(self, order: dict[str, int]) -> None:
        self._order = order

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self._order.get(item.nodeid, 0))

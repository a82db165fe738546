"""Loaded by `make mutants` alone: a changed function is tested by the quickest of its tests first, for some seconds.

By itself mutmut runs all tests of a function in any order, though most changes are noticed within milliseconds.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest

AT_MOST = 10.0
"""Seconds that the tests of one change may take together, as measured without it; slower ones are left out."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests in order if one change is tested; not where mutmut lists them, or measures what they call."""
    if "__mutmut_" not in os.environ.get("MUTANT_UNDER_TEST", ""):
        return
    seconds = json.loads(Path("mutmut-stats.json").read_text("utf-8"))["duration_by_test"]
    items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
    sums = itertools.accumulate(seconds.get(item.nodeid, 0.0) for item in items)
    many = max(1, sum(so_far <= AT_MOST for so_far in sums))
    config.hook.pytest_deselected(items=items[many:])
    del items[many:]

"""What tests of every topic share: waiting without sleeping blindly, and tools that may be missing.

Helpers are imported (`from tests.conftest import wait_for`), fixtures are asked for.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

T = TypeVar("T")


def wait_for(predicate: Callable[[], T], timeout: float = 120.0, what: str = "") -> T:
    """Call `predicate` until what it returns is true, and return that.

    The first calls follow each other within a millisecond, so that a test is as fast as what it waits for.

    Args:
        predicate: must be cheap and without side effects; what it raises ends the wait.
        timeout: seconds; generous, for it costs time only where the test fails.
        what: names what did not happen, in the failure.
    """
    deadline = time.monotonic() + timeout
    pause = 0.0005
    while True:
        late = time.monotonic() >= deadline  # looked up before the last call: a paused test still gets one
        value = predicate()
        if value:
            return value
        if late:
            pytest.fail(f"waited {timeout:g} s for {what or predicate}, last seen: {value!r}")
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


@pytest.fixture(scope="session")
def requires_tool() -> Callable[[str], str]:
    """Return a function that gives a program's path; without it a test is skipped, and in CI fails.

    A laptop need not have every shell; CI that silently skips what it is there for is worse than none.
    """

    def require(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            stop = pytest.fail if os.environ.get("CI") else pytest.skip
            stop(f"{name} is not installed")
        return path

    return require


_SHARE = "tests/airflow/"
"""Where all tests share an Airflow, which costs ten seconds to start, a gigabyte, and much of a processor."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tests that share an Airflow come last: while others keep the machine busy its patience ends."""
    items.sort(key=lambda item: item.nodeid.startswith(_SHARE))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Give the workers of pytest-xdist single tests, in order, and those that share an Airflow to one of them."""
    config.option.loadscopereorder = False
    return _Schedule(config, log)


class _Schedule(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return _SHARE if nodeid.startswith(_SHARE) else nodeid

"""What tests of every topic share: waiting without sleeping blindly, and tools that may be missing.

Helpers are imported (`from tests.conftest import wait_for`), fixtures are asked for.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests import lanes

T = TypeVar("T")

ROOM = 1 << 30
"""Bytes that must be free in memory for state directories of tests."""
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > ROOM else None  # noqa: S108
"""A folder where fsync costs nothing; None if there is none, for `tempfile`."""

EXAMPLES = 400 if lanes.NIGHTLY else 50
"""Examples of a random test; a test may have a multiple of it."""

SEARCH = (Phase.explicit, Phase.reuse, Phase.generate)
"""What a random test does for `make mutants`, to which the smallest example that fails is worth nothing."""

# A busy machine is no reason to fail, so random tests have no deadline.
settings.register_profile(
    "air-executor",
    max_examples=EXAMPLES,
    stateful_step_count=50 if lanes.NIGHTLY else 40,
    deadline=None,
    phases=SEARCH if "MUTANT_UNDER_TEST" in os.environ else tuple(Phase),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("air-executor")


_REST = 3
"""Times as long as a predicate took, a wait rests before it calls it again, up to a second."""


def wait_for(predicate: Callable[[], T], timeout: float = 120.0, what: str = "", pause: float = 0.0005) -> T:
    """Call `predicate` until what it returns is true, and return that.

    The first calls follow each other within a millisecond, so that a test is as fast as what it waits for. An
    expensive predicate (an HTTP request, a platform's API) is called less often: what serves it shares the processors.

    Args:
        predicate: without side effects; what it raises ends the wait.
        timeout: seconds; generous, for it costs time only where the test fails.
        what: names what did not happen, in the failure.
        pause: seconds between the first calls.
    """
    deadline = time.monotonic() + timeout
    longest = max(pause, 0.05)
    while True:
        called = time.monotonic()
        late = called >= deadline  # looked up before the last call: a paused test still gets one
        value = predicate()
        if value:
            return value
        if late:
            pytest.fail(f"waited {timeout:g} s for {what or predicate}, last seen: {value!r}")
        time.sleep(max(pause, min(_REST * (time.monotonic() - called), 1.0)))
        pause = min(2 * pause, longest)


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """An empty folder where fsync costs nothing, for tests that write much and need no disk."""
    with tempfile.TemporaryDirectory(prefix="air-test-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def requires_tool() -> Callable[[str], str]:
    """Return a function that gives a program's path; without it a test is skipped, and in CI fails.

    A laptop need not have every shell; CI that silently skips what it is there for is worse than none.
    """

    def require(name: str) -> str:
        return shutil.which(name) or lanes.missing(f"{name} is not installed")

    return require


_SHARE = "tests/airflow/"
"""Where all tests share an Airflow, which costs ten seconds to start, a gigabyte, and much of a processor."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--lanes`."""
    parser.addoption("--lanes", default="all", help=f"lanes to run, with commas: all, {', '.join(lanes.LANES)}")


def pytest_configure(config: pytest.Config) -> None:
    """Make a marker of each lane; start a cluster, for all workers, if the lane that needs one is named."""
    for name, needs in lanes.LANES.items():
        config.addinivalue_line("markers", f"{name}: needs {needs}")
    named = any(str(word).startswith("--lanes") for word in config.invocation_params.args)
    if named and "kubernetes" in lanes.parse(config.getoption("--lanes")) and not hasattr(config, "workerinput"):
        from tests import k3s  # noqa: PLC0415 - with SDKs that most lanes can do without

        k3s.provide(config.add_cleanup)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out other lanes; begin with the tests that share an Airflow: they take longest, one after the other.

    Then those of the page, some of which take a minute: at the end they would leave other workers without work.
    """
    items[:], others = lanes.select(items, lanes.parse(config.getoption("--lanes")))
    config.hook.pytest_deselected(items=others)
    items.sort(key=lambda item: (not item.nodeid.startswith(_SHARE), not item.nodeid.startswith("tests/web/")))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let services know which lane asks for them."""
    lanes.enter(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which lanes were left out, and how to run them, and what passed only when it was run again."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"failed at first: {report.nodeid}", sep="-")
        terminalreporter.write_line(report.longreprtext)
    for line in lanes.summary(lanes.parse(config.getoption("--lanes"))):
        terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Give the workers of pytest-xdist single tests, in order, and those that share an Airflow to one of them."""
    config.option.loadscopereorder = False
    return _Schedule(config, log)


class _Schedule(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return _SHARE if nodeid.startswith(_SHARE) else nodeid

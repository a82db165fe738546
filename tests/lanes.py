"""Lanes: what tests need beyond Python, which of them run, and what happens where something is missing.

A test is in the lane of its marker, or of the service whose fixture it uses; without either it is in `core`. The
option `--lanes` selects lanes. A service that is missing skips the test with a reason, and fails it in CI.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

CORE = "core"
LANES = {
    CORE: "Python alone",
    "transport": "Linux, and nginx; it starts all else",
    "docker": "a Docker Engine",
    "kubernetes": "a Kubernetes cluster, or a Docker Engine that can pull k3s, and helm",
    "monitoring": "Prometheus, and npm for Grafana's types",
    "browser": "Chromium, and npm for axe-core",
    "airflow": "an Airflow, which `make airflow` installs",
    "nightly": "much time",
}
"""What each lane needs."""

NIGHTLY = bool(os.environ.get("AIR_TEST_NIGHTLY"))
"""Whether campaigns and random tests have their full size, as in `make nightly`; they take an hour then."""

_current = ""


def lane_of(item: pytest.Item) -> str:
    """Return the lane of a test; `nightly` overrides another. Raises UsageError if it has the markers of two others."""
    marked = {mark.name for mark in item.iter_markers() if mark.name in LANES}
    if "nightly" in marked:
        return "nightly"
    if len(marked) > 1:
        msg = f"{item.nodeid} has the markers of several lanes: {', '.join(sorted(marked))}"
        raise pytest.UsageError(msg)
    fixtures: list[str] = getattr(item, "fixturenames", [])
    services = LANES.keys() - {CORE, "nightly"}
    return next(iter(marked), None) or next((name for name in fixtures if name in services), CORE)


def enter(item: pytest.Item) -> None:
    """Note that a test begins."""
    global _current  # noqa: PLW0603 - pytest runs one test at a time
    _current = lane_of(item)


def require_service(name: str) -> None:
    """Fail a test in lane `core` that asks for a service: where there is none it would be skipped, unnoticed."""
    if _current == CORE:
        pytest.fail(f"a test that needs {name} must have the marker of a lane")


def missing(why: str) -> NoReturn:
    """Skip the test, since something that it needs is missing; in CI, fail it."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def select(items: list[pytest.Item], lanes: set[str]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the tests that are in one of the lanes, and the others."""
    chosen = [item for item in items if lane_of(item) in lanes]
    kept = set(chosen)
    return chosen, [item for item in items if item not in kept]


def parse(text: str) -> set[str]:
    """Return the lanes that `--lanes` names: words with commas; `all` is all but `nightly`.

    Raises:
        UsageError: there is no such lane.
    """
    words = {word for word in text.split(",") if word}
    unknown = sorted(words - set(LANES) - {"all"})
    if unknown:
        msg = f"--lanes: there is no lane {', '.join(unknown)}; there are all, {', '.join(LANES)}"
        raise pytest.UsageError(msg)
    return words - {"all"} | (set(LANES) - {"nightly"} if "all" in words else set())


def summary(lanes: set[str]) -> list[str]:
    """Return a line for each lane that does not run, with the command that runs it."""
    return [
        f"lane {name} was not run (it needs {needs}): make {'nightly' if name == 'nightly' else f'test-{name}'}"
        for name, needs in LANES.items()
        if name not in lanes
    ]

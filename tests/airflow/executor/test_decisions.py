"""The events of `AirExecutor`, the slots that it counts, and the task instances that it adopts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.conftest import programs

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the results of `decisions`."""
    python = programs("AIR_TEST_AIRFLOW") / "python"
    home = tmp_path_factory.mktemp("decisions")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AIR", "PYTHON", "VIRTUAL_ENV"))}
    config = {"AIRFLOW_HOME": str(home), "AIRFLOW__API_AUTH__JWT_SECRET": "0123456789" * 4}
    made = subprocess.run(
        [python, Path(__file__).with_name("decisions.py"), home],
        env={**clean, **config, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    found: dict[str, Any] = json.loads((home / "results.json").read_text())
    return found


def test_slots(results: dict[str, Any]) -> None:
    """At most as many jobs as slots are submitted; a slot is free once its job has ended."""
    assert results["slots"] == [-1, 1, 0, "queued", 2, 0]


def test_reports(results: dict[str, Any]) -> None:
    """A running job causes no event, each end causes one; the reason of a bad end is also in the task's log.

    A workload that no runner has taken is removed with its job.
    """
    before, told, again, log, good_has_log, only_of_working = results["reports"]
    assert only_of_working
    assert (before, again, good_has_log) == ({}, {}, False)
    assert told["good"] == ["success", None]
    assert told["bad"][0] == "failed"
    assert "failed (start-failed)" in told["bad"][1]
    assert [(line["level"], line["event"]) for line in log] == [("error", told["bad"][1])]
    assert sorted(told) == ["bad", "good"]


def test_adopts(results: dict[str, Any]) -> None:
    """A task instance whose job exists is adopted, and its end reported; any other is returned."""
    refused, occupied, told, left = results["adopts"]
    assert refused == ["never", "nameless"]
    assert (occupied, left) == (2, 1)
    assert told == {"ended": ["success", None]}


def test_unreadable(results: dict[str, Any]) -> None:
    """A job that cannot be read may be running, so nothing is concluded from that."""
    assert results["unreadable"] == [0, 1, {}]


def test_removed(results: dict[str, Any]) -> None:
    """A job that was removed fails its task with that reason, and frees its slot."""
    told, occupied = results["removed"]
    assert told["t"][0] == "failed"
    assert "was removed" in told["t"][1]
    assert occupied == 0


def test_deferred(results: dict[str, Any]) -> None:
    """The end of a first runner causes no event for a task instance that was resumed meanwhile."""
    assert results["deferred"] == [{}, 1, {"t": ["success", None]}, 0]


def test_revoked(results: dict[str, Any]) -> None:
    """A revoked task instance is cancelled, its workload removed before a runner can take it, without an event."""
    asked, left, occupied, told = results["revoked"]
    assert sorted(asked) == ["cancel", "wake"]
    assert (left, occupied, told) == ([], 0, {})


def test_refused(results: dict[str, Any]) -> None:
    """While the volume refuses, a task waits in the queue, and is submitted once it can be."""
    assert results["refused"] == [[], 1, 0, "queued"]


def test_unstarted(results: dict[str, Any]) -> None:
    """Airflow's API server asks an executor for logs without starting it: that creates nothing."""
    assert results["unstarted"] == [True, [], [[], []], False]

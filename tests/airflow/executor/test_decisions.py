"""What `AirExecutor` tells the scheduler, which slots it counts, and which task instances it takes over."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.conftest import programs


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what `decisions` has seen."""
    python = programs("AIR_TEST_AIRFLOW") / "python"
    home = tmp_path_factory.mktemp("decisions")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AIR", "PYTHON", "VIRTUAL_ENV"))}
    made = subprocess.run(
        [python, Path(__file__).with_name("decisions.py"), home],
        env={**clean, "AIRFLOW_HOME": str(home), "AIRFLOW__API_AUTH__JWT_SECRET": "0123456789" * 4},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    found: dict[str, Any] = json.loads((home / "seen.json").read_text())
    return found


def test_slots(seen: dict[str, Any]) -> None:
    """At most as many jobs as slots are submitted; a slot is free once its job has ended."""
    assert seen["slots"] == [-1, 1, 0, "queued", 2, 0]


def test_reports(seen: dict[str, Any]) -> None:
    """Nothing is said of a job at work; each end is said once, a bad one with its reason, in the task's log, too.

    A workload that nobody has taken does not outlive its job.
    """
    before, told, again, log, good_has_log, only_of_working = seen["reports"]
    assert only_of_working
    assert (before, again, good_has_log) == ({}, {}, False)
    assert told["good"] == ["success", None]
    assert told["bad"][0] == "failed"
    assert "failed (start-failed)" in told["bad"][1]
    assert [(line["level"], line["event"]) for line in log] == [("error", told["bad"][1])]
    assert sorted(told) == ["bad", "good"]


def test_adopts(seen: dict[str, Any]) -> None:
    """Whose job exists is taken over, and its end reported even if nobody saw it; whose does not is given back."""
    refused, occupied, told, left = seen["adopts"]
    assert refused == ["never", "nameless"]
    assert (occupied, left) == (2, 1)
    assert told == {"ended": ["success", None]}


def test_unreadable(seen: dict[str, Any]) -> None:
    """A job that cannot be read may be at work, so nothing is concluded from that."""
    assert seen["unreadable"] == [0, 1, {}]


def test_removed(seen: dict[str, Any]) -> None:
    """A job that somebody removed fails its task with that reason, and frees its slot."""
    told, occupied = seen["removed"]
    assert told["t"][0] == "failed"
    assert "was removed" in told["t"][1]
    assert occupied == 0


def test_deferred(seen: dict[str, Any]) -> None:
    """The end of a first runner says nothing of a task instance that has come back meanwhile."""
    assert seen["deferred"] == [{}, 1, {"t": ["success", None]}, 0]


def test_revoked(seen: dict[str, Any]) -> None:
    """What is taken back is cancelled, its workload gone before anybody can take it, and no event says anything."""
    asked, left, occupied, told = seen["revoked"]
    assert sorted(asked) == ["cancel", "wake"]
    assert (left, occupied, told) == ([], 0, {})


def test_refused(seen: dict[str, Any]) -> None:
    """While the volume refuses, a task waits in the queue, and is submitted once it can be."""
    assert seen["refused"] == [[], 1, 0, "queued"]


def test_unstarted(seen: dict[str, Any]) -> None:
    """Airflow's API server asks an executor for logs that it never starts: that creates nothing."""
    assert seen["unstarted"] == [True, [], [[], []], False]

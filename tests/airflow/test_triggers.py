"""Decisions of operators and triggers that need no component of Airflow: kills, templates, workerless tasks."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.conftest import programs

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the results of `trigger_cases`."""
    python = programs("AIR_TEST_AIRFLOW") / "python"
    home = tmp_path_factory.mktemp("triggers")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AIR", "PYTHON", "VIRTUAL_ENV"))}
    made = subprocess.run(
        [python, Path(__file__).with_name("trigger_cases.py"), home],
        env={**clean, "AIRFLOW_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    found: dict[str, Any] = json.loads((home / "results.json").read_text())
    return found


def test_kills(results: dict[str, Any]) -> None:
    """A job is cancelled if its task was marked, cleared or deleted; not if it is still needed or nobody knows."""
    assert results["kills"] == {
        "deferred": False,
        "running": False,
        "up_for_retry": False,
        "failed": True,
        "success": True,
        "skipped": True,
        "scheduled": True,
        "unknown": False,
        "None": True,
        "failed, off": False,
    }


def test_deferrals(results: dict[str, Any]) -> None:
    """A task that was marked just before its deferral fails and cancels its job: its trigger would not be told."""
    found = results["deferrals"]
    assert found["running"] == found["unknown"] == ["deferred", False]
    marked = "the task was marked or cleared before it was deferred, its state is {}"
    assert found["failed"] == [marked.format("failed"), True]
    assert found["restarting"] == [marked.format("restarting"), True]
    assert found["failed, off"] == [marked.format("failed"), False]


def test_templates(results: dict[str, Any]) -> None:
    """Without a worker templates are rendered as on one: an undefined name is an error, native objects are native."""
    found = results["templates"]
    assert found["plain"] == [None, "echo 2026-01-31"]
    assert found["undefined"] == ["'nosuch' is undefined", "rm -rf /data/{{ nosuch }}/"]
    assert found["native"] == [None, {"max_runners": 2}]
    assert found["text"] == [None, {"max_runners": "2"}]
    assert found["do"] == [None, "[1]"]
    assert "nosuch" in found["filter"][0]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("macro", "only workers know the DAG's user_defined_macros (shout)"),
        ("filter", "only workers know the DAG's user_defined_filters (shout)"),
        ("undefined", "only workers know the DAG's template_undefined (Undefined)"),
        ("kwargs", "jinja_environment_kwargs"),
        ("include", "other template files"),
        ("pull", "map_indexes"),
        ("pull in a list", "map_indexes"),
        ("output", "map_indexes"),
        ("outlets", "outlets"),
        ("later outlets", "outlets"),
    ],
)
def test_refused_without_worker(results: dict[str, Any], case: str, words: str) -> None:
    """What a workerless task cannot do is refused when the DAG is parsed, in a message that names the task."""
    (verdict,) = results["parsed"][case]
    assert verdict.startswith("t: start_from_trigger: ")
    assert words in verdict


@pytest.mark.parametrize(
    "case", ["plain", "macro on a worker", "undefined, no template", "syntax", "pull with indexes"]
)
def test_made_without_worker(results: dict[str, Any], case: str) -> None:
    """Everything else is accepted, without a warning."""
    assert results["parsed"][case] == ["made"]


def test_warned_without_worker(results: dict[str, Any]) -> None:
    """Callbacks and limits that have no effect are warned about; the callback after a failure has one."""
    verdict, warning = results["parsed"]["callbacks"]
    assert verdict == "made"
    assert warning == "t: start_from_trigger: no effect without a worker: on_success_callback, pool"


def test_old_name_of_pool(results: dict[str, Any]) -> None:
    """`job_queue` still works, with a warning where a DAG has it, and without one in triggers that Airflow stored."""
    assert results["aliases"] == ["a", [], "b", ["AirflowProviderDeprecationWarning"], "c"]

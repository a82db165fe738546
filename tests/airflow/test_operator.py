"""`AirExecutorOperator` in a real Airflow, its tasks run by a real manager with local runners."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from air_executor.airflow.attach import is_closed
from air_executor.client import Client
from air_executor.core.state import JobState
from tests.airflow.conftest import Airflow

pytestmark = [pytest.mark.xdist_group("airflow"), pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[2] / "examples" / "airflow"


def jobs(airflow: Airflow, before: set[str]) -> list[JobState]:
    """Return the jobs that came since."""
    return [job for job in Client(airflow.state_dir).all() if isinstance(job, JobState) and job.id not in before]


def known(airflow: Airflow) -> set[str]:
    """Return the ids of all jobs."""
    return {job.id for job in jobs(airflow, set())}


def test_airflow_finds_the_provider(airflow: Airflow) -> None:
    """`airflow providers list` names it, and nothing is wrong with what it says of itself."""
    code, printed = airflow.run("providers", "list", "--output", "json")
    assert code == 0, printed
    assert '"package_name": "air-executor"' in printed
    assert "WARNING" not in printed.upper()


def test_a_job_file_runs_under_airflow(airflow: Airflow) -> None:
    """The example's job succeeds, queued tasks and all, with each line of its output once."""
    before = known(airflow)
    shutil.copytree(EXAMPLES, airflow.home / "dags", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    code, printed = airflow.run("dags", "test", "same_job")
    assert code == 0, printed
    (job,) = jobs(airflow, before)
    assert job.phase == "succeeded"
    assert is_closed(Client(airflow.state_dir), job)
    assert job.results()["discover"] == {"cities": 3}
    for line in ("greeted Paris", "greeted Lagos", "greeted Quito", "farewell | everybody was greeted"):
        assert printed.count(line) == 1, printed


def test_a_failed_job_fails_the_task(airflow: Airflow) -> None:
    """The task fails with the job's reason, and with the task that caused it."""
    before = known(airflow)
    airflow.write_dag("fails", 'AirExecutorOperator(task_id="t", command="echo so far; exit 3")')
    code, printed = airflow.run("dags", "test", "fails")
    (job,) = jobs(airflow, before)
    assert job.phase == "failed"
    assert f"job {job.id} failed (error)" in printed
    assert printed.count("t1 | so far") == 1
    assert code != 0

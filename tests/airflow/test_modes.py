"""`AirExecutorOperator` in a real Airflow: on a worker, deferred, and without any worker."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import requests

from air_executor.client import Client
from air_executor.model.state import JobState
from air_executor.store.layout import Layout
from air_executor.store.presence import read_presence
from tests.airflow.rig import Airflow, Run
from tests.conftest import wait_for

pytestmark = pytest.mark.timeout(900)

MODES = {
    "worker": "deferrable=False, poll_interval=0.2",
    "deferred": "defer_after=0, poll_interval=0.2",
    "workerless": "start_from_trigger=True, poll_interval=0.2",
}


def jobs_of(run: Run, task: str | None = None) -> list[JobState]:
    """Return the jobs of a task instance, oldest first."""
    jobs = [job for job in Client(run.airflow.state_dir).all() if isinstance(job, JobState)]
    wanted = {"airflow-dag": run.dag, "airflow-run": run.id, "airflow-task": task or run.task}
    return sorted((job for job in jobs if wanted.items() <= job.spec.labels.items()), key=lambda job: job.id)


def start(airflow: Airflow, name: str, operator: str, schedule: str = "schedule=None") -> dict[str, Run]:
    """Run one task in each mode, which is its id, all at once; return the run by mode, with that task."""
    tasks = [f"AirExecutorOperator(task_id={mode!r}, {operator}, {words})" for mode, words in MODES.items()]
    airflow.write_dag(name, "\n".join(tasks), schedule=schedule)
    run = airflow.trigger(name)
    return {mode: replace(run, task=mode) for mode in MODES}


def running_job(run: Run) -> JobState:
    """Wait until a job of the run is running, and return it."""

    def there() -> JobState | None:
        found = [job for job in jobs_of(run) if job.phase == "running"]
        return found[-1] if found else None

    found = wait_for(there, 240, f"a job of {run.dag}.{run.task}")
    assert found is not None
    return found


def in_triggerer(run: Run) -> None:
    """Wait until the triggerer has started the trigger: before that, Airflow tells no one about a mark."""
    run.wait("deferred")
    wait_for(lambda: any(line.startswith("trigger ") for line in run.log()), 60, f"the trigger of {run.dag}.{run.task}")


def has_ended(airflow: Airflow, job: JobState) -> bool:
    """Tell whether a job has ended by now."""
    return Client(airflow.state_dir).status(job.id).ended


def has_two(run: Run) -> bool:
    """Tell whether a task instance has two jobs by now."""
    return len(jobs_of(run)) == 2


SPLIT = """
for city in Paris Lagos Quito; do
  printf '{"command": "echo greeted %s"}\\n' "$city" >> "$AIR_QUEUE"
done
i=0; while [ $i -lt 300 ]; do echo "line $i"; i=$((i+1)); done
echo '{"cities": 3}' > "$AIR_RESULT"
"""


def test_success(airflow: Airflow) -> None:
    """A job that splits its work succeeds in every mode: results, each line once, the outcome of each task, a link."""
    job = {"tasks": [{"id": "discover", "command": SPLIT}, {"id": "bye", "after": ["discover"], "command": "echo bye"}]}
    for mode, run in start(airflow, "success", f"job={job!r}").items():
        assert run.done() == "success", run.log()
        (found,) = jobs_of(run)
        assert found.phase == "succeeded"
        wait_for(lambda: any(f"job {found.id} succeeded" in line for line in run.log()), 60, "the last line")  # noqa: B023
        log = run.log()
        printed = [line for line in log if " | " in line]
        assert [line for line in printed if "line " in line] == [f"discover | line {n}" for n in range(300)], mode
        assert sorted(line.split(" | ")[1] for line in printed if "line" not in line) == [
            "bye",
            "greeted Lagos",
            "greeted Paris",
            "greeted Quito",
        ]
        assert any(line.startswith(f"Submitted job {found.id} in ") for line in log)
        assert any(line.startswith(f"job {found.id} succeeded: 5 runs, ") for line in log)
        assert run.xcom()["discover"] == {"cities": 3}
        outcome = run.xcom("outcome")
        assert (outcome["job"], outcome["phase"], outcome["runs"]) == (found.id, "succeeded", 5)
        assert len([task for task in outcome["tasks"] if task.get("queued_by") == "discover"]) == 3
        assert all(task["attempts"][0]["reason"] == "ok" for task in outcome["tasks"])
        links = airflow.ask("GET", f"{run.path}/taskInstances/{mode}/links")["extra_links"]
        page = read_presence(Layout(airflow.state_dir)).page
        assert links == {"Air-Executor job": f"{page}jobs/{found.id}"}
        assert requests.get(links["Air-Executor job"], timeout=60).ok
        if mode != "workerless":
            assert run.ti()["rendered_fields"]["outcome"]["runs"] == 5


def test_parameters_of_a_job_file(airflow: Airflow, tmp_path: Path) -> None:
    """Rendered in every mode, and checked as on the command line."""
    file = tmp_path / "job.yaml"
    file.write_text(
        "name: nightly\nparams: {DATE: {type: date}, N: {type: integer, default: 1}}\n"
        'tasks: [{id: t, command: [sh, -c, \'printf %s "[\\"$0\\",$1]" > $AIR_RESULT\', '
        "'{{ params.DATE }}', '{{ params.N }}']}]\n"
    )
    params = "job_params={'DATE': '{{ (dag_run.logical_date or dag_run.run_after) | ds }}', 'N': '{{ 1 + 1 }}'}"
    for run in start(airflow, "parameters", f"job_file={str(file)!r}, {params}").values():
        assert run.done() == "success", run.log()
        date, number = run.xcom()["t"]
        assert (len(date), number) == (len("2026-01-31"), 2)


def test_a_job_that_fans_out_and_asks(airflow: Airflow, tmp_path: Path) -> None:
    """Over a parameter; its question is in the log while the task runs or is deferred, and the answer lets it go on."""
    file = tmp_path / "job.yaml"
    file.write_text(
        "name: release\nparams: {REGIONS: {type: list, default: [eu, us]}, VERSION: v2}\ntasks:\n"
        "- {id: load, for_each: '{{ params.REGIONS }}', command: echo \"load $ITEM\"}\n"
        "- {id: ok, after: [load], approve: 'Release {{ params.VERSION }}?'}\n"
        "- {id: release, after: [ok], command: 'echo released'}\n"
    )
    for mode, run in start(airflow, "asks", f"job_file={str(file)!r}").items():
        running_job(run)
        wait_for(lambda: any(" asks " in line for line in run.log()), 240, f"the question of {mode}", pause=0.5)  # noqa: B023
        assert run.ti()["state"] == ("running" if mode == "worker" else "deferred")
        (job,) = jobs_of(run)
        assert any(f"air-executor approve {job.id} ok" in line for line in run.log())
        assert Client(airflow.state_dir).ask("approve", job.id, "ok", by="somebody").applied
        assert run.done() == "success", run.log()
        printed = [line.split(" | ") for line in run.log() if " | " in line]
        assert sorted(map(tuple, printed)) == [
            ("load-eu", "load eu"),
            ("load-us", "load us"),
            ("release", "released"),
        ]


def test_failure_with_retries(airflow: Airflow) -> None:
    """Each retry is a job of its own; the last failure fails the task, with the reason in its log."""
    retries = "retries=1, retry_delay=timedelta(seconds=0)"
    for run in start(airflow, "failure", f"command='echo so far; exit 3', {retries}").values():
        assert run.done() == "failed"
        assert [job.phase for job in jobs_of(run)] == ["failed", "failed"]
        assert run.ti()["try_number"] == 2
        for number, job in enumerate(jobs_of(run), 1):
            log = run.log(number=number)
            assert log.count("t1 | so far") == 1
            assert any(f"job {job.id} failed (error); task t1 failed (error, exit code 3)" in line for line in log), log


def test_mark_failed(airflow: Airflow) -> None:
    """Marking a task as failed cancels its job."""
    for run in start(airflow, "mark", "command='sleep 300'").values():
        job = running_job(run)
        if run.task != "worker":
            in_triggerer(run)
        run.mark("failed")
        wait_for(partial(has_ended, airflow, job), 60, f"the end of {job.id}")
        assert jobs_of(run)[0].phase == "cancelled"
        assert len(jobs_of(run)) == 1


def test_clear_while_running(airflow: Airflow) -> None:
    """A task that is cleared while its job runs gets a new job, which starts after the old one has ended."""
    flag = airflow.home / "may-end"
    command = f"if [ -e {flag} ]; then echo second; else sleep 300; fi"
    runs = start(airflow, "clear", f"command={command!r}, retries=1, retry_delay=timedelta(seconds=0)")
    for run in runs.values():
        running_job(run)
        if run.task != "worker":
            in_triggerer(run)
    flag.touch()
    for run in runs.values():
        run.clear()
    for mode, run in runs.items():
        wait_for(partial(has_two, run), 60, f"the next job of {run.task}")
        assert run.done() == "success", (mode, run.log(number=2))
        first, second = jobs_of(run)
        assert (first.phase, second.phase) == ("cancelled", "succeeded")
        assert first.finished_at is not None
        assert second.started_at is not None
        assert first.finished_at <= second.started_at
        assert "t1 | second" in run.log(number=2)


def test_clear_after_success(airflow: Airflow, tmp_path: Path) -> None:
    """A task that is cleared after its success runs again."""
    count = tmp_path / "count"
    runs = start(airflow, "anew", f"command='echo >> {count}.$AIRFLOW_CTX_TASK_ID'")
    for run in runs.values():
        assert run.done() == "success"
        run.clear()
    for mode, run in runs.items():
        wait_for(partial(has_two, run), 60, f"the next job of {run.task}")
        assert run.done() == "success", mode
        assert len(Path(f"{count}.{mode}").read_text()) == 2


def backfilled(airflow: Airflow, number: int) -> bool:
    """Tell whether a backfill has ended."""
    return airflow.ask("GET", f"backfills/{number}")["completed_at"] is not None


@pytest.mark.nightly
def test_backfill(airflow: Airflow) -> None:
    """Each run of a backfill has a job of its own, also when the backfill is repeated; days are not mixed up."""
    schedule = "schedule='@daily', start_date=datetime(2026, 1, 1), catchup=False"
    command = "echo $AIRFLOW_CTX_DAG_RUN_ID"
    operator = f"AirExecutorOperator(task_id='t', command={command!r}, start_from_trigger=True, poll_interval=0.2)"
    airflow.write_dag("backfill", operator, "from datetime import datetime", schedule)
    days = {"dag_id": "backfill", "from_date": "2026-02-01T00:00:00Z", "to_date": "2026-02-03T00:00:00Z"}
    for generation in (1, 2):
        again = {"reprocess_behavior": "completed"} if generation == 2 else {}
        made = airflow.ask("POST", "backfills", json={**days, **again})["id"]
        wait_for(partial(backfilled, airflow, made), 120, "the backfill")
        runs = airflow.ask("GET", "dags/backfill/dagRuns?run_type=backfill")["dag_runs"]
        assert len(runs) == 3
        for run in (Run(airflow, "backfill", run["dag_run_id"]) for run in runs):
            assert run.state() == "success"
            assert [job.id.rpartition("-")[2] for job in jobs_of(run)] == [str(n + 1) for n in range(generation)]
            assert f"t1 | {run.id}" in run.log(number=generation)

"""`AirExecutor` in a real Airflow: tasks while schedulers, runners and fork servers are killed and started."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from air_executor.airflow.job_launcher import LOG_LABEL
from air_executor.client import Client
from air_executor.model.state import JobState
from tests.airflow.conftest import ALIAS
from tests.airflow.rig import Airflow, Run
from tests.conftest import wait_for

pytestmark = pytest.mark.timeout(900)

IMPORTS = "import os, pathlib, time"
OURS = f"schedule=None, default_args={{'executor': {ALIAS!r}}}"


def jobs_of(run: Run) -> list[JobState]:
    """Return the jobs of a run of a DAG, in order."""
    found = [state for state in Client(run.airflow.state_dir).all() if isinstance(state, JobState)]
    mine = [state for state in found if state.spec.labels.get("airflow-run") == run.id]
    mine = [state for state in mine if state.spec.labels["airflow-dag"] == run.dag]
    return sorted(mine, key=lambda state: state.submitted_at)


def folder_of(run: Run) -> Path:
    """Return a folder for the tasks of this DAG and their tests."""
    path = run.airflow.home / "shared" / run.dag
    path.mkdir(parents=True, exist_ok=True)
    return path


COUNTING = """
@task{options}
def t():
    folder = pathlib.Path(os.environ["AIRFLOW_HOME"]) / "shared" / {dag!r}
    with (folder / "started").open("a") as file:
        file.write(f"{{os.getpid()}}\\n")
    number = 0
    while not (folder / "may-end").exists():
        print("line", number)
        number += 1
        time.sleep(0.05)
    print("last")
t()
"""


def start_counting(airflow: Airflow, dag: str, options: str = "") -> tuple[Run, Path, int]:
    """Start a task that prints until a file lets it end; return its run, their folder, and its pid."""
    airflow.write_dag(dag, COUNTING.format(dag=dag, options=options), IMPORTS, OURS)
    folder = folder_of(Run(airflow, dag, ""))
    run = airflow.trigger(dag)
    started = folder / "started"
    wait_for(lambda: started.exists() and started.read_text().endswith("\n"), 60, "the task")
    return run, folder, int(started.read_text())


def printed(run: Run, number: int = 1) -> list[str]:
    """Return what the counting task has printed, as Airflow shows it."""
    return [line for line in run.log(number=number) if line.startswith(("line ", "last"))]


def exact(lines: list[str]) -> bool:
    """Tell whether every line is there, once, in order."""
    return lines == [*(f"line {number}" for number in range(len(lines) - 1)), "last"]


def runner_of(job: JobState) -> int:
    """Return the process group of a job's runner."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if any(f"/{job.id}/" in word for word in words) and any("air-runner" in word for word in words):
            return os.getpgid(process.pid)
    message = f"job {job.id} has no runner"
    raise AssertionError(message)


def test_tasks(airflow: Airflow) -> None:
    """Tasks succeed, fail, are retried, pass on values; each try is one job, and no token is left anywhere."""
    airflow.write_dag(
        "tasks",
        """
@task
def one():
    print("one prints")
    return 5
@task(retries=1, retry_delay=timedelta(seconds=0))
def two(x):
    from airflow.sdk import get_current_context
    if get_current_context()["ti"].try_number == 1:
        raise ValueError("not yet")
    return x + 1
@task
def bad():
    raise KeyError("never")
two(one())
bad()
""",
        IMPORTS,
        OURS,
    )
    run = airflow.trigger("tasks")
    assert run.ended(90) == "failed"
    assert [run.state(task) for task in ("one", "two", "bad")] == ["success", "success", "failed"]
    assert run.xcom(task="two") == 6
    assert "one prints" in run.log("one")
    assert any("not yet" in line for line in run.log("two", 1))
    assert any("KeyError" in line for line in run.log("bad"))
    wait_for(lambda: all(state.ended for state in jobs_of(run)), 30, "the jobs")
    states = jobs_of(run)
    labels = [state.spec.labels for state in states]
    assert sorted((label["airflow-task"], label["airflow-try"]) for label in labels) == [
        ("bad", "1"),
        ("one", "1"),
        ("two", "1"),
        ("two", "2"),
    ]
    assert {(state.phase, state.seq) for state in states} == {("succeeded", 1)}
    assert not [path for state in states for path in airflow.state_dir.glob(f"jobs/{state.id}/workspace/*")]
    written = [path for path in airflow.state_dir.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert [path for path in written if b"eyJ" in path.read_bytes()] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_scheduler_restart(airflow: Airflow, number: int) -> None:
    """The end of a scheduler does not affect tasks, whether they end before or after the next one starts."""
    run, folder, pid = start_counting(airflow, f"restart_{number}")
    other, early, _ = start_counting(airflow, f"restart_early_{number}")
    airflow.stop("scheduler", number)
    (early / "may-end").touch()
    wait_for(lambda: jobs_of(other)[0].ended, 30, "the job that ends while nobody schedules")
    airflow.start("scheduler")
    assert other.ended(90) == "success"
    (folder / "may-end").touch()
    assert run.ended(90) == "success"
    for one in (run, other):
        assert one.ti()["try_number"] == 1
        assert len(jobs_of(one)) == 1
        assert exact(printed(one)), printed(one)
    assert (folder / "started").read_text() == f"{pid}\n"


def test_runner_killed(airflow: Airflow) -> None:
    """After the kill -9 of a runner the task's log says so, none of its processes is left, and Airflow retries it."""
    run, folder, pid = start_counting(airflow, "killed", "(retries=1, retry_delay=timedelta(seconds=0))")
    (job,) = jobs_of(run)
    os.killpg(runner_of(job), signal.SIGKILL)
    wait_for(lambda: run.ti()["try_number"] == 2, 60, "the next try")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    (folder / "may-end").touch()
    assert run.ended() == "success"
    assert len((folder / "started").read_text().split()) == 2
    last = run.log(number=1)[-1]
    assert "The runner of this task instance failed" in last
    assert "lost" in last
    assert "not started twice" in last
    events = airflow.ask("GET", "eventLogs", params={"dag_id": "killed", "limit": 100})["event_logs"]
    assert any("lost" in (event["extra"] or "") for event in events)


def test_beside_another(airflow: Airflow) -> None:
    """Tasks choose between executors, by alias."""
    airflow.write_dag(
        "beside",
        f"""
@task(executor="LocalExecutor")
def there():
    return os.environ.get("AIR_JOB_ID")
@task(executor="{ALIAS}")
def here():
    return os.environ.get("AIR_JOB_ID")
there()
here()
""",
        IMPORTS,
        OURS,
    )
    run = airflow.trigger("beside")
    assert run.ended() == "success"
    assert run.xcom(task="there") is None
    assert [run.xcom(task="here")] == [job.id for job in jobs_of(run)]


def test_deferred(airflow: Airflow) -> None:
    """Tasks that are deferred and resumed at once never fail falsely; each start of one has a job of its own."""
    folder = folder_of(Run(airflow, "deferred", ""))
    wait = f"while [ ! -e {folder}/may-end ]; do sleep 0.02; done"
    airflow.write_dag(
        "deferred",
        "for n in range(2):\n"
        f"    AirExecutorOperator(task_id=f't{{n}}', command={wait!r}, defer_after=0, poll_interval=0.01,"
        f" state_dir={str(airflow.state_dir)!r})",
        "",
        OURS,
    )
    run = airflow.trigger("deferred")
    for n in range(2):
        run.wait("deferred", task=f"t{n}")
    (folder / "may-end").touch()
    assert run.ended(90) == "success"
    assert [run.ti(f"t{n}")["try_number"] for n in range(2)] == [1] * 2
    wait_for(lambda: all(job.ended for job in jobs_of(run)), 30, "the jobs")
    starts = [job for job in jobs_of(run) if LOG_LABEL in job.spec.labels]
    assert [job.phase for job in starts] == ["succeeded"] * 4


def test_marked_failed(airflow: Airflow) -> None:
    """A task that a person marks as failed is stopped, its job ends, and its slot is free."""
    run, _, pid = start_counting(airflow, "marked")
    run.mark("failed")
    wait_for(lambda: jobs_of(run)[0].ended, 60, "the job")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert run.state() == "failed"


def test_runners_leave_with_their_task(airflow: Airflow) -> None:
    """A runner ends when its task does, not at the next check of Airflow's supervisor."""
    rarely = {
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "600",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "300",
    }
    airflow.write_dag(
        "leaves",
        f"""
@task(executor_config={{"air_executor": {{"env": {rarely!r}}}}})
def t(n):
    return n
t.expand(n=[1, 2, 3])
""",
        IMPORTS,
        OURS,
    )
    run = airflow.trigger("leaves")
    assert run.ended() == "success"
    wait_for(lambda: all(job.ended for job in jobs_of(run)), 60, "the runners to leave")


def test_wrong_options(airflow: Airflow) -> None:
    """Invalid options of a DAG fail the task, with the reason in its log."""
    airflow.write_dag(
        "options",
        """
@task(executor_config={"air_executor": {"retries": 3}})
def t():
    pass
t()
""",
        IMPORTS,
        OURS,
    )
    run = airflow.trigger("options")
    assert run.ended() == "failed"
    assert "cannot set retries" in run.log()[-1]


def test_running_shows_where(airflow: Airflow) -> None:
    """The log of a running task names its job and its runner."""
    run, folder, _ = start_counting(airflow, "where")
    (job,) = jobs_of(run)
    said = wait_for(lambda: [line for line in run.log() if job.id in line], 30, "where it is")
    assert "running, run 1 on local" in json.dumps(said)
    (folder / "may-end").touch()
    assert run.ended() == "success"
    assert exact(printed(run))

"""The other parts of the package: provider, connection, sensor, decorator, mapped tasks, examples."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.core.submission import parse_job
from tests.airflow.conftest import programs
from tests.airflow.rig import Airflow, manager
from tests.airflow.test_modes import MODES, has_ended, jobs_of, start
from tests.conftest import wait_for

pytestmark = pytest.mark.timeout(900)

EXAMPLES = Path(__file__).parents[2] / "examples" / "airflow"


PARTS = """
from airflow.providers_manager import ProvidersManager
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

found, at_work = ProvidersManager(), ProvidersManagerTaskRuntime()
print("version", found.providers["air-executor"].version)
print("hook", at_work.hooks["air_executor"].hook_name)
print(*(name for name in found.extra_links_class_names if name.startswith("air_executor.")))
print("decorator", at_work.taskflow_decorators["air_executor"].__module__)
"""


def test_provider_is_found(airflow: Airflow) -> None:
    """`airflow providers` knows the provider, and Airflow loads all its parts, without a warning."""
    full = ("providers", "get", "air-executor", "--full", "--output", "json")
    for words, program, wanted in (
        (full, "airflow", ("AirExecutorHook",)),
        (("-c", PARTS), "python", ("version ", "hook Air-Executor", "AirExecutorJobLink", "decorator air_executor.")),
    ):
        code, printed = airflow.run(*words, program=program)
        assert code == 0, printed
        assert [word for word in wanted if word not in printed] == [], printed
        assert "WARNING" not in printed.upper(), printed


def test_connection(airflow: Airflow, tmp_path: Path) -> None:
    """A connection names the state directory, the pool and the page; its test says what is wrong."""
    extra = {"state_dir": str(airflow.state_dir), "backend": "local", "pool": "airflow"}
    one = {"connection_id": "jobs", "conn_type": "air_executor", "host": "page.example", "extra": json.dumps(extra)}
    assert airflow.ask("POST", "connections/test", json=one)["status"] is True
    for wrong, words in (
        ({"state_dir": str(tmp_path / "none")}, "no directory"),
        ({"state_dir": str(tmp_path)}, "no manager is running"),
        ({"backend": "docker"}, "uses the backend local, not docker"),
        ({"stat_dir": "x"}, "extra must be a JSON object of texts"),
        ({"pool": ["a"]}, "extra must be a JSON object of texts"),
    ):
        answer = airflow.ask("POST", "connections/test", json={**one, "extra": json.dumps({**extra, **wrong})})
        assert answer["status"] is False
        assert words in answer["message"]
    old = {name: value for name, value in extra.items() if name != "pool"} | {"queue": "airflow"}
    assert airflow.ask("POST", "connections/test", json={**one, "extra": json.dumps(old)})["status"] is True
    airflow.ask("POST", "connections", json=one)
    for mode, run in start(airflow, "connection", "command='true', air_executor_conn_id='jobs'").items():
        assert run.done() == "success", (mode, run.log())
        (job,) = jobs_of(run)
        assert job.pool == "airflow"
        assert run.xcom("_link_AirExecutorJobLink") == f"http://page.example/jobs/{job.id}"


def test_invalid_job(airflow: Airflow) -> None:
    """An invalid job fails at once, with one line that says what is wrong; a worker does not retry it."""
    operator = "job={'tasks': [{'comand': 'true'}]}, retries=1, retry_delay=timedelta(seconds=0)"
    for mode, run in start(airflow, "wrong", operator).items():
        assert run.done() == "failed"
        assert jobs_of(run) == []
        assert run.ti()["try_number"] == (2 if mode == "workerless" else 1)
        assert any("comand" in line and f"task {mode}" in line for line in run.log())


def test_undefined_in_template(airflow: Airflow) -> None:
    """An undefined name in a template fails the task in every mode, and nothing is submitted."""
    for mode, run in start(airflow, "undefined", "command='echo /data/{{ nosuch }}/'").items():
        assert run.done() == "failed", mode
        assert jobs_of(run) == []
        assert any("'nosuch' is undefined" in line for line in run.log()), (mode, run.log())


def test_job_file_template(airflow: Airflow, tmp_path: Path) -> None:
    """The content of a job file that ends with .j2 is rendered where it is read, in every mode."""
    file = tmp_path / "job.yaml.j2"
    file.write_text("tasks:\n  - command: echo run {{ run_id }}\n")
    for mode, run in start(airflow, "job_file", f"job_file={str(file)!r}").items():
        assert run.done() == "success", (mode, run.log())
        assert f"_1 | run {run.id}" in run.log()


def test_number_in_template(airflow: Airflow) -> None:
    """A rendered number is a number, in every mode; a DAG with native objects gets a whole job from a template."""
    job = {"max_runners": "{{ 1 + 1 }}", "tasks": [{"command": "true", "retries": "{{ 2 }}"}]}
    for mode, run in start(airflow, "number", f"job={job!r}").items():
        assert run.done() == "success", (mode, run.log())
    native = (
        "schedule=None, render_template_as_native_obj=True, params={'job': {'tasks': [{'command': 'echo native'}]}}"
    )
    for mode, run in start(airflow, "native", "job='{{ params.job }}'", native).items():
        assert run.done() == "success", (mode, run.log())
        assert "_1 | echo native" not in run.log()
        assert "_1 | native" in run.log()


def test_execution_timeout(airflow: Airflow) -> None:
    """At its `execution_timeout` a task fails and its job is cancelled, in every mode."""
    for mode, run in start(airflow, "late", "command='sleep 300', execution_timeout=timedelta(seconds=15)").items():
        assert run.done() == "failed", mode
        (job,) = jobs_of(run)
        wait_for(partial(has_ended, airflow, job), 30, f"the end of {job.id}")
        assert jobs_of(run)[0].phase == "cancelled"


def test_sensor(airflow: Airflow) -> None:
    """A sensor waits for a job that does not exist yet, and returns its results; a failed job fails it."""
    client = Client(airflow.state_dir)
    imports = "from air_executor.airflow.sensors import AirExecutorJobSensor"
    airflow.write_dag(
        "sensor",
        "AirExecutorJobSensor(task_id='deferred', job_id='theirs', poke_interval=0.2)\n"
        "AirExecutorJobSensor(task_id='worker', job_id='theirs', poke_interval=0.2, deferrable=False)\n"
        "AirExecutorJobSensor(task_id='failing', job_id='broken', poke_interval=0.2)\n"
        "AirExecutorJobSensor(task_id='soft', job_id='broken', poke_interval=0.2, soft_fail=True, deferrable=False)",
        imports,
    )
    run = airflow.trigger("sensor")
    run.wait("deferred", task="deferred")
    run.wait("running", task="worker")
    client.submit(parse_job({"id": "theirs", "tasks": [{"command": "echo 7 > $AIR_RESULT"}]}, "job"))
    client.submit(parse_job({"id": "broken", "tasks": [{"command": "exit 4"}]}, "job"))
    assert run.ended() == "failed"
    assert run.xcom(task="deferred") == {"_1": 7}
    assert run.xcom(task="worker") == {"_1": 7}
    assert run.state("failing") == "failed"
    assert run.state("soft") == "skipped"
    assert any("job broken failed (error); task _1 failed (error, exit code 4)" in line for line in run.log("failing"))


def test_sensors_that_cannot_succeed(airflow: Airflow, tmp_path: Path) -> None:
    """An invalid state directory or id fails at once; `execution_timeout` also applies in the triggerer."""
    airflow.write_dag(
        "sensors",
        "AirExecutorJobSensor(task_id='late', job_id='never', execution_timeout=timedelta(seconds=3))\n"
        f"AirExecutorJobSensor(task_id='nowhere', job_id='j', state_dir={str(tmp_path / 'none')!r})\n"
        "AirExecutorJobSensor(task_id='no_id', job_id='../../etc', deferrable=False)",
        "from air_executor.airflow.sensors import AirExecutorJobSensor",
    )
    run = airflow.trigger("sensors")
    assert run.ended() == "failed"
    assert any("is no directory here" in line for line in run.log("nowhere"))
    assert any("is not a valid id" in line for line in run.log("no_id"))
    assert run.state("late") == "failed"


def test_missing_state_directory(airflow: Airflow, tmp_path: Path) -> None:
    """Nothing is submitted to a missing state directory: no manager would ever see it."""
    where = tmp_path / "not" / "mounted"
    for mode, run in start(airflow, "mount", f"command='true', state_dir={str(where)!r}").items():
        assert run.done() == "failed", mode
        assert any(f"{where} is no directory here" in line for line in run.log()), (mode, run.log())
    assert not where.parent.exists()


FUNCTION = '''
@task.air_executor(defer_after=0, poll_interval=0.2, python_command="{{ 'python3' }}")
def double(number: NotImported, *, by: int = 2) -> dict[str, NotImported]:
    """Its {body} runs "elsewhere"."""
    import os

    print("in job", os.environ["AIR_JOB_ID"])
    with open(os.environ["AIR_QUEUE"], "a") as queue:
        queue.write('{"command": "echo queued"}')
    return {"number": number * by}

@task
def one():
    return 21

@task.air_executor(deferrable=False)
def check(found):
    assert found == {"number": 42}, found

@task.air_executor
def large(text):
    return len(text)

@task.air_executor
def no_json(value):
    return value

check(double(one()))
large("x" * 200_000)
no_json({1, 2})
'''


def test_decorator(airflow: Airflow) -> None:
    """The body of a decorated function runs in a runner; it gets values from other tasks and returns one."""
    airflow.write_dag("decorated", FUNCTION)
    run = airflow.trigger("decorated")
    assert run.ended() == "failed"
    assert [run.state(task) for task in ("double", "check", "large", "no_json")] == ["success"] * 2 + ["failed"] * 2
    assert any("by file" in line for line in run.log("large"))
    assert any("must be JSON values" in line for line in run.log("no_json"))
    assert run.xcom(task="double") == {"number": 42}
    assert run.ti("double")["rendered_fields"]["python_command"] == "python3"
    (job,) = jobs_of(run, "double")
    wait_for(lambda: f"t1 | in job {job.id}" in run.log("double"), 60, "the last lines")
    assert any(line.endswith(" | queued") for line in run.log("double"))


def test_mapped(airflow: Airflow) -> None:
    """Each index of a mapped task is a job of its own, also with `start_from_trigger`."""
    airflow.write_dag(
        "each_index",
        "AirExecutorOperator.partial(task_id='t', start_from_trigger=True, poll_interval=0.2)"
        ".expand(command=['echo 1 > $AIR_RESULT', 'echo 2 > $AIR_RESULT', 'echo 3 > $AIR_RESULT'])",
    )
    run = airflow.trigger("each_index")
    assert run.ended() == "success"
    assert sorted(run.xcom(map_index=index) for index in range(3)) == [1, 2, 3]
    assert len(jobs_of(run)) == 3


@pytest.mark.nightly
def test_hundred_fast_tasks(airflow: Airflow) -> None:
    """A hundred tasks that end at once, deferred or workerless, all succeed at their first try, and none runs twice."""
    for mode in ("deferred", "workerless"):
        airflow.write_dag(
            f"hundred_{mode}",
            f"for n in range(50):\n    AirExecutorOperator(task_id=f't{{n}}', command='true', {MODES[mode]})",
        )
    runs = [airflow.trigger(f"hundred_{mode}") for mode in ("deferred", "workerless")]
    for run in runs:
        assert run.ended(200) == "success"
        found = airflow.ask("GET", f"{run.path}/taskInstances?limit=100")["task_instances"]
        assert [ti["try_number"] for ti in found] == [1] * 50
        assert sum(len(jobs_of(run, f"t{number}")) for number in range(50)) == 50


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples(airflow: Airflow, path: Path) -> None:
    """Each example is a DAG that succeeds as it is."""
    folder = airflow.home / "dags"
    for beside in [*EXAMPLES.glob("*.yaml"), path]:
        shutil.copy(beside, folder)
    shutil.copytree(EXAMPLES / "steps", folder / "steps", dirs_exist_ok=True)
    wait_for(partial(airflow.knows, path.stem), 60, path.stem)
    airflow.ask("PATCH", f"dags/{path.stem}", json={"is_paused": False})
    run = airflow.trigger(path.stem)
    tasks = [ti["task_id"] for ti in airflow.ask("GET", f"{run.path}/taskInstances")["task_instances"]]
    assert run.ended(120) == "success", [line for task in tasks for line in run.log(task)]


@pytest.mark.nightly
def test_oldest_airflow(tmp_path: Path) -> None:
    """`airflow dags test` in the oldest supported version: deferred and on a worker, with a result passed on."""
    old = Airflow(programs("AIR_TEST_OLDEST_AIRFLOW"), tmp_path, tmp_path / "state")
    assert old.run("db", "migrate")[0] == 0
    (tmp_path / "dags" / "old.py").write_text(
        "from datetime import datetime\nfrom airflow import DAG\n"
        "from air_executor.airflow.operators import AirExecutorOperator\n"
        "with DAG(dag_id='old', schedule=None, start_date=datetime(2026, 1, 1)):\n"
        "    first = AirExecutorOperator(task_id='first', command='echo far; echo 5 > $AIR_RESULT', defer_after=0)\n"
        "    first >> AirExecutorOperator(\n"
        "        task_id='second', command=\"echo got {{ ti.xcom_pull('first') }}\", start_from_trigger=True\n    )\n"
    )
    with manager(old.state_dir):
        assert old.run("dags", "test", "old", "2026-02-02")[0] == 0
        code, printed = old.run("dags", "test", "old", "2026-02-02")
    assert code == 0, printed
    assert "Submitted job" in printed  # not what the first run of that date has left
    assert "t1 | far" in printed
    assert "t1 | got 5" in printed
    assert "DagRun Finished" in printed
    assert "state=success" in printed

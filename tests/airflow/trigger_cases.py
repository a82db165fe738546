"""Makes operators and triggers without any component of Airflow; run with Airflow's own Python.

Writes one JSON object: the results by the name of the test in `test_triggers` that judges them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import jinja2
from airflow.exceptions import AirflowException, TaskDeferred
from airflow.sdk import DAG, Asset

from air_executor.airflow import deferred_job, operators, triggers
from air_executor.airflow.operators import AirExecutorOperator
from air_executor.client import Client
from air_executor.core.submission import parse_job

HOME = Path(sys.argv[1])
JOB = parse_job({"id": "j", "tasks": [{"command": "true"}]}, "job")


def _answer(state: str | None) -> Callable[[Any], str | None]:
    def answer(_: Any) -> str | None:
        if state == "unknown":
            message = "the database is locked"
            raise RuntimeError(message)
        return state

    return answer


def kills() -> Any:
    """Report, by the state of the task instance, whether `on_kill` cancels the job, once with `cancel_on_kill` off."""
    found: dict[str, bool] = {}
    states = ("deferred", "running", "up_for_retry", "failed", "success", "skipped", "scheduled", "unknown", None)
    for state, cancels in [*((state, True) for state in states), ("failed", False)]:
        name = f"{state}{'' if cancels else ', off'}"
        client = Client(HOME / "kills" / name)
        job = client.submit(JOB)
        trigger = triggers.AirExecutorTrigger(
            job=job.id, uid=job.uid, state_dir=client.layout.root, cancel_on_kill=cancels
        )
        with patch.object(deferred_job, "state_of", _answer(state)):
            asyncio.run(trigger.on_kill())
        requests = [client.inbox.read(request) for request in client.inbox.pending()]
        found[name] = any(request is not None and request.op == "cancel" for request in requests)
    return found


def deferrals() -> Any:
    """Report, by the state of the task instance, what becomes of a task that is about to defer, and of its job."""
    found: dict[str, list[Any]] = {}
    for state, cancels in [
        *((state, True) for state in ("running", "failed", "restarting", "unknown")),
        ("failed", False),
    ]:
        name = f"{state}{'' if cancels else ', off'}"
        client = Client(HOME / "deferrals" / name)
        client.jobs.prepare()
        task = AirExecutorOperator(
            task_id="t", command="true", state_dir=client.layout.root, defer_after=0, cancel_on_kill=cancels
        )
        ti = SimpleNamespace(
            dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, max_tries=0, id="u", xcom_push=_ignore
        )
        try:
            with patch.object(operators, "state_of", _answer(state)):
                AirExecutorOperator.execute.__wrapped__(task, {"ti": ti})  # type: ignore[attr-defined]
            verdict = "ended"
        except TaskDeferred:
            verdict = "deferred"
        except AirflowException as error:
            verdict = str(error)
        requests = [client.inbox.read(request) for request in client.inbox.pending()]
        found[name] = [verdict, any(request is not None and request.op == "cancel" for request in requests)]
    return found


def _ignore(**_: Any) -> None:
    """Take the place of what would call Airflow's API."""


def _rendered(context: Mapping[str, Any], *, native: bool = False, **fields: Any) -> list[Any]:
    trigger = triggers.AirExecutorStartTrigger(**fields)
    dag = SimpleNamespace(render_template_as_native_obj=native)
    trigger._task_instance = SimpleNamespace(task=SimpleNamespace(get_dag=lambda: dag))
    trigger.template_fields = tuple(fields)
    trigger.template_ext = ()
    trigger.render_template_fields(context)
    error = trigger.template_error
    return [None if error is None else str(error), *(getattr(trigger, name) for name in fields)]


def templates() -> Any:
    """Report what a workerless task's templates are rendered to, and which errors they cause."""
    return {
        "plain": _rendered({"ds": "2026-01-31"}, command="echo {{ ds }}"),
        "undefined": _rendered({}, command="rm -rf /data/{{ nosuch }}/"),
        "native": _rendered({"params": {"n": 2}}, native=True, job={"max_runners": "{{ params.n }}"}),
        "text": _rendered({"params": {"n": 2}}, job={"max_runners": "{{ params.n }}"}),
        "do": _rendered({}, command="{% set a = [] %}{% do a.append(1) %}{{ a }}"),
        "filter": _rendered({}, command="{{ 5 | nosuch }}"),
    }


def _dag(**options: Any) -> DAG:
    return DAG(dag_id="d", schedule=None, **options)


def _made(dag: DAG, **fields: Any) -> list[str]:
    """Return "made" or the error, and all warnings."""
    with warnings.catch_warnings(record=True) as caught, dag:
        warnings.simplefilter("always")
        try:
            AirExecutorOperator(task_id="t", **{"command": "true", "start_from_trigger": True, **fields})
            verdict = "made"
        except ValueError as error:
            verdict = str(error)
    return [verdict, *(str(warning.message) for warning in caught if "start_from_trigger" in str(warning.message))]


def _later_outlet() -> str:
    with _dag():
        task = AirExecutorOperator(task_id="t", command="true", start_from_trigger=True)
        try:
            task.add_outlets([Asset("a")])
        except ValueError as error:
            return str(error)
    return "made"


def parsed() -> Any:
    """Report what becomes of workerless tasks when their DAG is parsed."""
    own = {
        "user_defined_macros": {"shout": str.upper},
        "user_defined_filters": {"shout": str.upper},
        "render_template_as_native_obj": True,
    }
    pull = "{{ ti.xcom_pull('other'%s) }}"
    with _dag():
        other = AirExecutorOperator(task_id="other", command="true")
        lazy = other.output
    return {
        "plain": _made(_dag(**own), command="echo {{ ds }}"),
        "macro": _made(_dag(**own), command="echo {{ shout(ds) }}"),
        "filter": _made(_dag(**own), task_options={"env": {"A": "{{ ds | shout }}"}}),
        "macro on a worker": _made(_dag(**own), command="echo {{ shout(ds) }}", start_from_trigger=False),
        "undefined": _made(_dag(template_undefined=jinja2.Undefined), command="echo {{ ds }}"),
        "undefined, no template": _made(_dag(template_undefined=jinja2.Undefined)),
        "kwargs": _made(_dag(jinja_environment_kwargs={"trim_blocks": True}), command="echo {{ ds }}"),
        "include": _made(_dag(), command="{% include 'a.sh' %}"),
        "syntax": _made(_dag(), command="{{ "),
        "pull": _made(_dag(), command=pull % ""),
        "pull in a list": _made(_dag(), command=None, job={"tasks": [{"command": ["a", pull % ""]}]}),
        "pull with indexes": _made(_dag(), command=pull % ", map_indexes=-1"),
        "output": _made(_dag(), command=lazy),
        "outlets": _made(_dag(), outlets=[Asset("a")]),
        "later outlets": [_later_outlet()],
        "callbacks": _made(_dag(), on_success_callback=print, on_failure_callback=print, pool="small"),
    }


def aliases() -> Any:
    """Report what becomes of the old name of `job_pool`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new = AirExecutorOperator(task_id="new", command="true", job_pool="a")
        quiet = [str(warning.message) for warning in caught if "job_queue" in str(warning.message)]
        old = AirExecutorOperator(task_id="old", command="true", job_queue="b")
        named = [warning.category.__name__ for warning in caught if "job_queue" in str(warning.message)]
    stored = triggers.AirExecutorStartTrigger(command="true", job_queue="c")
    return [new.job_pool, quiet, old.job_pool, named, stored.serialize()[1]["job_pool"]]


CASES: list[Callable[[], Any]] = [kills, deferrals, templates, parsed, aliases]

if __name__ == "__main__":
    (HOME / "results.json").write_text(json.dumps({case.__name__: case() for case in CASES}))

"""A hundred tasks that do nothing, as Airflow runs them itself and as it has Air-Executor run them.

One real Airflow with all its components on loopback, SQLite, 16 active tasks; `AIR_TEST_AIRFLOW` names its programs
(`make airflow`). CPU is that of every process of Airflow, the manager and the runners together.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import psutil
import requests

from benchmarks.table import Line, Row, median_ratio
from tests.airflow.rig import ENDED, Airflow, manager

ACTIVE = 16
_SET_CHILD_SUBREAPER = 36
SETTLE = 8.0
"""Seconds without work before what is idle is looked at."""
LOOK = 0.5
"""Seconds between two looks at a run: each costs Airflow CPU."""
NOTHING = "from airflow.providers.standard.operators.python import PythonOperator"
BODIES = {
    "worker": "PythonOperator(task_id=f't{n}', python_callable=lambda: None)",
    "workerless": "AirExecutorOperator(task_id=f't{n}', command='true', start_from_trigger=True)",
    "deferrable": "AirExecutorOperator(task_id=f't{n}', command='true')",
}


def modes(*, quick: bool) -> Sequence[Line]:
    """Measure the operator, without a worker and with one, next to LocalExecutor's own tasks."""
    programs = os.environ.get("AIR_TEST_AIRFLOW")
    if not programs:
        return [Line("airflow", "workerless tasks/s ÷ LocalExecutor's", None, 1.5, note="AIR_TEST_AIRFLOW is not set")]
    tasks, rounds = (20, 1) if quick else (100, 3)
    found: dict[str, list[tuple[float, float]]] = {body: [] for body in BODIES}
    with _airflow(programs, "LocalExecutor") as airflow:
        for body in BODIES:
            _write(airflow, body, tasks)
        _measure(airflow, "worker", tasks)  # LocalExecutor starts its workers
        for number in range(rounds):
            for body in BODIES if number % 2 else reversed(BODIES):
                found[body].append(_measure(airflow, body, tasks))
    rates = {body: [rate for rate, _ in pairs] for body, pairs in found.items()}
    costs = {body: [cost for _, cost in pairs] for body, pairs in found.items()}
    lines = []
    for body, rate, cost in (("workerless", 1.5, 0.5), ("deferrable", None, None)):
        detail = {body: found[body], "LocalExecutor": found["worker"]}
        note = f"{statistics.median(rates[body]):.1f} to {statistics.median(rates['worker']):.1f}"
        ratio = median_ratio(rates[body], rates["worker"])
        lines.append(Line("airflow", f"{body} tasks/s ÷ LocalExecutor's", ratio, rate, note=note, detail=detail))
        note = f"{statistics.median(costs[body]):.3f} to {statistics.median(costs['worker']):.3f} CPU-s"
        ratio = median_ratio(costs[body], costs["worker"])
        lines.append(Line("airflow", f"{body} CPU per task ÷ LocalExecutor's", ratio, cost, at_most=True, note=note))
    return lines


def executor(*, quick: bool) -> Sequence[Line]:
    """Measure `AirExecutor` next to LocalExecutor: a task's cost, and what is there while nothing is to do."""
    programs = os.environ.get("AIR_TEST_AIRFLOW")
    if not programs:
        return [Line("airflow-executor", "idle processes", None, 10, note="AIR_TEST_AIRFLOW is not set")]
    tasks, rounds = (20, 1) if quick else (100, 3)
    names = {"ours": "air_executor.airflow.executor.AirExecutor", "local": "LocalExecutor"}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    idle: dict[str, tuple[int, float]] = {}
    for name, executor_name in names.items():
        with _airflow(programs, executor_name) as airflow:
            _write(airflow, "worker", tasks)
            _measure(airflow, "worker", tasks)
            found[name] = [_measure(airflow, "worker", tasks) for _ in range(rounds)]
            time.sleep(SETTLE)
            processes = [one for one in _all() if one.status() != psutil.STATUS_ZOMBIE]
            idle[name] = (len(processes), sum(one.memory_full_info().pss for one in processes) / 2**20)
    costs = {name: statistics.median(cost for _, cost in pairs) for name, pairs in found.items()}
    rates = {name: statistics.median(rate for rate, _ in pairs) for name, pairs in found.items()}
    memory = f"{idle['ours'][1]:.0f} to {idle['local'][1]:.0f} MiB"
    processes_note = f"LocalExecutor {idle['local'][0]}"
    cost_note = f"{costs['ours']:.3f} to {costs['local']:.3f} CPU-s"
    rate_note = f"{rates['ours']:.1f} to {rates['local']:.1f}"
    row = "airflow-executor"
    return [
        Line(row, "idle processes", idle["ours"][0], 10, at_most=True, note=processes_note),
        Line(row, "idle PSS ÷ LocalExecutor's", idle["ours"][1] / idle["local"][1], 0.75, at_most=True, note=memory),
        Line(row, "CPU per task ÷ LocalExecutor's", costs["ours"] / costs["local"], note=cost_note, detail=found),
        Line(row, "tasks/s ÷ LocalExecutor's", rates["ours"] / rates["local"], note=rate_note),
    ]


@contextlib.contextmanager
def _airflow(programs: str, executor_name: str) -> Iterator[Airflow]:
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # all that they start stays below us, to be counted
    limits = {
        "AIRFLOW__CORE__PARALLELISM": "32",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(ACTIVE),
        "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "1",
    }
    with tempfile.TemporaryDirectory(prefix="air-bench-") as folder:
        airflow = Airflow(Path(programs), Path(folder), Path(folder) / "state", executor=executor_name, more=limits)
        code, printed = airflow.run("db", "migrate")
        if code:
            raise RuntimeError(printed)
        own = {name: value for name, value in airflow.environ().items() if name.startswith("AIRFLOW")}
        with manager(airflow.state_dir, **own, AIR_MAX_RUNNERS=str(ACTIVE)):
            try:
                airflow.start("api-server", "scheduler", "dag-processor", "triggerer")
                yield airflow
            finally:
                airflow.stop_all()
                for left in _all():
                    with contextlib.suppress(psutil.Error):
                        left.kill()


def _write(airflow: Airflow, body: str, tasks: int) -> None:
    airflow.write_dag(body, f"for n in range({tasks}):\n    {BODIES[body]}", NOTHING)


def _measure(airflow: Airflow, body: str, tasks: int) -> tuple[float, float]:
    """Return tasks a second, and CPU-seconds a task."""
    before = _cpu()
    run = airflow.trigger(body)
    found = {"state": "running"}
    while found["state"] not in ENDED:
        time.sleep(LOOK)
        with contextlib.suppress(requests.Timeout):  # SQLite lets one write at a time, and the API server waits with it
            found = airflow.ask("GET", run.path)
    spent = _cpu() - before
    if found["state"] != "success":
        message = f"{body} ended as {found['state']}"
        raise RuntimeError(message)
    seconds = (_time(found["end_date"]) - _time(found["start_date"])).total_seconds()
    return tasks / seconds, spent / tasks


def _all() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _cpu() -> float:
    """Return the CPU-seconds of all that runs below us, and of what has ended there."""
    total = 0.0
    for process in _all():
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


ROWS = (Row("airflow", modes), Row("airflow-executor", executor))

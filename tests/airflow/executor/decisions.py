"""Drives `AirExecutor` without a scheduler, on a state directory without a manager; run with Airflow's own Python.

Writes one JSON object: the results by the name of the test in `test_decisions` that judges them.
"""

from __future__ import annotations

import json
import resource
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.executors.workloads import ExecuteTask
from airflow.models.taskinstancekey import TaskInstanceKey

from air_executor.airflow.executor import AirExecutor
from air_executor.client import Client
from air_executor.model.state import FAILED, SUCCEEDED, JobState
from air_executor.store import codec
from tests.records import make_done

HOME = Path(sys.argv[1])


class Stage:
    """An executor, task instances for it, and ends of jobs as a manager would write them."""

    def __init__(self, name: str, parallelism: int = 4) -> None:
        self.executor = self.another(HOME / name, parallelism)
        self.client = Client(HOME / name)

    def another(self, state_dir: Path, parallelism: int = 4) -> AirExecutor:
        """Return an executor on a state directory, as another scheduler would have one."""
        executor = AirExecutor(parallelism=parallelism)
        executor.conf = _Conf({"state_dir": str(state_dir)})
        executor.start()
        return executor

    def queue(self, task: str, try_number: int = 1) -> Any:
        """Queue a task instance and return its workload."""
        ti = {
            "id": str(uuid.uuid4()),
            "dag_version_id": str(uuid.uuid4()),
            "task_id": task,
            "dag_id": "d",
            "run_id": "r",
            "try_number": try_number,
            "pool_slots": 1,
            "queue": "default",
            "priority_weight": 1,
            "external_executor_id": str(uuid.uuid4()),
        }
        workload = ExecuteTask.model_validate(
            {
                "ti": ti,
                "token": "t",
                "dag_rel_path": "d.py",
                "bundle_info": {"name": "b"},
                "log_path": f"{task}/{try_number}.log",
            }
        )
        self.executor.queue_workload(workload, session=None)
        return workload

    def start(self, *tasks: str) -> list[Any]:
        """Queue task instances and submit them."""
        workloads = [self.queue(task) for task in tasks]
        self.executor.heartbeat()
        return workloads

    def job(self, workload: Any) -> JobState:
        """Return the job of a task instance."""
        return self.client.status(f"af-{workload.ti.external_executor_id}")

    def end(self, workload: Any, phase: Any = SUCCEEDED, reason: str = "ok") -> None:
        """Write what a manager writes at the end of a job."""
        state = self.job(workload)
        state.phase, state.reason = phase, reason
        state.started_at = state.finished_at = 1.0
        state.tasks["task"].status = make_done(phase, reason, 1.0)
        state.version += 1
        Path(self.client.layout.state(state.id)).write_bytes(codec.dump_job(state))

    def events(self) -> dict[str, list[Any]]:
        """Return the events for the scheduler, by task."""
        found = self.executor.get_event_buffer()
        return {key.task_id: [str(state), info] for key, (state, info) in found.items()}


class _Conf:
    def __init__(self, mine: Mapping[str, str]) -> None:
        self._mine = mine

    def get(self, section: str, key: str, fallback: Any = None) -> Any:
        if section == "logging":
            return str(HOME / "logs")
        return self._mine.get(key, fallback) if section == "air_executor" else fallback

    getjson = getint = get


def slots() -> Any:
    """Report free slots while jobs start and end, and how many are submitted at once."""
    stage = Stage("slots", parallelism=2)
    first, second, third = stage.start("a", "b", "c")
    found = [stage.executor.slots_available, len(stage.executor.queued_tasks)]
    stage.end(second)
    stage.executor.heartbeat()  # submits nothing yet: the slot is free from the end of this one on
    stage.executor.heartbeat()
    found += [len(stage.executor.queued_tasks), stage.job(third).phase]
    stage.end(first)
    stage.end(third)
    stage.executor.sync()
    return [*found, stage.executor.slots_available, stage.executor.slots_occupied]


def reports() -> Any:
    """Report the events of good and bad ends."""
    stage = Stage("reports")
    good, bad, working = stage.start("good", "bad", "working")
    stage.executor.sync()
    before = stage.events()
    stage.end(good)
    stage.end(bad, FAILED, "start-failed")
    stage.executor.sync()
    events = stage.events()
    stage.executor.sync()
    left = [path.parts[-3] for path in (HOME / "reports/jobs").glob("*/workspace/*")]
    log = (HOME / "logs/bad/1.log").read_text().splitlines()
    return [
        before,
        events,
        stage.events(),
        [json.loads(line) for line in log],
        (HOME / "logs/good").exists(),
        left == [stage.job(working).id],
    ]


def adopts() -> Any:
    """Report which task instances another scheduler adopts, and the events of those that have ended meanwhile."""
    stage = Stage("adopts")
    working, ended = stage.start("working", "ended")
    stage.end(ended)
    never = SimpleNamespace(
        external_executor_id=str(uuid.uuid4()), key=TaskInstanceKey("d", "never", "r", 1, -1), task_id="never"
    )
    nameless = SimpleNamespace(
        external_executor_id=None, key=TaskInstanceKey("d", "nameless", "r", 1, -1), task_id="nameless"
    )
    tis = [working.ti, ended.ti, never, nameless]
    stage.executor.end()
    stage.executor = stage.another(HOME / "adopts")
    refused = [ti.task_id for ti in stage.executor.try_adopt_task_instances(tis)]
    occupied = stage.executor.slots_occupied
    stage.executor.sync()
    return [refused, occupied, stage.events(), stage.executor.slots_occupied]


def unreadable() -> Any:
    """Report that a task instance is adopted whose job cannot be read: it may be running."""
    stage = Stage("unreadable")
    (workload,) = stage.start("t")
    path = Path(stage.client.layout.state(stage.job(workload).id))
    path.write_text("{")
    stage.executor = stage.another(HOME / "unreadable")
    refused = stage.executor.try_adopt_task_instances([workload.ti])
    stage.executor.sync()
    return [len(refused), stage.executor.slots_occupied, stage.events()]


def removed() -> Any:
    """Report the events after a job was removed."""
    stage = Stage("removed")
    (workload,) = stage.start("t")
    folder = Path(stage.client.layout.job(stage.job(workload).id))
    folder.rename(HOME / "elsewhere")
    stage.executor.sync()
    return [stage.events(), stage.executor.slots_occupied]


def deferred() -> Any:
    """Report the events of a task instance that was resumed before the end of its first runner was found."""
    stage = Stage("deferred")
    (before,) = stage.start("t")
    (after,) = stage.start("t")
    stage.end(before)
    stage.executor.sync()
    found = [stage.events(), stage.executor.slots_occupied]
    stage.end(after)
    stage.executor.sync()
    return [*found, stage.events(), stage.executor.slots_occupied]


def revoked() -> Any:
    """Report what is left of a revoked task instance: nothing that could start."""
    stage = Stage("revoked")
    (workload,) = stage.start("t")
    queued = stage.queue("queued")
    for one in (workload, queued):
        stage.executor.revoke_task(ti=one.ti)
    root = HOME / "revoked"
    asked = [json.loads(path.read_text())["op"] for path in sorted((root / "inbox").glob("*.json"))]
    left = [str(path) for path in root.glob("jobs/*/workspace/*")]
    return [asked, left, stage.executor.slots_occupied, stage.events()]


def refused() -> Any:
    """Report that no task is lost while the volume refuses: it stays queued until it can be submitted."""
    stage = Stage("refused")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # as if the volume were full
    try:
        (workload,) = stage.start("t")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found = [list(stage.events()), len(stage.executor.queued_tasks)]
    stage.executor.heartbeat()
    return [*found, len(stage.executor.queued_tasks), stage.job(workload).phase]


def unstarted() -> Any:
    """Report that an executor which is never started, as in the API server, touches nothing."""
    executor = AirExecutor()
    executor.conf = _Conf({"state_dir": str(HOME / "unstarted")})
    ti = SimpleNamespace(external_executor_id=str(uuid.uuid4()), try_number=1)
    messages, lines = executor.get_task_log(ti, 1)
    return ["no job" in messages[0], lines, executor.get_task_log(ti, 2), (HOME / "unstarted").exists()]


CASES: list[Callable[[], Any]] = [
    slots,
    reports,
    adopts,
    unreadable,
    removed,
    deferred,
    revoked,
    refused,
    unstarted,
]

if __name__ == "__main__":
    (HOME / "results.json").write_text(json.dumps({case.__name__: case() for case in CASES}))

"""The choice of the job for a task instance, whatever the state of the one before."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from air_executor.airflow.attach import AttachedJob, JobAttacher, TaskTry, abandon, job_id, ref_of
from air_executor.airflow.labels import TaskInstanceLabels
from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.errors import CorruptFileError
from air_executor.model.state import CANCELLED, JobPhase, JobState
from air_executor.store.codec import dump_job

INSTANCE = TaskInstanceLabels("dag", "run", "task")
JOB = parse_job({"id": "airflow", "tasks": [{"command": "true"}]}, "job")
FIRST = TaskTry(1, 2, "uuid-1")
RETRY = TaskTry(2, 2, "uuid-2")
"""Airflow keeps the number of tries when a try fails or its worker is lost."""
CLEARED = TaskTry(2, 3, "uuid-2")
"""Airflow raises the number when a person clears the task."""
RESUMED = FIRST
IN_TRIGGERER = TaskTry(1, None, "uuid-1")
"""The triggerer does not know how many tries there may be."""
NEXT_IN_TRIGGERER = TaskTry(2, None, "uuid-2")


@dataclass
class Case:
    """One task instance, whose manager is the test."""

    client: Client

    def attach(self, this_try: TaskTry, *, durable: bool = True, cancel_on_kill: bool = True) -> AttachedJob | None:
        """Ask for the job of a try."""
        return JobAttacher(self.client, INSTANCE, this_try, durable=durable, cancel_on_kill=cancel_on_kill).attach(JOB)

    def job(self, this_try: TaskTry) -> JobState:
        """Return the job of a try, which must get one."""
        attached = self.attach(this_try)
        assert attached is not None
        return attached.state

    def end(self, state: JobState, phase: JobPhase, delivered_to: TaskTry | None = None) -> None:
        """End a job."""
        state.phase = phase
        Path(self.client.layout.state(state.id)).write_bytes(dump_job(state))
        if delivered_to:
            JobAttacher(self.client, INSTANCE, delivered_to).set_delivered(state)

    def cancelled(self) -> list[str]:
        """Return the jobs with a request to cancel them."""
        requests = [self.client.inbox.read(name) for name in self.client.inbox.pending()]
        return [request.job for request in requests if request and request.op == "cancel"]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Return a task instance without a job."""
    return Case(Client(tmp_path / "state"))


@pytest.mark.parametrize("later", [FIRST, RETRY, IN_TRIGGERER])
def test_running_job_is_attached_to(case: Case, later: TaskTry) -> None:
    """The same try after a restart, and a retry after a lost worker, attach to the running job and submit nothing."""
    first = case.job(FIRST)
    again = case.attach(later)
    assert again is not None
    assert again.existed
    assert (first.id, first.uid) == (again.state.id, again.state.uid)
    assert case.cancelled() == []


def test_simultaneous_calls_make_one_job(tmp_path: Path) -> None:
    """Any number of simultaneous calls make one job."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: Case(Client(tmp_path / "state")).attach(FIRST), range(40)))
    assert len({attached.state.uid for attached in found if attached}) == 1
    assert [attached.existed for attached in found if attached].count(False) == 1


@pytest.mark.parametrize(
    ("phase", "delivered_to", "now", "generation"),
    [
        ("succeeded", None, RETRY, 1),  # the worker was lost before Airflow knew
        ("succeeded", None, CLEARED, 2),  # cleared before Airflow knew of the success
        ("succeeded", None, FIRST, 1),
        ("succeeded", FIRST, FIRST, 1),  # the triggerer was lost before Airflow knew
        ("succeeded", FIRST, RETRY, 1),  # the worker was
        ("succeeded", FIRST, CLEARED, 2),  # cleared
        ("succeeded", FIRST, TaskTry(1, 2, "uuid-9"), 2),  # a run of the same name, created again
        ("succeeded", IN_TRIGGERER, NEXT_IN_TRIGGERER, 2),
        ("failed", None, FIRST, 1),  # while no triggerer was running: no reason to run it again
        ("failed", None, IN_TRIGGERER, 1),
        ("failed", None, RETRY, 2),
        ("failed", FIRST, RETRY, 2),
        ("failed", FIRST, FIRST, 1),
        ("failed", IN_TRIGGERER, IN_TRIGGERER, 1),
        ("cancelled", None, FIRST, 1),
        ("cancelled", None, RETRY, 2),
    ],
)
def test_ended_job(case: Case, phase: JobPhase, delivered_to: TaskTry | None, now: TaskTry, generation: int) -> None:
    """The try that submitted a job gets its end, a retry its success; after that the next generation is submitted."""
    case.end(case.job(FIRST), phase, delivered_to)
    attached = case.attach(now)
    assert attached is not None
    assert attached.state.id == job_id(INSTANCE, generation)
    assert attached.existed == (generation == 1)


@pytest.mark.parametrize(("before", "now"), [(FIRST, CLEARED), (IN_TRIGGERER, NEXT_IN_TRIGGERER)])
def test_cleared_task_cancels_first(case: Case, before: TaskTry, now: TaskTry) -> None:
    """A task that is cleared while its job runs gets a new job, once the old one has ended."""
    old = case.job(before)
    assert case.attach(now) is None
    assert case.attach(now) is None
    assert case.cancelled() == [old.id]
    case.end(old, "cancelled")
    assert case.job(now).id == job_id(INSTANCE, 2)


def test_half_cleared_try(case: Case) -> None:
    """A triggerer that reads the next try's UUID before its number submits for no try: the next try has its own job."""
    half = IN_TRIGGERER._replace(uuid=NEXT_IN_TRIGGERER.uuid)
    case.end(case.job(IN_TRIGGERER), "cancelled", IN_TRIGGERER)
    second = case.job(half)
    assert second.id == job_id(INSTANCE, 2)
    assert case.attach(NEXT_IN_TRIGGERER) is None
    case.end(second, "cancelled")
    assert case.job(NEXT_IN_TRIGGERER).id == job_id(INSTANCE, 3)


def test_clear_without_cancel_on_kill_attaches(case: Case) -> None:
    """With `cancel_on_kill=False` a cleared task attaches to its job."""
    case.attach(FIRST)
    attached = case.attach(CLEARED, cancel_on_kill=False)
    assert attached is not None
    assert attached.existed
    assert case.cancelled() == []


def test_not_durable(case: Case) -> None:
    """With `durable=False` a retry cancels the running job of the earlier try."""
    old = case.job(FIRST)
    assert case.attach(RETRY, durable=False) is None
    assert case.cancelled() == [old.id]
    case.end(old, "cancelled")
    attached = case.attach(RETRY, durable=False)
    assert attached is not None
    assert not attached.existed


def test_abandoned_job_is_not_attached_to(case: Case) -> None:
    """A try waits for the end of an abandoned job, even before its manager has read the request."""
    old = case.job(FIRST)
    abandon(case.client, ref_of(old))
    assert case.attach(RETRY) is None
    case.end(old, "cancelled")
    assert case.job(RETRY).id == job_id(INSTANCE, 2)


def test_stopping_job_is_not_attached_to(case: Case) -> None:
    """A retry waits for the end of a job that a person cancels with `air-executor cancel`."""
    old = case.job(FIRST)
    old.stop = CANCELLED
    Path(case.client.layout.state(old.id)).write_bytes(dump_job(old))
    assert case.attach(RETRY) is None
    case.end(old, "cancelled")
    assert case.job(RETRY).id == job_id(INSTANCE, 2)


def test_pruned_generation(case: Case) -> None:
    """A try attaches to the running job, even if an earlier generation was pruned."""
    case.end(case.job(FIRST), "failed")
    second = case.job(RETRY)
    shutil.rmtree(case.client.layout.job(job_id(INSTANCE, 1)))
    attached = case.attach(TaskTry(3, 2, "uuid-3"))
    assert attached is not None
    assert (attached.existed, attached.state.uid) == (True, second.uid)


def test_clear_with_fewer_retries(case: Case) -> None:
    """A cleared task runs again, even if the DAG's retries were lowered."""
    case.end(case.job(TaskTry(1, 3, "uuid-1")), "succeeded", TaskTry(1, 3, "uuid-1"))
    attached = case.attach(TaskTry(2, 1, "uuid-2"))
    assert attached is not None
    assert not attached.existed


def test_each_instance_has_its_own_job() -> None:
    """Mapped tasks and other runs do not share a job."""
    others = (INSTANCE._replace(map_index=0), INSTANCE._replace(run="other"), INSTANCE._replace(task="other"))
    assert len({job_id(instance, 1) for instance in (INSTANCE, *others)}) == 4


def test_job_names_its_task_instance(case: Case) -> None:
    """Labels and environment name DAG, run, task and try; the job keeps its own, except labels of that prefix."""
    tasks = [{"command": "true", "env": {"TEAM": "b"}}]
    job = parse_job({"id": "airflow", "labels": {"team": "b", "airflow-max-tries": "many"}, "tasks": tasks}, "job")
    instance = TaskInstanceLabels("dag", "manual\n" + "x" * 300, "task", 4)
    attached = JobAttacher(case.client, instance, FIRST).attach(job)
    assert attached is not None
    state = case.client.status(attached.state.id)
    labels = state.spec.labels
    assert labels["team"] == "b"
    assert (labels["airflow-dag"], labels["airflow-task"], labels["airflow-map-index"]) == ("dag", "task", "4")
    env = state.env_of(state.tasks["_1"])
    assert (env["TEAM"], env["AIRFLOW_CTX_DAG_ID"], env["AIRFLOW_CTX_MAP_INDEX"]) == ("b", "dag", "4")
    assert labels["airflow-run"] == "manual?" + "x" * 249


def test_unreadable_note(case: Case) -> None:
    """An unreadable note counts neither as a delivery nor as none."""
    state = case.job(FIRST)
    case.end(state, "succeeded", FIRST)
    Path(case.client.layout.note(f"{state.id}-{state.uid}", "delivered")).write_text("{")
    with pytest.raises(CorruptFileError, match="delivered is no JSON"):
        case.attach(RETRY)

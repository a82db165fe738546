"""Which job belongs to a task instance, whatever became of the one before."""

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
from air_executor.model.state import CANCELLED, JobState
from air_executor.store.codec import dump_job

INSTANCE = TaskInstanceLabels("dag", "run", "task")
JOB = parse_job({"id": "airflow", "tasks": [{"command": "true"}]}, "job")
FIRST = TaskTry(1, 2, "uuid-1")
RETRY = TaskTry(2, 2, "uuid-2")
"""Airflow keeps the number of tries when a try fails or its worker is lost."""
CLEARED = TaskTry(2, 3, "uuid-2")
"""It raises that when somebody clears the task."""
RESUMED = FIRST
IN_TRIGGERER = TaskTry(1, None, "uuid-1")
"""The triggerer does not know how many tries there may be."""
NEXT_IN_TRIGGERER = TaskTry(2, None, "uuid-2")


@dataclass
class Case:
    """One task instance, whose manager is the test."""

    client: Client

    def take(self, now: TaskTry, *, durable: bool = True, cancel_on_kill: bool = True) -> AttachedJob | None:
        """Ask for the job of a try."""
        return JobAttacher(self.client, INSTANCE, now, durable=durable, cancel_on_kill=cancel_on_kill).take(JOB)

    def job(self, now: TaskTry) -> JobState:
        """Return the job of a try that gets one."""
        taken = self.take(now)
        assert taken is not None
        return taken.state

    def end(self, state: JobState, phase: str, delivered_to: TaskTry | None = None) -> None:
        """Bring a job to its end."""
        state.phase = phase
        Path(self.client.layout.state(state.id)).write_bytes(dump_job(state))
        if delivered_to:
            JobAttacher(self.client, INSTANCE, delivered_to).deliver(state)

    def cancelled(self) -> list[str]:
        """Return the jobs whose cancellation was asked for."""
        requests = [self.client.inbox.read(name) for name in self.client.inbox.pending()]
        return [request.job for request in requests if request and request.op == "cancel"]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Return a task instance without a job."""
    return Case(Client(tmp_path / "state"))


@pytest.mark.parametrize("later", [FIRST, RETRY, IN_TRIGGERER])
def test_what_is_at_work_is_attached_to(case: Case, later: TaskTry) -> None:
    """The same try, resumed or restarted, and a retry after a lost worker find the job at work, and submit nothing."""
    first = case.job(FIRST)
    again = case.take(later)
    assert again is not None
    assert again.attached
    assert (first.id, first.uid) == (again.state.id, again.state.uid)
    assert case.cancelled() == []


def test_of_many_at_once_one_submits(tmp_path: Path) -> None:
    """However many ask at the same time, there is one job."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: Case(Client(tmp_path / "state")).take(FIRST), range(40)))
    assert len({taken.state.uid for taken in found if taken}) == 1
    assert [taken.attached for taken in found if taken].count(False) == 1


@pytest.mark.parametrize(
    ("phase", "delivered_to", "now", "generation"),
    [
        ("succeeded", None, RETRY, 1),  # the worker was lost before anybody heard
        ("succeeded", None, CLEARED, 2),  # a person wants it anew, before Airflow heard of the success
        ("succeeded", None, FIRST, 1),
        ("succeeded", FIRST, FIRST, 1),  # the triggerer was lost before Airflow heard
        ("succeeded", FIRST, RETRY, 1),  # the worker was
        ("succeeded", FIRST, CLEARED, 2),  # a person wants it anew
        ("succeeded", FIRST, TaskTry(1, 2, "uuid-9"), 2),  # a run of the same name, made anew
        ("succeeded", IN_TRIGGERER, NEXT_IN_TRIGGERER, 2),
        ("failed", None, FIRST, 1),  # while there was no triggerer: that is no reason to run it again
        ("failed", None, IN_TRIGGERER, 1),
        ("failed", None, RETRY, 2),
        ("failed", FIRST, RETRY, 2),
        ("failed", FIRST, FIRST, 1),
        ("failed", IN_TRIGGERER, IN_TRIGGERER, 1),
        ("cancelled", None, FIRST, 1),
        ("cancelled", None, RETRY, 2),
    ],
)
def test_what_has_ended(case: Case, phase: str, delivered_to: TaskTry | None, now: TaskTry, generation: int) -> None:
    """The try that asked for a job hears how it ended, a retry of its success; then comes the next generation."""
    case.end(case.job(FIRST), phase, delivered_to)
    taken = case.take(now)
    assert taken is not None
    assert taken.state.id == job_id(INSTANCE, generation)
    assert taken.attached == (generation == 1)


@pytest.mark.parametrize(("before", "now"), [(FIRST, CLEARED), (IN_TRIGGERER, NEXT_IN_TRIGGERER)])
def test_what_was_cleared_is_cancelled_first(case: Case, before: TaskTry, now: TaskTry) -> None:
    """Who clears a task whose job is at work gets a new job, once the old one has ended."""
    old = case.job(before)
    assert case.take(now) is None
    assert case.take(now) is None
    assert case.cancelled() == [old.id]
    case.end(old, "cancelled")
    assert case.job(now).id == job_id(INSTANCE, 2)


def test_a_try_that_was_met_half_cleared(case: Case) -> None:
    """A triggerer that sees the next try's UUID before its number submits for nobody: the next try has its own job."""
    half = IN_TRIGGERER._replace(uuid=NEXT_IN_TRIGGERER.uuid)
    case.end(case.job(IN_TRIGGERER), "cancelled", IN_TRIGGERER)
    second = case.job(half)
    assert second.id == job_id(INSTANCE, 2)
    assert case.take(NEXT_IN_TRIGGERER) is None
    case.end(second, "cancelled")
    assert case.job(NEXT_IN_TRIGGERER).id == job_id(INSTANCE, 3)


def test_without_cancel_on_kill_a_clear_attaches(case: Case) -> None:
    """Who does not want jobs cancelled with their tasks finds them again."""
    case.take(FIRST)
    taken = case.take(CLEARED, cancel_on_kill=False)
    assert taken is not None
    assert taken.attached
    assert case.cancelled() == []


def test_not_durable(case: Case) -> None:
    """Where jobs are not to outlive their worker, a retry cancels what is left of the one before."""
    old = case.job(FIRST)
    assert case.take(RETRY, durable=False) is None
    assert case.cancelled() == [old.id]
    case.end(old, "cancelled")
    taken = case.take(RETRY, durable=False)
    assert taken is not None
    assert not taken.attached


def test_nobody_attaches_to_what_was_given_up(case: Case) -> None:
    """What a kill has cancelled is waited for, even before its manager has heard of it."""
    old = case.job(FIRST)
    abandon(case.client, ref_of(old))
    assert case.take(RETRY) is None
    case.end(old, "cancelled")
    assert case.job(RETRY).id == job_id(INSTANCE, 2)


def test_nobody_attaches_to_what_is_being_stopped(case: Case) -> None:
    """A retry waits for the end of what a person cancels with `air-executor cancel`."""
    old = case.job(FIRST)
    old.stop = CANCELLED
    Path(case.client.layout.state(old.id)).write_bytes(dump_job(old))
    assert case.take(RETRY) is None
    case.end(old, "cancelled")
    assert case.job(RETRY).id == job_id(INSTANCE, 2)


def test_what_was_pruned_leaves_no_hole(case: Case) -> None:
    """The job at work is attached to, also where an earlier generation was removed for good."""
    case.end(case.job(FIRST), "failed")
    second = case.job(RETRY)
    shutil.rmtree(case.client.layout.job(job_id(INSTANCE, 1)))
    taken = case.take(TaskTry(3, 2, "uuid-3"))
    assert taken is not None
    assert (taken.attached, taken.state.uid) == (True, second.uid)


def test_a_clear_with_fewer_retries(case: Case) -> None:
    """Who lowers a DAG's retries and clears its task gets it run anew as well."""
    case.end(case.job(TaskTry(1, 3, "uuid-1")), "succeeded", TaskTry(1, 3, "uuid-1"))
    taken = case.take(TaskTry(2, 1, "uuid-2"))
    assert taken is not None
    assert not taken.attached


def test_instances_have_jobs_of_their_own() -> None:
    """Mapped tasks and other runs do not share a job."""
    others = (INSTANCE._replace(map_index=0), INSTANCE._replace(run="other"), INSTANCE._replace(task="other"))
    assert len({job_id(instance, 1) for instance in (INSTANCE, *others)}) == 4


def test_a_job_says_whose_it_is(case: Case) -> None:
    """Labels and environment name DAG, run, task and try; the job's own stay, but none can pass for ours."""
    tasks = [{"command": "true", "env": {"TEAM": "b"}}]
    job = parse_job({"id": "airflow", "labels": {"team": "b", "airflow-max-tries": "many"}, "tasks": tasks}, "job")
    instance = TaskInstanceLabels("dag", "manual\n" + "x" * 300, "task", 4)
    taken = JobAttacher(case.client, instance, FIRST).take(job)
    assert taken is not None
    labels = case.client.status(taken.state.id).spec["labels"]
    assert labels["team"] == "b"
    assert (labels["airflow-dag"], labels["airflow-task"], labels["airflow-map-index"]) == ("dag", "task", "4")
    env = case.client.status(taken.state.id).tasks["t1"].spec["env"]
    assert (env["TEAM"], env["AIRFLOW_CTX_DAG_ID"], env["AIRFLOW_CTX_MAP_INDEX"]) == ("b", "dag", "4")
    assert labels["airflow-run"] == "manual?" + "x" * 249


def test_a_note_that_cannot_be_read_stops(case: Case) -> None:
    """Garbage in a note is neither taken for a delivery nor for none."""
    state = case.job(FIRST)
    case.end(state, "succeeded", FIRST)
    Path(case.client.layout.note(f"{state.id}-{state.uid}", "delivered")).write_text("{")
    with pytest.raises(CorruptFileError, match="delivered is no JSON"):
        case.take(RETRY)

"""What users ask of a job, and what ends tasks without a run of their own: answers, child jobs, further runs."""

from __future__ import annotations

from typing import Any

import pytest

from air_executor.core.transitions import LiveJob
from air_executor.model import events as ev
from air_executor.model.job import Task
from air_executor.model.keep import KeptRunner
from air_executor.model.memo import Reused
from air_executor.model.state import Queued, RunnerOrigin
from air_executor.model.usage import Moments
from tests.core.test_decisions import CLEANUP, ask
from tests.core.test_transitions import end, make, phases, ready, run, start
from tests.records import make_done

THEN = {"id": "then", "after": ["a"]}


@pytest.mark.parametrize(
    ("op", "phase", "reason", "left"),
    [
        ("approve", "succeeded", "ok", "a:suc then:que z:que"),
        ("reject", "failed", "declined", "a:fai then:ski z:ski"),
        ("expire", "failed", "timeout", "a:fai then:ski z:ski"),
    ],
)
def test_the_answer_to_a_question_ends_its_task(op: str, phase: str, reason: str, left: str) -> None:
    """With who gave it and the values that came with it; others go on, or are stopped, as after a run."""
    job = make("a", THEN, "z")
    job.state.tasks["a"].approve = "Go on?"
    job = LiveJob(job.state)
    job.apply(ev.Requested(4.0, "r", op, "a", message="by ann", result={"region": "eu"}), 1)
    task = job.state.tasks["a"]
    assert (task.status, task.reason) == (
        make_done(phase, reason, 4.0, message="by ann", result={"region": "eu"}),
        reason,
    )
    assert phases(job) == left
    if op == "approve":
        assert job.state.tasks["then"].ready_at == 4.0


@pytest.mark.parametrize(
    ("phase", "reason", "ended", "left"),
    [
        ("succeeded", "ok", "succeeded", "a:suc then:que z:que kid:suc"),
        ("failed", "error", "failed", "a:suc then:ski z:ski kid:fai"),
        ("cancelled", "cancelled", "failed", "a:suc then:ski z:ski kid:fai"),
    ],
)
def test_the_end_of_a_child_job_ends_its_task(phase: str, reason: str, ended: str, left: str) -> None:
    """What is not a success is a failure, with the reason and the words of that job; its results are the task's."""
    job = make("a", THEN, "z")
    run(job, "a", queued=[Task(id="kid", joins="0badcafe")])
    job.apply(ev.Joined(5.0, "kid", phase, reason, "job kid did", {"x": 1}), 1)
    task = job.state.tasks["kid"]
    assert (task.status, task.reason) == (make_done(ended, reason, 5.0, message="job kid did", result={"x": 1}), reason)
    assert phases(job) == left
    if ended == "failed":
        assert job.state.tasks["z"].finished_at == make_done("skipped", "upstream", 5.0).finished_at
    else:
        assert job.state.tasks["then"].ready_at == 5.0


def test_a_task_that_runs_again_begins_anew() -> None:
    """It counts how often and since when; its retries are those of each run, and what it queues is its own."""
    job = make({"id": "a", "retries": 2}, max_runners=2)
    run(job, "a", "error", at=2.0, retry_at=2.5)
    run(job, "a", "lost", at=3.0, retry_at=3.5)
    run(job, "a", "again", at=4.0, retry_at=10.0, queued=[Task(id="kid", command="x")])
    task, kid = job.state.tasks["a"], job.state.tasks["kid"]
    assert (task.again, task.again_since, task.charged, task.faults, task.runs) == (1, 4.0, 0, 0, 3)
    assert (kid.queued_by, kid.ready_at, task.status, task.ready_at) == ("a", 4.0, Queued(10.0), 10.0)
    run(job, "a", "again", at=11.0)
    assert (task.again, task.again_since, task.status, task.ready_at) == (2, 4.0, Queued(), 11.0)


def test_a_backfill_retries_a_job_behind_its_earlier_runs() -> None:
    """A retry that a user asks for leaves both as they are."""
    job = make("a")
    run(job, "a", "error")
    ask(job, "retry", 4.0)
    assert (job.state.earlier_runs, job.state.backfill) == ({}, False)
    run(job, "a", "error", at=5.0)
    job.apply(ev.Requested(6.0, "r", "retry", earlier_runs={"j-1": "0badcafe"}), 1)
    assert (job.state.earlier_runs, job.state.backfill) == ({"j-1": "0badcafe"}, True)


def test_new_amounts_of_a_budget_replace_the_old_ones() -> None:
    """Those that are named; with any request that has some."""
    job = make("a", budget={"usd": 10, "rows": 5})
    run(job, "a", "error")
    job.apply(ev.Requested(4.0, "r", "retry", budget={"usd": 20.0}), 1)
    assert job.state.spec.budget == {"usd": 20.0, "rows": 5}


def test_a_cancelled_job_is_paused_no_more() -> None:
    """Its clean-up must go on; from then on it could."""
    job = make("a", {"id": "tidy", "when": "always", "after": ["z"]}, "z", max_runners=2)
    run(job, "z", at=2.0)
    ask(job, "pause", 3.0)
    ask(job, "cancel", 5.0)
    assert (job.state.phase, job.state.tasks["tidy"].ready_at, ready(job)) == ("running", 5.0, ["tidy"])


def failed(job: LiveJob, task: str, seq: int, **more: Any) -> None:  # noqa: ANN401 - event fields
    """Run a task that fails, and whose runner stays."""
    origin = RunnerOrigin(backend="docker", host="here", runner=f"air-j--{seq}")
    job.apply(ev.Started(2.0, task, seq, 0, origin=origin), 1)
    moments = Moments(2.0, 2.0, 3.0, 3.26049)
    job.apply(ev.Ended(3.0, seq, "error", moments, keep_until=60.0, backend="docker", **more), 1)


def test_a_runner_that_stays_can_be_found() -> None:
    """By its name, and with what it costs; a cancel of the job lets all of them go, a rerun that of its task."""
    job = make("a", "b", on_failure="continue")
    failed(job, "a", 1, price={"runner": 2.0}, currency="EUR", cost=0.5)
    failed(job, "b", 2)
    first = KeptRunner(1, 0, 3.26, 60.0, "docker", "air-j--1", {"runner": 2.0}, "EUR")
    second = KeptRunner(2, 0, 3.26, 60.0, "docker", "air-j--2")
    assert job.state.kept == {"a": first, "b": second}
    ask(job, "rerun", 20.0, "b")
    assert [one.until for one in job.state.kept.values()] == [60.0, 20.0]
    ask(job, "cancel", 30.0)
    assert [one.until for one in job.state.kept.values()] == [30.0, 20.0]


@pytest.mark.parametrize(("downstream", "left"), [(True, "a:que b:que z:suc"), (False, "a:que b:suc z:suc")])
def test_a_rerun_with_other_fields(left: str, *, downstream: bool) -> None:
    """The task has those, and all that was counted of its runs begins anew; its result comes from no cache."""
    job = make({"id": "a", "retries": 3}, {"id": "b", "after": ["a"]}, "z")
    for name in "zab":
        run(job, name, at=3.0)
    task = job.state.tasks["a"]
    task.charged, task.faults, task.again, task.again_since, task.resolved = 1, 2, 3, 1.0, True
    task.cached = Reused(key="k", job="old", run="0badcafe-1")
    changed = Task(id="a", command="y", retries=1)
    job.apply(ev.Requested(7.0, "r", "rerun", "a", [changed], downstream=downstream), 1)
    assert (phases(job), task.command, task.retries, task.status, task.ready_at) == (left, "y", 1, Queued(), 7.0)
    assert (task.charged, task.faults, task.again, task.rerun, task.resolved) == (0, 0, 0, True, False)
    assert [task.again_since, task.cached] == [None, None]
    assert job.state.tasks["b"].rerun is downstream
    run(job, "a", "error", at=8.0)
    ask(job, "retry", 9.0)
    assert task.rerun is False, "a retry may take a result from the cache"


def test_a_reopened_job_is_as_if_it_had_never_stopped() -> None:
    """It knows how it had ended; its clean-up has all its time again."""
    job = make("a", CLEANUP)
    for at in (2.0, 3.0, 4.0):
        ask(job, "cancel", at)
    assert (job.state.phase, job.state.cleanup_over, job.state.cleanup_from) == ("cancelled", True, 3.0)
    job.state.message, job.state.over_budget = "why", "usd"
    ask(job, "retry", 5.0)
    state = job.state
    assert (state.phase, state.reopened_from, state.reason) == ("queued", "cancelled", None)
    assert (state.stop, state.message, state.over_budget, state.cleanup_from) == (None, None, None, None)
    assert state.cleanup_over is False


def test_a_retry_in_a_job_that_is_paused_for_its_budget() -> None:
    """It goes on when it is resumed, and not before."""
    job = make("a", "b", budget={"usd": 1}, on_budget="pause", on_failure="continue")
    run(job, "a", "error", reported={"usd": 2.0})
    ask(job, "retry", 4.0, "a")
    assert (job.state.phase, job.state.over_budget, phases(job)) == ("paused", "usd", "a:que b:que")


def test_what_is_said_of_a_runner_changes_no_job() -> None:
    """It is noted, as every request."""
    job = make("a")
    seq = start(job, "a")
    version = job.state.version
    ask(job, "confirm-gone", 4.0)
    assert (phases(job), job.state.version) == ("a:run", version + 1)
    end(job, seq)
    assert job.state.phase == "succeeded"

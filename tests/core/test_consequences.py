"""What follows from a decision: budgets that are used up, conditions, tasks queued again, and the end of the job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from air_executor.core.late_fields import LATE_FIELDS
from air_executor.core.outcome import CLEANUP_OVER, DEADLINE_PASSED
from air_executor.core.submission import initial_state, parse_job
from air_executor.core.transitions import LiveJob
from air_executor.model import events as ev
from air_executor.model.job import Task, Unresolved
from air_executor.model.memo import Reused
from air_executor.model.reports import ProgressReport
from air_executor.model.state import Queued, Running, Status
from tests.core.test_decisions import CLEANUP, ask
from tests.core.test_transitions import NO_TIME, end, make, phases, ready, run, start
from tests.records import make_done


def stopped(job: LiveJob, task: str) -> tuple[str | None, str | None]:
    """Return why a run is to end, and in which words."""
    status = job.state.tasks[task].status
    assert isinstance(status, Running)
    return status.stop, status.stop_message


def budgeted(*tasks: Any, **fields: Any) -> LiveJob:  # noqa: ANN401 - JSON
    """Return a job that may use ten dollars, and stops then."""
    return make(*tasks, budget={"usd": 10}, **{"on_budget": "stop", **fields})


# Budgets


def test_a_job_whose_budget_is_used_up_is_stopped() -> None:
    """By the run that used the last of it: it says how much, and leaves its clean-up tasks the time that they have."""
    job = budgeted("a", "b", "c", CLEANUP, max_runners=2)
    start(job, "b")
    run(job, "a", at=3.0, reported={"usd": 9.5})
    assert (job.state.stop, job.state.over_budget) == (None, None)
    run(job, "c", at=4.0, reported={"usd": 1.5})
    assert (job.state.stop, job.state.over_budget) == ("budget", "usd")
    assert job.state.message == "it has used 11 of 10 usd (110 %) of its budget"
    assert stopped(job, "b") == ("cancelled", None)
    assert (phases(job), job.state.cleanup_until) == ("a:suc b:run c:suc tidy:que", 124.0)


def test_a_job_that_is_to_pause_does_so_once_its_budget_is_used_up() -> None:
    """Its open runs go on, and what they use more of it changes nothing."""
    job = budgeted("a", "b", "c", on_budget="pause", max_runners=2)
    seq = start(job, "b")
    run(job, "a", at=3.0, reported={"usd": 10.0})
    assert (job.state.phase, job.state.over_budget, job.state.stop) == ("paused", "usd", None)
    assert stopped(job, "b") == (None, None)
    end(job, seq, at=4.0, reported={"usd": 5.0})
    assert (job.state.phase, phases(job)) == ("paused", "a:suc b:suc c:que")
    ask(job, "resume", 5.0)
    assert (job.state.phase, job.state.over_budget) == ("paused", "usd"), "it has been given nothing"
    job.apply(ev.Requested(6.0, "r", "resume", budget={"usd": 20}), 1)
    assert (job.state.phase, job.state.over_budget) == ("running", None)


@pytest.mark.parametrize(
    ("on_budget", "phase", "message"),
    [("pause", "paused", None), ("stop", "running", "it has used 12 of 10 usd (120 %) of its budget")],
)
def test_open_runs_can_use_up_a_budget(on_budget: str, phase: str, message: str | None) -> None:
    """The manager tells by how much."""
    job = budgeted("a", "b", CLEANUP, on_budget=on_budget)
    start(job, "a")
    job.apply(ev.OverBudget(5.0, "usd", 12.0), 1)
    assert (job.state.phase, job.state.over_budget, job.state.message) == (phase, "usd", message)
    assert (job.state.stop, job.state.cleanup_from) == (("budget", 5.0) if on_budget == "stop" else (None, None))


def test_the_run_that_ends_a_job_cannot_exceed_its_budget() -> None:
    """Nothing is left to stop, and what stops already goes on to do so; one without a budget has none to exceed."""
    last = budgeted("a")
    run(last, "a", reported={"usd": 11.0})
    cancelled = budgeted("a", "b", CLEANUP)
    seq = start(cancelled, "a")
    ask(cancelled, "cancel", 3.0)
    end(cancelled, seq, "cancelled", 4.0, reported={"usd": 11.0})
    free = make("a", "b")
    run(free, "a", reported={"usd": 11.0})
    assert (last.state.phase, last.state.over_budget) == ("succeeded", None)
    assert (cancelled.state.stop, cancelled.state.over_budget, free.state.stop) == ("cancelled", None, None)


def test_a_job_ends_with_the_run_that_uses_up_its_budget() -> None:
    """All that was queued is skipped; the decision tells that the job has ended, the ones before it that it has not."""
    job = budgeted("a", "b")
    seq = start(job, "a")
    assert job.apply(ev.Late(2.5), 1) is False
    assert job.apply(ev.Ended(3.0, seq, "ok", NO_TIME, reported={"usd": 11.0}), 1) is True
    assert (job.state.phase, job.state.reason, job.state.finished_at) == ("failed", "budget", 3.0)
    assert job.apply(ev.Requested(4.0, "r", "cancel"), 1) is False, "it had ended"


def test_a_decision_tells_whether_the_job_has_ended_by_it() -> None:
    """Neither a job that is stopped, nor one that pauses for its budget, has ended while it has a run."""
    job = budgeted("a", "b", max_runners=2)
    first, second = start(job, "a"), start(job, "b")
    assert job.apply(ev.Ended(3.0, first, "ok", NO_TIME, reported={"usd": 11.0}), 1) is False
    assert job.apply(ev.Ended(4.0, second, "cancelled", NO_TIME), 1) is True
    plain = make("a")
    assert plain.apply(ev.Ended(3.0, start(plain, "a"), "ok", NO_TIME), 1) is True


# Conditions


@pytest.mark.parametrize(
    ("found", "expected", "left"),
    [
        (3, Queued(), "z:que b:que c:que"),
        (2, make_done("skipped", "only_if", 4.0, message="a.n is 2, not > 2"), "z:que b:ski c:ski"),
        (
            "x",
            make_done("failed", "rejected", 4.0, message='only_if: a.n must be a number to be compared by gt, got "x"'),
            "z:ski b:fai c:ski",
        ),
    ],
)
def test_a_condition_is_judged_once_its_result_is_there(found: object, expected: Status, left: str) -> None:
    """Met, not met, or impossible to tell: then the task has failed, which stops its job."""
    job = make(
        "a", "z", {"id": "b", "after": ["a"], "only_if": {"result": "a.n", "gt": 2}}, {"id": "c", "after": ["b"]}
    )
    assert job.state.tasks["b"].status == Queued(), "nothing is known yet"
    run(job, "a", at=4.0, result={"n": found})
    assert job.state.tasks["b"].status == expected
    assert phases(job) == f"a:suc {left}"


def test_each_condition_is_judged_by_itself() -> None:
    """What a skipped task touches does not keep the others from being judged, nor from becoming ready."""
    conditional = [{"id": f"c{n}", "after": ["a"], "only_if": {"result": "a.n", "gt": n}} for n in range(4)]
    followers = [{"id": f"f{n}", "after": [f"c{n}"], "when": "always"} for n in range(4)]
    job = make("a", *conditional, *followers, on_failure="continue", max_runners=9)
    run(job, "a", at=4.0, result={"n": 2})
    assert phases(job) == "a:suc c0:que c1:que c2:ski c3:ski f0:que f1:que f2:que f3:que"
    assert (ready(job), job.state.tasks["f3"].ready_at) == (["c0", "c1", "f2", "f3"], 4.0)


def test_only_questions_wait_for_other_jobs_to_end() -> None:
    """Any other task is as ready as ever: it is its job that does not start."""
    raw = [{"id": "a", "command": "x"}, {"id": "q", "approve": "Go on?"}]
    state = initial_state(parse_job({"id": "j", "tasks": raw, "after": ["up"]}), uid="00000001", now=1.0)
    state.after_uids = {"up": "00000002"}
    for task in state.tasks.values():
        task.ready_at = None
    job = LiveJob(state)
    assert [task.ready_at for task in job.state.tasks.values()] == [1.0, None]


# Tasks that are queued


def test_a_task_that_is_queued_again_takes_the_place_of_the_one_before() -> None:
    """After its parent ran again: it stands behind all others, and keeps the number and the history of its runs."""
    job = make("a", {"id": "z", "delay": 100}, CLEANUP, max_runners=2)
    kid = Task(id="kid", command="x")
    run(job, "a", queued=[kid])
    run(job, "kid", at=4.0)
    ask(job, "rerun", 5.0, "a")
    before = job.state.tasks["kid"]
    assert (before.superseded, before.status) == (True, make_done("skipped", "ok", 5.0))
    run(job, "a", at=6.0, queued=[replace(kid, command="y"), Task(id="new", command="x")])
    task = job.state.tasks["kid"]
    assert (list(job.state.tasks), task.superseded) == (["a", "z", "tidy", "kid", "new"], False)
    assert (task.command, task.status, task.ready_at, task.runs, len(task.attempts)) == ("y", Queued(), 6.0, 1, 1)
    assert job.state.tasks["z"].ready_at == 101.0
    for name in ("kid", "new", "z", "tidy"):
        assert not job.state.ended
        run(job, name, at=200.0)
    assert (job.state.phase, job.state.tasks["kid"].runs) == ("succeeded", 2)


def test_what_waits_for_a_task_that_is_queued_again_waits_for_its_next_run() -> None:
    """Also if it could have started before; a restart would find the same."""
    job = make("a", max_runners=2)
    kid = Task(id="kid", command="x")
    run(job, "a", queued=[kid])
    run(job, "kid")
    ask(job, "add", 4.0, tasks=[Task(id="then", command="x", after=["kid"])])
    ask(job, "rerun", 5.0, "a")
    run(job, "a", at=6.0, queued=[kid])
    assert (ready(job), ready(LiveJob(job.state))) == (["kid"], ["kid"])
    run(job, "kid", at=7.0)
    assert ready(job) == ["then"]


def test_a_task_that_waits_for_its_child_job_is_not_skipped_after_a_failure() -> None:
    """That job runs on; only a stop of all that the job does takes it along."""
    for decision, left in ((None, "que"), (ev.UpstreamFailed(9.0, "up"), "ski"), (ev.DeadlinePassed(9.0), "ski")):
        job = make("a", "b", "z", max_runners=2)
        run(job, "a", queued=[Task(id="kid", joins="0badcafe")])
        if decision is None:
            run(job, "b", "error", at=4.0)
        else:
            job.apply(decision, 1)
        assert (job.state.tasks["kid"].phase[:3], job.state.tasks["z"].phase) == (left, "skipped")


# How a job stops, and ends


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (ev.DeadlinePassed(3.0), ev.DeadlinePassed(9.0, cleanup=True), ("timeout", CLEANUP_OVER)),
        (ev.Requested(3.0, "r", "cancel"), ev.DeadlinePassed(9.0, cleanup=True), ("cancelled", CLEANUP_OVER)),
        (ev.Requested(3.0, "r", "cancel"), ev.Requested(9.0, "s", "cancel"), ("cancelled", None)),
    ],
)
def test_clean_up_that_takes_too_long_is_stopped(first: ev.Event, last: ev.Event, expected: tuple[str, str]) -> None:
    """For the reason of its job; its time is what the words are about, if it was not a user who ended it."""
    job = make("a", CLEANUP, {"id": "sweep", "when": "always"}, deadline=1)
    job.apply(first, 1)
    start(job, "tidy", 4.0)
    if isinstance(last, ev.Requested):
        ask(job, "cancel", 5.0)
    assert stopped(job, "tidy") == (None, None)
    job.apply(last, 1)
    assert stopped(job, "tidy") == expected
    assert job.state.tasks["sweep"].phase in {"skipped", "cancelled"}


def test_a_stop_ends_a_pause_and_begins_the_time_of_clean_up_once() -> None:
    """Nothing is left to clean up in a job whose upstream failed; what has begun goes on when another stop comes."""
    paused = make("a", "b", CLEANUP, deadline=10)
    start(paused, "a")
    ask(paused, "pause", 3.0)
    paused.apply(ev.DeadlinePassed(12.0), 1)
    assert (paused.state.phase, stopped(paused, "a")) == ("running", ("timeout", DEADLINE_PASSED))
    upstream = make("a", CLEANUP)
    upstream.apply(ev.UpstreamFailed(3.0, "up"), 1)
    assert (upstream.state.stop, upstream.state.cleanup_from) == ("upstream", None)
    cancelled = make("a", CLEANUP)
    for at in (4.0, 5.0):
        ask(cancelled, "cancel", at)
    assert cancelled.state.cleanup_from == 5.0
    cancelled.apply(ev.DeadlinePassed(6.0), 1)
    assert (cancelled.state.stop, cancelled.state.cleanup_from) == ("timeout", 5.0)


def test_the_reason_of_a_job_is_that_of_its_first_failure() -> None:
    """By time, and cancelled tasks after all others."""
    job = make("a", "b", "c", "d", max_runners=9, on_failure="continue", lock="repository")
    runs = {name: start(job, name) for name in "abcd"}
    ask(job, "cancel", 3.0, "a")
    for name, reason, at in (("a", "cancelled", 3.5), ("c", "lost", 4.0), ("b", "error", 5.0)):
        end(job, runs[name], reason, at)
    assert job.state.locked_since == 2.0
    end(job, runs["d"], at=6.0)
    assert (job.state.phase, job.state.reason) == ("failed", "lost")
    assert job.state.locked_since is None


# What is noted without a decision, and single events


def test_what_an_open_run_reports_is_shown() -> None:
    """With its task, until the next look; no version of the job is made of it."""
    job = make("a")
    seq = start(job, "a")
    version, said = job.state.version, {"usd": 0.5}
    job.report(seq, ProgressReport(done=1, of=2), said)
    said["usd"] = 7.0
    job.note_node_wait(seq, 3.5)
    expected = Running(
        seq,
        0,
        2.0,
        ready_at=1.0,
        waited=1.0,
        progress=ProgressReport(done=1, of=2),
        reported={"usd": 0.5},
        node_wait=3.5,
    )
    assert (job.state.tasks["a"].status, job.state.version) == (expected, version)
    job.note_node_wait(seq, None)
    assert job.state.tasks["a"].status == replace(expected, node_wait=None)


def test_a_stay_is_paid_in_the_currency_of_its_run() -> None:
    """Whatever later runs were paid in."""
    job = make("a", "b", on_failure="continue")
    run(job, "a", "error", keep_until=60.0, cost=1.0, currency="CHF")
    run(job, "b", at=5.0, cost=2.0, currency="EUR")
    job.apply(ev.KeepEnded(30.0, "a", 1, 25.0, 0.5), 1)
    usage = job.state.usage
    assert {usage.currency or "": usage.cost, **usage.other_costs} == {"CHF": 1.5, "EUR": 2.0}


def late(fields: dict[str, Any]) -> LiveJob:
    """Return a job of a task whose fields are results, and of one that waits for it."""
    job = make("z", {"id": "a", "timeout": 5}, {"id": "b", "after": ["a"]}, max_runners=2)
    job.state.tasks["a"].unresolved = Unresolved(fields=fields, names={})
    return LiveJob(job.state)


def test_a_task_gets_its_fields_once_they_are_known() -> None:
    """Those alone that were not known before; it goes on waiting for its turn."""
    job = late({"command": "${{ results.z }}", "after": ["z"]})
    job.apply(ev.Resolved(4.0, "a", [Task(id="a", command="found", timeout=9, after=["z"])]), 1)
    task = job.state.tasks["a"]
    assert (task.command, task.timeout, task.after, task.resolved) == ("found", 5, [], True)
    assert "after" not in LATE_FIELDS
    assert phases(job) == "z:que a:que b:que"


def test_a_list_becomes_its_tasks() -> None:
    """It has succeeded with that; what waits for it waits for them."""
    job = late({"for_each": "${{ results.z }}", "command": "x ${{ item }}"})
    job.apply(ev.Resolved(4.0, "a", [Task(id="a-1", command="x 1"), Task(id="a-2", command="x 2")]), 1)
    task = job.state.tasks["a"]
    assert (task.status, task.reason) == (make_done("succeeded", "ok", 4.0), "ok")
    assert [job.state.tasks[name].queued_by for name in ("a-1", "a-2")] == ["a", "a"]
    assert [job.state.tasks[name].ready_at for name in ("a-1", "a-2")] == [4.0, 4.0]
    assert (phases(job), ready(job)) == ("z:que a:suc b:que a-1:que a-2:que", ["z", "a-1", "a-2"])


def test_a_task_whose_fields_are_wrong_fails() -> None:
    """With the words about them, and what that means for its job."""
    job = late({"command": "${{ results.z }}"})
    job.apply(ev.Resolved(4.0, "a", [], "rejected", "command: is too long"), 1)
    assert job.state.tasks["a"].status == make_done("failed", "rejected", 4.0, message="command: is too long")
    assert phases(job) == "z:ski a:fai b:ski"


def test_a_reused_result_ends_its_task() -> None:
    """As a run would have: with the result, and where it comes from."""
    job = make("a", {"id": "b", "after": ["a"]})
    reused = Reused(key="k", job="old", run="0badcafe-1", seconds=3.0, cost=0.5, currency="EUR")
    job.apply(ev.Memoized(4.0, "a", {"n": 1}, reused), 1)
    task = job.state.tasks["a"]
    assert (task.status, task.reason) == (make_done("succeeded", "ok", 4.0, result={"n": 1}), "ok")
    assert task.cached == reused
    assert (ready(job), job.state.tasks["b"].ready_at) == (["b"], 4.0)

"""Each decision changes exactly what it is about: times, reasons and messages of tasks, runs and jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from air_executor.core.outcome import exit_text, outcome_text, reason_text, stop_text
from air_executor.core.transitions import LiveJob
from air_executor.model import events as ev
from air_executor.model import state as s
from air_executor.model.job import Task
from air_executor.model.state import Attempt, Queued, Running
from air_executor.model.times import to_text
from air_executor.model.usage import Moments
from tests.core.test_transitions import end, make, phases, ready, run, start
from tests.records import make_done

CLEANUP = {"id": "tidy", "when": "always"}


def ask(job: LiveJob, op: str, at: float, task: str | None = None, tasks: list[Task] | None = None) -> None:
    """Apply a request."""
    job.apply(ev.Requested(at, "r", op, task, tasks or []), 1)


def test_an_attempt_holds_all_that_is_known_of_a_run() -> None:
    """Moments, resources, price and words of the outcome, and since when the task could have started."""
    job = make({"id": "a", "resources": {"memory": "1Gi"}})
    job.apply(ev.Started(3.0, "a", 1, 0, {"base": 2.0}, "EUR"), 1)
    moments = Moments(4.0, 5.0, 7.0, 8.0, cpu=1.5, memory=2048, clock_stepped=True)
    outcome: dict[str, Any] = {"exit_code": 3, "message": "no", "cost": 0.25, "price": {"base": 2.0}, "currency": "EUR"}
    job.apply(ev.Ended(9.0, 1, "error", moments, **outcome, backend="local", delay=0.5), 1)
    (attempt,) = job.state.tasks["a"].attempts
    assert attempt == Attempt(
        seq=1,
        slot=0,
        spawned_at=to_text(4.0),
        start=1.0,
        work=2.0,
        finish=1.0,
        reason="error",
        exit_code=3,
        message="no",
        cpu=1.5,
        memory=2048,
        memory_limit=1 << 30,
        cost=0.25,
        clock_stepped=True,
        ready_at=to_text(1.0),
        waited=2.5,
        backend="local",
        price={"base": 2.0},
        currency="EUR",
    )
    assert job.state.tasks["a"].status == make_done("failed", "error", 9.0, 3, "no")
    assert job.state.usage.cpu_seconds == 1.5


def test_a_stop_has_its_reason_and_the_platforms_words() -> None:
    """A run that can never start is hopeless; one that a user cancels is not."""
    job = make("a", "b", max_runners=2)
    first, second = start(job, "a"), start(job, "b")
    job.apply(ev.StopRequested(3.0, first, "start-failed", "no such image", permanent=True), 1)
    ask(job, "cancel", 4.0, "b")
    stopped = job.state.tasks["a"].status, job.state.tasks["b"].status
    bare = Running(first, 0, 2.0, ready_at=1.0, waited=1.0)
    assert stopped[0] == replace(bare, stop="start-failed", stop_message="no such image", hopeless=True)
    assert stopped[1] == replace(bare, seq=second, slot=1, stop="cancelled")


def test_a_passed_deadline_says_so() -> None:
    """Runs are stopped with these words, and what is queued is skipped, clean-up included."""
    job = make("a", "b", CLEANUP, deadline=10)
    seq = start(job, "a")
    job.apply(ev.DeadlinePassed(12.0), 1)
    running = job.state.tasks["a"].status
    assert isinstance(running, Running)
    assert (running.stop, running.stop_message) == ("timeout", "the deadline of its job passed")
    assert job.state.tasks["b"].status == job.state.tasks["tidy"].status == make_done("skipped", "timeout", 12.0)
    end(job, seq, "timeout", 13.0)
    assert (job.state.phase, job.state.reason) == ("failed", "timeout")


def test_a_failed_upstream_job_cancels_without_words() -> None:
    """It is the job that has the message."""
    job = make("a")
    start(job, "a")
    job.apply(ev.UpstreamFailed(3.0, "up"), 1)
    running = job.state.tasks["a"].status
    assert isinstance(running, Running)
    assert (running.stop, running.stop_message) == ("cancelled", None)
    assert job.state.message == "job up, which it waits for, did not succeed"


def test_the_first_cancel_spares_clean_up_tasks_the_second_does_not() -> None:
    """A clean-up gets its chance, and can be cancelled too."""
    job = make("a", CLEANUP)
    ask(job, "cancel", 2.0)
    assert phases(job) == "a:can tidy:que"
    assert job.state.tasks["tidy"].ready_at == 2.0
    ask(job, "cancel", 3.0)
    assert phases(job) == "a:can tidy:can"
    assert (job.state.phase, job.state.finished_at) == ("cancelled", 3.0)


@pytest.mark.parametrize(
    ("on_failure", "left"), [("stop", "a:can b:ski tidy:que"), ("continue", "a:can b:que tidy:que")]
)
def test_a_cancelled_task_counts_as_failed(on_failure: str, left: str) -> None:
    """`on_failure` says what becomes of the others; the clean-up is ready from then on, where nothing else is left."""
    job = make("a", "b", CLEANUP, on_failure=on_failure)
    ask(job, "cancel", 2.0, "a")
    assert phases(job) == left
    assert job.state.stop == ("failed" if on_failure == "stop" else None)
    assert job.state.tasks["tidy"].ready_at == (2.0 if on_failure == "stop" else None)
    ask(job, "cancel", 3.0)
    ask(job, "cancel", 4.0, "tidy")
    assert job.state.stop == "cancelled", "the cancel of a task takes nothing back"


def test_resuming_goes_on_where_the_job_was() -> None:
    """A job that never started is queued; waiting counts from the resumption."""
    job = make("a", {"id": "later", "delay": 100})
    ask(job, "pause", 2.0)
    ask(job, "resume", 5.0)
    assert job.state.phase == "queued"
    assert (job.state.tasks["a"].ready_at, job.state.tasks["later"].ready_at) == (5.0, 101.0)


def test_resuming_a_job_that_has_started() -> None:
    """It is running again."""
    job = make("a")
    start(job, "a", 6.0)
    ask(job, "pause", 7.0)
    ask(job, "resume", 8.0)
    assert job.state.phase == "running"


def test_a_reopened_job_has_a_new_deadline() -> None:
    """It counts from the reopening; a job that never started has none yet."""
    job = make("a", deadline=100)
    ask(job, "cancel", 2.0)
    ask(job, "add", 3.0, tasks=[Task(id="b", command="x")])
    assert (job.state.phase, job.state.deadline_from, job.state.reason) == ("queued", None, None)
    run(job, "b", at=4.0)
    assert job.state.deadline_from == 4.0
    ask(job, "retry", 9.0)
    assert (job.state.phase, job.state.deadline_from) == ("running", 9.0)
    assert job.state.tasks["a"].ready_at == 9.0


def test_what_was_skipped_since_comes_back_with_a_task() -> None:
    """`retry` of one task takes what was skipped because of it, and neither what was skipped before nor not needed."""
    tasks = ["a", {"id": "x", "after": ["a"]}, "b", {"id": "y", "after": ["b"]}]
    job = make(*tasks, {"id": "no", "after": ["c"], "when": "failure"}, "c", on_failure="continue", max_runners=9)
    run(job, "c", at=2.0)
    run(job, "a", "error", at=3.0)
    run(job, "b", "error", at=4.0)
    assert phases(job) == "a:fai x:ski b:fai y:ski no:ski c:suc"
    ask(job, "retry", 9.0, "b")
    assert phases(job) == "a:fai x:ski b:que y:que no:ski c:suc"
    run(job, "b", at=10.0)
    run(job, "y", at=11.0)
    ask(job, "retry", 12.0)
    assert phases(job) == "a:que x:que b:suc y:suc no:ski c:suc"


def test_a_set_clock_moves_delays_and_no_dates() -> None:
    """A delay, a retry and the waiting so far last as long as before; a date stays, and with it what waits for it."""
    dated = {"not_before": to_text(1000.0)}
    tasks = ["a", "now", {"id": "delayed", "delay": 50}, {"id": "dated"} | dated, {"id": "again", "retries": 1} | dated]
    job = make(*tasks, {"id": "past", "not_before": to_text(0.5)}, on_failure="continue", max_runners=9, deadline=500)
    start(job, "a", 2.0)
    seq = start(job, "again", 2.0)
    end(job, seq, "error", 3.0, retry_at=30.0)
    job.apply(ev.ClockStepped(104.0, 100.0), 1)
    assert job.state.deadline_from == 102.0
    found = {name: (task.status, task.ready_at) for name, task in job.state.tasks.items()}
    del found["a"]
    assert found == {
        "now": (Queued(), 101.0),
        "delayed": (Queued(151.0), 151.0),
        "dated": (Queued(1000.0), 1000.0),
        "again": (Queued(130.0, retrying=True), 130.0),
        "past": (Queued(0.5), 101.0),
    }


def test_tasks_queued_in_a_stopping_job_are_dropped() -> None:
    """All but clean-up tasks, which may start from then on."""
    job = make("a", "b", max_runners=2)
    first = start(job, "a", 2.0)
    run(job, "b", "error", at=3.0)
    kids = [Task(id="kid", command="x"), Task(id="tidy", command="x", when="always", after=["kid"])]
    end(job, first, at=5.0, queued=kids)
    assert phases(job) == "a:suc b:fai kid:ski tidy:que"
    assert job.state.tasks["kid"].status == make_done("skipped", "upstream", 5.0)
    assert (ready(job), job.state.tasks["tidy"].ready_at) == (["tidy"], 5.0)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (1, "exit code 1"),
        (126, "exit code 126: not executable"),
        (127, "exit code 127: command not found"),
        (128, "exit code 128"),
        (129, "exit code 129: killed by SIGHUP"),
        (137, "exit code 137: killed by SIGKILL"),
        (255, "exit code 255"),
    ],
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    """Shells have conventions for some of them."""
    assert exit_text(code) == words
    assert reason_text("error", code) == words
    assert outcome_text(make_done("failed", "error", 1.0, code)) == words


def test_outcomes_in_words() -> None:
    """The reason, and the message where there is one; a message of a failed command replaces the code's meaning."""
    assert reason_text("error", None) == "failed"
    assert reason_text("news", None) == "news"
    words = [
        reason_text(reason, 1) for reason in sorted({*s.PLATFORMS_FAULT, s.TIMEOUT, s.OOM, s.CANCELLED, s.UPSTREAM})
    ]
    assert words == [
        "cancelled",
        "its runner was evicted",
        "its runner was lost",
        "ran out of memory",
        "its runner could not be started",
        "timed out",
        "another task did not succeed",
    ]
    assert outcome_text(make_done("succeeded", "ok", 1.0, 0, "hm")) == "ok"
    assert outcome_text(make_done("skipped", "ok", 1.0)) == "its `when` condition was not met"
    assert outcome_text(make_done("failed", "rejected", 1.0, 0, "line 1")) == (
        "its result or a task it queued is invalid: line 1"
    )
    assert outcome_text(make_done("failed", "error", 1.0, 127, "no file")) == "exit code 127: no file"
    assert outcome_text(make_done("failed", "error", 1.0, None, "why")) == "failed: why"
    assert outcome_text(make_done("failed", "budget", 1.0)) == "the job exceeds max_tasks"
    assert stop_text(Running(1, 0, 1.0)) == ""
    assert stop_text(Running(1, 0, 1.0, stop="timeout")) == "is being stopped: timed out"
    assert stop_text(Running(1, 0, 1.0, stop="requeue")) == "is being stopped: it will run again at no charge"
    assert stop_text(Running(1, 0, 1.0, stop="timeout", stop_message="late")) == "is being stopped: late"

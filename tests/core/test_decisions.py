"""Each decision changes exactly what it is about: times, reasons and messages of tasks, runs and jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from air_executor.core.outcome import exit_text, outcome_text, reason_text, stop_text
from air_executor.core.submission import initial_state, parse_job
from air_executor.core.transitions import LiveJob
from air_executor.model import events as ev
from air_executor.model import state as s
from air_executor.model.attempt import Attempt
from air_executor.model.job import Task
from air_executor.model.keep import KeptRunner
from air_executor.model.notice import Notice
from air_executor.model.state import Queued, Running
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
    assert (job.state.usage.cost, job.state.usage.currency) == (0.25, "EUR")


def test_a_run_knows_how_long_its_task_waited() -> None:
    """In microseconds; a clock that was set back makes it nothing, and what is not known stays unknown."""
    job = make("a", "b", "c", max_runners=3)
    job.apply(ev.Started(2.12345678, "a", 1, 0, {"base": 2.0}, "EUR"), 1)
    expected = Running(1, 0, 2.12345678, ready_at=1.0, waited=1.123457, price={"base": 2.0}, currency="EUR")
    assert (job.state.tasks["a"].status, job.state.tasks["a"].ready_at) == (expected, None)
    assert job.state.deadline_from is None
    job.apply(ev.Started(0.5, "b", 2, 1), 1)
    assert job.state.tasks["b"].status == Running(2, 1, 0.5, ready_at=1.0, waited=0.0)
    job.state.tasks["c"].ready_at = None
    job.apply(ev.Started(3.0, "c", 3, 2), 1)
    end(job, 1, at=4.0, delay=0.00000049)
    end(job, 3, at=4.0)
    (first,), (third,) = job.state.tasks["a"].attempts, job.state.tasks["c"].attempts
    assert (first.waited, third.waited, third.ready_at) == (1.123457, None, None)


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
    """Runs are stopped with these words, and what is queued is skipped; clean-up has its own time."""
    job = make("a", "b", CLEANUP, deadline=10, cleanup_time=5)
    seq = start(job, "a")
    job.apply(ev.DeadlinePassed(12.0), 1)
    running = job.state.tasks["a"].status
    assert isinstance(running, Running)
    assert (running.stop, running.stop_message) == ("timeout", "the deadline of its job passed")
    assert job.state.tasks["b"].status == make_done("skipped", "timeout", 12.0)
    end(job, seq, "timeout", 13.0)
    assert (ready(job), job.state.cleanup_until) == (["tidy"], 17.0)
    job.apply(ev.DeadlinePassed(17.0, cleanup=True), 1)
    over = make_done("skipped", "timeout", 17.0, message="the time for clean-up tasks of its job passed")
    assert job.state.tasks["tidy"].status == over
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


def test_the_third_cancel_ends_clean_up_tasks() -> None:
    """The first spares them, and the second limits their time."""
    job = make("a", CLEANUP)
    ask(job, "cancel", 2.0)
    assert phases(job) == "a:can tidy:que"
    assert job.state.tasks["tidy"].ready_at == 2.0
    assert job.state.cleanup_from is None
    ask(job, "cancel", 3.0)
    assert phases(job) == "a:can tidy:que"
    assert job.state.cleanup_until == 123.0
    ask(job, "cancel", 4.0)
    assert phases(job) == "a:can tidy:can"
    assert (job.state.phase, job.state.finished_at) == ("cancelled", 4.0)


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
    run(job, "a", at=10.0)
    ask(job, "add", 20.0, tasks=[Task(id="c", command="x")])
    assert (job.state.phase, job.state.deadline_from) == ("running", 20.0)


def test_what_was_skipped_since_comes_back_with_a_task() -> None:
    """`retry` of one task takes what was skipped because of it, and neither what was skipped before nor not needed."""
    tasks = ["a", {"id": "x", "after": ["a"]}, "b", {"id": "y", "after": ["b"]}]
    job = make(*tasks, {"id": "no", "after": ["c"], "when": "failure"}, "c", on_failure="continue", max_runners=9)
    run(job, "c", at=2.0)
    run(job, "a", "error", at=3.0)
    run(job, "b", "error", at=4.0)
    assert phases(job) == "a:fai x:ski b:fai y:ski no:ski c:suc"
    before = {name: job.state.tasks[name].status for name in ("x", "no")}
    ask(job, "retry", 9.0, "b")
    assert phases(job) == "a:fai x:ski b:que y:que no:ski c:suc"
    assert {name: job.state.tasks[name].status for name in before} == before
    run(job, "b", at=10.0)
    run(job, "y", at=11.0)
    ask(job, "retry", 12.0)
    assert phases(job) == "a:que x:que b:suc y:suc no:ski c:suc"
    assert job.state.tasks["no"].status == before["no"]


def test_a_set_clock_moves_delays_and_no_dates() -> None:
    """A delay, a retry and the waiting so far last as long as before; a date stays, and with it what waits for it."""
    dated = {"not_before": to_text(1000.0)}
    tasks: list[Any] = [
        "a",
        "now",
        {"id": "delayed", "delay": 50},
        {"id": "dated"} | dated,
        {"id": "again", "retries": 1} | dated,
    ]
    tasks += [{"id": "past", "not_before": to_text(0.5)}, {"id": "soon", "not_before": to_text(150.0)}]
    job = make(*tasks, on_failure="continue", max_runners=9, deadline=500)
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
        "soon": (Queued(150.0), 150.0),
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


def test_each_retry_counts() -> None:
    """Every run, and every fault on whose account it is; a task is ready from the time of its retry on."""
    job = make({"id": "a", "retries": 5})
    for number in (1, 2):
        run(job, "a", "error", at=10.0 * number, retry_at=10.0 * number + 3)
        run(job, "a", "lost", at=10.0 * number + 5, retry_at=1.0)
        task = job.state.tasks["a"]
        assert (task.runs, task.charged, task.faults, task.ready_at) == (2 * number, number, number, 10.0 * number + 5)
    end(job, start(job, "a", 30.0), "requeue", 31.0)
    assert (task.runs, task.ready_at, task.status) == (4, 31.0, Queued())
    run(job, "a", "error", at=40.0, retry_at=50.0)
    assert task.ready_at == 50.0


@pytest.mark.parametrize(("reason", "more"), [("requeue", {}), ("error", {"retry_at": 9.0})])
def test_in_a_stopping_job_clean_up_alone_runs_again(reason: str, more: dict[str, Any]) -> None:
    """Other tasks that were to be repeated are dropped."""
    last = {"id": "last", "when": "always", "after": ["a"]}
    job = make("a", {"id": "tidy", "when": "always", "after": ["z"]}, "z", last, max_runners=9)
    for task in ("a", "z"):
        run(job, task, at=1.5) if task == "z" else start(job, task, 1.5)
    tidy = start(job, "tidy", 2.0)
    ask(job, "cancel", 3.0)
    running = [task.status for task in job.state.tasks.values() if isinstance(task.status, Running)]
    assert [one.stop for one in running] == ["cancelled", None]
    end(job, tidy, reason, 4.0, **more)
    end(job, job.state.tasks["a"].run.seq if job.state.tasks["a"].run else 0, "requeue", 5.0)
    assert job.state.tasks["a"].status == make_done("cancelled", "cancelled", 5.0)
    assert job.state.tasks["tidy"].phase == "queued"
    assert job.state.tasks["last"].ready_at == 5.0


def test_a_state_that_was_edited_is_put_right() -> None:
    """What waits for a failed task is skipped, with what waits for that; all others may start."""
    job = make("free", {"id": "last", "after": ["next"]}, {"id": "next", "after": ["a"]}, "a", on_failure="continue")
    job.state.tasks["a"].status = make_done("failed", "error", 2.0, 1)
    again = LiveJob(job.state)
    assert phases(again) == "free:que last:ski next:ski a:fai"
    assert ready(again) == ["free"]


def test_a_runaway_job_says_so() -> None:
    """It fails with the message of the run that went too far; nothing of it goes on but clean-up."""
    job = make("a", "b", "c", CLEANUP, max_runners=2)
    start(job, "b", 2.0)
    run(job, "a", "budget", at=3.0, message="too many")
    assert (job.state.message, job.state.stop) == ("too many", "budget")
    status = job.state.tasks["b"].status
    assert isinstance(status, Running)
    assert (status.stop, status.stop_message) == ("cancelled", None)
    assert job.state.tasks["c"].status == make_done("skipped", "upstream", 3.0)
    assert (job.state.tasks["tidy"].phase, job.state.cleanup_until) == ("queued", 123.0)


def test_added_tasks_wait_from_then_on() -> None:
    """Their delays count from the request, and so does their waiting."""
    job = make("a")
    ask(job, "add", 5.0, tasks=[Task(id="b", command="x"), Task(id="c", command="x", delay=10)])
    assert [job.state.tasks[name].ready_at for name in "bc"] == [5.0, 15.0]
    ask(job, "pause", 6.0)
    assert job.state.phase == "paused"


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("reasons", "phase", "left"),
    [
        (("ok", "ok", "ok"), "succeeded", []),
        (("error", "ok", "ok"), "failed", ["mend"]),
        (("ok", "error", "ok"), "failed", ["mend"]),
        (("ok", "ok", "error"), "failed", ["mend"]),
    ],
)
def test_what_waits_for_all_others(reasons: tuple[str, ...], phase: str, left: list[str], *, restarts: bool) -> None:
    """A task with `when: failure` and without `after` runs if any has failed, whoever has noticed that."""
    job = make(
        "a", "b", "c", {"id": "mend", "when": "failure"}, {"id": "tidy", "when": "always"}, on_failure="continue"
    )
    for task, reason in zip("abc", reasons, strict=True):
        run(job, task, reason)
        job = LiveJob(job.state) if restarts else job
    assert (ready(job), job.progress.phase_so_far()) == ([*left, "tidy"], phase)
    for task in ready(job):
        run(job, task)
    assert (job.state.phase, job.state.tasks["mend"].reason) == (phase, "ok")


def test_clean_up_waits_for_what_is_added_before_it_starts() -> None:
    """Also if it was ready already; a restart would find the same."""
    job = make("a", CLEANUP)
    run(job, "a")
    assert ready(job) == ["tidy"]
    ask(job, "add", 5.0, tasks=[Task(id="b", command="x")])
    assert (ready(job), ready(LiveJob(job.state))) == (["b"], ["b"])
    run(job, "b", at=6.0)
    assert ready(job) == ["tidy"]


@pytest.mark.parametrize(
    ("when", "first", "verb", "then", "reason"),
    [("failure", "error", "retry", "ok", "ok"), ("success", "ok", "rerun", "error", "upstream")],
)
@pytest.mark.parametrize("ended", ["lost", "again", "requeue"])
def test_a_run_whose_cause_is_gone_is_not_repeated(  # noqa: PLR0917
    ended: str, when: str, first: str, verb: str, then: str, reason: str
) -> None:
    """What its task waits for ran again meanwhile and ended otherwise: the job ends without it."""
    job = make("a", {"id": "m", "after": ["a"], "when": when}, on_failure="continue", max_runners=2)
    run(job, "a", first)
    seq = start(job, "m", 4.0)
    ask(job, verb, 5.0, "a")
    run(job, "a", then, 6.0)
    end(job, seq, ended, 7.0, retry_at=8.0)
    assert job.state.tasks["m"].status == make_done("skipped", reason, 7.0)
    assert job.state.finished_at == 7.0


def test_a_released_job_waits_from_then_on() -> None:
    """It is queued, and its tasks could not have started before."""
    job = make("a")
    job.state.phase = "pending"
    job.apply(ev.Released(3.0), 1)
    assert (job.state.phase, job.state.tasks["a"].ready_at) == ("queued", 3.0)


def test_a_cancelled_task_makes_its_job_fail() -> None:
    """The job's reason is that of the task, whatever else has ended, and when."""
    job = make("a", "b", {"id": "then", "after": ["b"], "when": "always"}, on_failure="continue")
    run(job, "a", at=2.0)
    ask(job, "cancel", 3.0, "b")
    assert job.state.tasks["b"].status == make_done("cancelled", "cancelled", 3.0)
    assert job.state.tasks["then"].ready_at == 3.0
    run(job, "then", at=4.0)
    assert (job.state.phase, job.state.reason) == ("failed", "cancelled")


def test_a_run_that_was_cancelled_counts_as_that() -> None:
    """Its task, not only its attempt; what others queue in a cancelled job is cancelled too."""
    job = make("a", "b", max_runners=2)
    first, second = start(job, "a"), start(job, "b")
    ask(job, "cancel", 3.0)
    end(job, first, "cancelled", 4.0)
    end(job, second, "ok", 5.0, queued=[Task(id="kid", command="x")])
    assert phases(job) == "a:can b:suc kid:can"
    assert job.state.tasks["kid"].status == make_done("cancelled", "cancelled", 5.0)
    assert (job.state.phase, job.state.reason) == ("cancelled", "cancelled")


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
        "a result or a task it queued is invalid: line 1"
    )
    assert outcome_text(make_done("failed", "error", 1.0, 127, "no file")) == "exit code 127: no file"
    assert outcome_text(make_done("failed", "error", 1.0, None, "why")) == "failed: why"
    assert outcome_text(make_done("failed", "budget", 1.0)) == "the job exceeds max_tasks"
    assert stop_text(Running(1, 0, 1.0)) == ""
    assert stop_text(Running(1, 0, 1.0, stop="timeout")) == "is being stopped: timed out"
    assert stop_text(Running(1, 0, 1.0, stop="requeue")) == "is being stopped: it will run again at no charge"
    assert stop_text(Running(1, 0, 1.0, stop="timeout", stop_message="late")) == "is being stopped: late"


def test_a_runner_that_stays_counts_until_it_has_gone() -> None:
    """Its seconds and its cost go to the run that it was started for, and to the job; a cancel lets it go at once."""
    job = make("a", "b", max_runners=2, on_failure="continue")
    for name in ("a", "b"):
        seq = start(job, name)
        moments = Moments(2.0, 2.0, 3.0, 3.00049)
        job.apply(ev.Ended(3.0, seq, "error", moments, cost=0.5, currency="EUR", backend="docker", keep_until=60.0), 1)
    kept = KeptRunner(1, 0, 3.0, 60.0, "docker", None, None, "EUR")
    assert job.state.kept == {"a": kept, "b": replace(kept, seq=2, slot=0)}
    ask(job, "cancel", 10.0, "b")
    ask(job, "cancel", 20.0, "b")
    assert job.state.kept == {"a": kept, "b": replace(kept, seq=2, slot=0, until=10.0)}
    before = job.state.usage.runner_seconds
    job.apply(ev.KeepEnded(30.0, "a", 1, 27.25, 0.25), 1)
    assert list(job.state.kept) == ["b"]
    (attempt,), (other,) = job.state.tasks["a"].attempts, job.state.tasks["b"].attempts
    assert (attempt.finish, attempt.cost) == (27.25049, 0.75)
    assert (other.finish, other.cost) == (0.00049, 0.5)
    usage = job.state.usage
    assert (usage.runner_seconds - before, usage.cost) == (27.25, 1.25)
    ask(job, "retry", 40.0)
    assert job.state.kept == {"b": replace(kept, seq=2, slot=0, until=10.0)}


def test_a_notification_is_queued_until_it_was_delivered() -> None:
    """One that was given up stays with the reason; others stay as they are."""
    job = make("a")
    first, second, third = Notice(1.0, 1, "late", "ops"), Notice(1.0, 1, "late", "dev"), Notice(2.0, 2, "late", "ops")
    job.state.notices = [first, second, third]
    job.apply(ev.NoticeSettled(3.0, 1, "late", "ops"), 1)
    assert job.state.notices == [second, third]
    job.apply(ev.NoticeSettled(4.0, 2, "late", "ops", "no such host"), 1)
    assert job.state.notices == [second, replace(third, failed="no such host")]
    assert job.state.late_since is None


def test_a_job_is_late_from_the_time_on_that_was_noted() -> None:
    """What is asked later does not change that."""
    job = make("a")
    job.apply(ev.Late(5.0), 1)
    job.apply(ev.Asked(6.0), 1)
    assert job.state.late_since == 5.0


def test_questions_are_asked_once_other_jobs_have_ended() -> None:
    """From then on they can be answered, a delayed one from its time on."""
    question = {"approve": "Go on?", "timeout": 60}
    raw = [{"id": "a", **question}, {"id": "b", "delay": 100, **question}]
    state = initial_state(parse_job({"id": "j", "tasks": raw, "after": ["up"]}), uid="00000001", now=1.0)
    for task in state.tasks.values():
        task.ready_at = None
    state.after_uids = {"up": "00000002"}
    job = LiveJob(state)
    found = [{name: task.ready_at for name, task in state.tasks.items()}]
    for at in (20.0, 300.0):
        job.apply(ev.Asked(at), 1)
        found.append({name: task.ready_at for name, task in state.tasks.items()})
    assert found == [{"a": None, "b": None}, {"a": 20.0, "b": 101.0}, {"a": 20.0, "b": 101.0}]

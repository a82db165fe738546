"""The whole sentences of `explain`: what is said besides, in which order and words, and where each limit of it lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from air_executor.core.explanation import ExplainContext, RunnerFacts, explain_job, explain_task
from air_executor.model.keep import KeptRunner
from air_executor.model.notice import Notice
from air_executor.model.reports import ProgressReport
from air_executor.model.state import Queued, Running, TaskState
from air_executor.model.usage import Usage
from air_executor.model.worktree import WorktreeNote
from tests.cli.test_explain import CALM, NOW, attempt, done, job, task
from tests.records import make_attempt

READY = "job j has no running task: task a is ready and about to start"
UNMANAGED = ExplainContext(NOW, manager=False)


def question(name: str = "a", *, ready_at: float | None = NOW - 10, **spec: Any) -> TaskState:  # noqa: ANN401 - any field
    """Return a task that asks something."""
    made = task(name, **spec)
    made.approve, made.ready_at = "Go on?", ready_at
    return made


def spent(**amounts: float) -> Usage:
    """Return what runs have reported."""
    return Usage(reported=amounts)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"spec": {"late_after": 30}}, "it is late: it was expected by 2027-01-15T07:59:30.000Z"),
        ({"spec": {"late_after": 60}}, "it is late: it was expected by 2027-01-15T08:00:00.000Z"),
        ({"spec": {"late_after": 60.5}}, ""),
        (
            {"spec": {"deadline": 100}, "deadline_from": NOW - 49.44},
            "its deadline passes at 2027-01-15T08:00:50.560Z, in 50.6s",
        ),
        (
            {"spec": {"deadline": 10}, "deadline_from": NOW - 20},
            "its deadline passes at 2027-01-15T07:59:50.000Z, in 0s",
        ),
        ({"spec": {"deadline": 100}, "deadline_from": NOW, "stop": "failed"}, ""),
        ({"stop": "cancelled"}, "it was cancelled: only clean-up tasks go on"),
        (
            {"stop": "cancelled", "cleanup_from": NOW - 10, "spec": {"cleanup_time": 30.56}},
            "clean-up tasks may run until 2027-01-15T08:00:20.560Z, for 20.6s",
        ),
        (
            {"stop": "timeout", "cleanup_from": NOW - 10, "spec": {"cleanup_time": 5}},
            "clean-up tasks may run until 2027-01-15T07:59:55.000Z, for 0s",
        ),
        (
            {"spec": {"budget": {"usd": 10, "rows": 100, "calls": 5}}, "usage": spent(usd=9, rows=85, calls=1)},
            "it has used 9 of 10 usd (90 %), 85 of 100 rows (85 %) of its budget",
        ),
        (
            {"notices": [Notice(NOW - 5, 1, "late", "ops", "no such host")]},
            "notification of late to ops given up: no such host",
        ),
    ],
)
def test_what_is_said_of_a_job_besides(fields: dict[str, Any], said: str) -> None:
    """Its limits, its budget, and what it could not tell."""
    assert explain_job(job(task("a"), **fields), CALM) == "; ".join([READY, *([said] if said else [])])


def test_all_that_can_be_said_of_a_job_at_once() -> None:
    """One after the other: first of its limits, last of what it leaves behind."""
    failed = task("a", done("failed", "error", 1))
    state = job(
        task("b", Running(2, 0, NOW - 3)),
        failed,
        spec={"late_after": 30, "deadline": 100, "budget": {"usd": 10}, "on_failure": "continue"},
        deadline_from=NOW - 50,
        usage=spent(usd=9),
        notices=[Notice(NOW - 5, 1, "late", "ops")],
        kept={"a": KeptRunner(1, 0, NOW - 2, NOW + 60, "docker", "air-j--0")},
    )
    text = explain_job(state, CALM)
    assert text == (
        "job j is running 1 of 2 tasks, 0 queued; its deadline passes at 2027-01-15T08:00:50.000Z, in 50s; "
        "it is late: it was expected by 2027-01-15T07:59:30.000Z; it has used 9 of 10 usd (90 %) of its budget; "
        "notification of late to ops is not delivered yet, since 2027-01-15T07:59:55.000Z; "
        "task a: its container air-j--0 is kept until 2027-01-15T08:01:00.000Z: look into it with "
        "`air-executor shell j a` or `docker exec -it air-j--0 sh`; remove it with `air-executor cancel j a`"
    )
    for manager, remove in ((None, "air-executor cancel j a"), (False, "docker rm -f air-j--0")):
        context = ExplainContext(NOW, manager=manager)
        for text in (explain_job(state, context), explain_task(state, failed, context)):
            assert text.endswith(f"remove it with `{remove}`")
    assert explain_task(state, failed, CALM).startswith("task a failed: exit code 1; its container air-j--0 is kept ")


def test_an_ended_job_has_no_more_limits() -> None:
    """Neither of time nor of money: it says how it ended."""
    state = job(
        task("a", done()),
        phase="succeeded",
        reason="ok",
        finished_at=NOW,
        spec={"late_after": 30, "deadline": 100, "budget": {"usd": 10}},
        deadline_from=NOW - 50,
        cleanup_from=NOW - 10,
        usage=spent(usd=9),
    )
    assert explain_job(state, CALM) == "job j succeeded after 50s: 1 task in 0 runs"


@pytest.mark.parametrize(
    ("over", "usage", "said"),
    [
        ("usd", spent(usd=11, rows=90), "11 of 10 usd (110 %)"),
        ("rows", spent(usd=9, rows=101), "101 of 100 rows (101 %)"),
        ("gone", spent(usd=9), "gone"),
    ],
)
def test_a_job_that_has_used_up_its_budget(over: str, usage: Usage, said: str) -> None:
    """It is said once, with the way out; an amount that the budget no longer has is named alone."""
    state = job(task("a"), phase="paused", over_budget=over, usage=usage, spec={"budget": {"usd": 10, "rows": 100}})
    assert explain_job(state, CALM) == (
        f"job j is paused: it has used {said} of its budget; "
        f"resume it with `air-executor resume j --budget {over}=AMOUNT`"
    )
    state.phase = "running"
    assert explain_job(state, CALM) == READY, "it goes on with what a request has given it"


def test_a_budget_counts_open_runs() -> None:
    """Up to now: their seconds are part of what is used."""
    state = job(task("a", Running(1, 0, NOW - 9)), spec={"budget": {"runner_seconds": 10}})
    assert explain_job(state, CALM).endswith("; it has used 9 of 10 runner_seconds (90 %) of its budget")
    state.phase, state.over_budget = "paused", "runner_seconds"
    assert "it is paused: it has used 9 of 10 runner_seconds (90 %) of its budget" in explain_job(state, CALM)


@pytest.mark.parametrize(
    ("holder", "locked_since", "lock", "said"),
    [
        ("other", None, "repository", "job j is waiting for lock repository, which job other holds until it ends"),
        ("other", NOW - 5, "repository", READY),
        ("other", None, None, READY),
        ("j", None, "repository", READY),
        (None, None, "repository", READY),
    ],
)
def test_a_lock_is_waited_for(holder: str | None, locked_since: float | None, lock: str | None, said: str) -> None:
    """Until the job has it, while another one does."""
    state = job(task("a"), spec={"lock": lock} if lock else {}, locked_since=locked_since)
    assert explain_job(state, ExplainContext(NOW, lock_holder=holder)) == said


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"r1": "running", "r2": "failed"}, "job j is waiting for job r1 (running)"),
        ({"r1": "running", "r2": "queued"}, "job j is waiting for jobs r1 (running), r2 (queued)"),
        ({"r1": "cancelled"}, READY),
    ],
)
def test_a_backfill_waits_for_earlier_runs(after: dict[str, str], said: str) -> None:
    """Until they have ended, however; one that no longer exists has."""
    state = job(task("a"), earlier_runs={"r1": "1", "r2": "2"})
    assert explain_job(state, ExplainContext(NOW, after=after)) == said


def test_questions_of_a_job_that_runs() -> None:
    """Its first ones stand before what else is said of its runners; those of a pending job are not asked yet."""
    questions = [question(f"q{number}", timeout=60) for number in range(4)]
    state = job(task("a", Running(1, 0, NOW - 3)), *questions, phase="running")
    asked = "".join(
        f'; task q{number} asks "Go on?": `air-executor approve j q{number}`, or `reject`, within 50s'
        for number in range(3)
    )
    context = ExplainContext(
        NOW, backend_problem="no answer", backend="docker", runners={"a": RunnerFacts("local", "laptop", begun=False)}
    )
    assert explain_job(state, CALM) == f"job j is running 1 of 5 tasks, 4 queued{asked}"
    assert explain_job(state, context) == (
        f"job j is running 1 of 5 tasks, 4 queued{asked}, 1 of the running not started yet; "
        "it is waiting for its backend, which cannot answer: no answer; its runner was started by backend local on "
        "host laptop, but the running manager uses docker; the run is committed once its outcome is there; if it is "
        "certain that the runner no longer exists: `air-executor confirm-gone j`"
    )


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([task("a", done())], "job j has no tasks left and is about to end"),
        (
            [task("late", Queued(NOW + 60)), task("soon", Queued(NOW + 0.25))],
            "job j has no running task: task soon is delayed; it starts at 2027-01-15T08:00:00.250Z, in 200ms",
        ),
        (
            [task("late", Queued(NOW + 60)), task("now")],
            "job j has no running task: task now is ready and about to start",
        ),
        (
            [task("x", done("failed", "error", 3)), task("m", after=["x"])],
            "job j has no running task: task m will be skipped: task x failed (exit code 3)",
        ),
    ],
)
def test_a_job_without_runners_speaks_for_the_next_task(tasks: Sequence[TaskState], said: str) -> None:
    """The one that starts first; without one it is about to end."""
    assert explain_job(job(*tasks), CALM) == said


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (task("a", when="always"), "task a is ready and about to start; clean-up tasks may run until "),
        (task("a"), "task a is ready and about to start"),
        (task("a", done(), when="always"), "task a succeeded"),
    ],
)
def test_the_time_of_clean_up_is_told_of_its_tasks(made: TaskState, said: str) -> None:
    """Of those that have not ended."""
    text = explain_task(job(made, cleanup_from=NOW - 10, spec={"cleanup_time": 30}), made, CALM)
    assert text == (f"{said}2027-01-15T08:00:20.000Z, for 20s" if said.endswith(" ") else said)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (None, "worktree /w/a on branch air/a"),
        ("it has changes", "worktree /w/a on branch air/a was kept (it has changes)"),
    ],
)
def test_where_the_worktree_of_a_task_is(kept: str | None, said: str) -> None:
    """And why it is still there."""
    ended = task("a", done())
    note = WorktreeNote(
        job="j", uid="0badcafe", task="a", repository="/r/.git", branch="air/a", commit="c0ffee", kept=kept
    )
    context = ExplainContext(NOW, worktrees={"a": ("/w/a", note)})
    assert explain_task(job(ended), ended, context) == f"task a succeeded; {said}"


def asked(within: str = "") -> str:
    """Return how the question of a task is told."""
    return f'task a asks "Go on?": `air-executor approve j a`, or `reject`{within}'


@pytest.mark.parametrize(
    ("made", "context", "said"),
    [
        (question(), CALM, asked()),
        (question(timeout=60), CALM, asked(", within 50s")),
        (question(timeout=60), UNMANAGED, asked(", within 50s") + "; its job "),
        (question(ready_at=NOW), UNMANAGED, asked() + "; its job "),
        (question(ready_at=NOW + 1), UNMANAGED, "task a is queued: its job "),
        (question(ready_at=None), UNMANAGED, "task a is queued: its job "),
        (task("a"), UNMANAGED, "task a is queued: its job "),
    ],
)
def test_a_question_is_told_also_while_its_job_cannot_go_on(
    made: TaskState, context: ExplainContext, said: str
) -> None:
    """It can be answered then; one that is not asked yet can not."""
    made.ready_at = made.ready_at if made.approve else NOW - 10
    reason = "is not managed: no manager is running; start one with `air-executor manager`"
    assert explain_task(job(made), made, context) == said + (reason if said.endswith("job ") else "")


GROWING = {"memory": 512 << 20, "memory_growth": 1.5}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (task("a", Running(7, 0, NOW - 3.26)), "has been running for 3.3s (run 7, attempt 1)"),
        (task("a", Running(7, 0, NOW + 5)), "has been running for 0s (run 7, attempt 1)"),
        (
            task("a", Running(7, 0, NOW - 3, progress=ProgressReport(done=2, of=5, note="files")), timeout=10.26),
            "has been running for 3s (run 7, attempt 1), progress 2/5 files; it times out in 7.3s",
        ),
        (
            task("a", Running(7, 0, NOW - 3), timeout=3),
            "has been running for 3s (run 7, attempt 1); its timeout has passed",
        ),
        (
            task("a", Running(7, 0, NOW - 3), timeout=3.5, stall_timeout=60),
            (
                "has been running for 3s (run 7, attempt 1); it times out in 500ms; "
                "it is stopped after 1m without output"
            ),
        ),
        (
            task("a", Running(7, 0, NOW - 3, "timeout"), timeout=3.5, stall_timeout=60),
            "has been running for 3s (run 7, attempt 1) and is being stopped: timed out",
        ),
    ],
)
def test_a_run_and_its_limits(made: TaskState, said: str) -> None:
    """Its age and what is left to it, as exact as people read it; a run that is stopped has no limits any more."""
    assert explain_task(job(made), made, CALM) == f"task a {said}"


def joined(name: str = "a", **spec: Any) -> TaskState:  # noqa: ANN401 - any field
    """Return a task that waits for the end of a job."""
    made = task(name, **spec)
    made.joins = "0badcafe"
    return made


def again(times: int, *, since: float | None = NOW - 60, **limits: Any) -> TaskState:  # noqa: ANN401 - any field
    """Return a task that has asked to run again."""
    made = task("a", Queued(NOW + 30), **limits)
    made.again, made.again_since = times, since
    return made


AT_30 = "at 2027-01-15T08:00:30.000Z, in 30s"
RETRY = Queued(NOW + 30, retrying=True)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (task("a", Queued(NOW)), "is ready and about to start"),
        (task("a", Queued(NOW + 30.26)), "is delayed; it starts at 2027-01-15T08:00:30.260Z, in 30.3s"),
        (task("a", RETRY), f"will be retried {AT_30}"),
        (
            task("a", RETRY, attempts=(make_attempt(1, 0, NOW, 0.1, 2.0, 0.1, "error", 3, "no disk"),)),
            f"will be retried {AT_30} (run 1 ended: exit code 3: no disk)",
        ),
        (
            task("a", RETRY, attempts=(attempt("oom", 137, mebibytes=512), attempt("error", 3)), resources=GROWING),
            f"will be retried {AT_30} (run 2 ended: exit code 3)",
        ),
        (again(1), f"will run again {AT_30}; it has asked for that once"),
        (again(2, again_max=5), f"will run again {AT_30}; it has asked for that 2 times of at most 5"),
        (
            again(1, again_until=600),
            f"will run again {AT_30}; it has asked for that once, and may until 2027-01-15T08:09:00.000Z",
        ),
        (again(2, again_until=600, since=None), f"will run again {AT_30}; it has asked for that 2 times"),
        (joined(), "is waiting for the end of job a (no longer exists)"),
    ],
)
def test_why_a_task_starts_later(made: TaskState, said: str) -> None:
    """A time, the run before it, and how often it may ask for another one."""
    assert explain_task(job(made), made, CALM) == f"task a {said}"


def test_a_task_waits_for_its_child_job() -> None:
    """With its phase."""
    made = joined()
    context = ExplainContext(NOW, after={"a": "paused"})
    assert explain_task(job(made), made, context) == "task a is waiting for the end of job a (paused)"


FAILED = task("x", done("failed", "error", 3))
RUNNING = [task(f"r{number}", Running(number + 1, number, NOW - 1)) for number in range(7)]
ONLY_IF = {"result": "x.n", "gt": 2}


@pytest.mark.parametrize(
    ("others", "made", "said"),
    [
        (RUNNING[:1], task("a", after=["r0"]), "is waiting for r0 (running)"),
        (
            [*RUNNING[:1], task("x", done())],
            task("a", after=["r0", "x"], only_if=ONLY_IF),
            "is waiting for r0 (running); it runs only if x.n > 2",
        ),
        (
            RUNNING,
            task("a", after=[f"r{number}" for number in range(7)]),
            "is waiting for r0 (running), r1 (running), r2 (running), r3 (running), r4 (running) and 2 more",
        ),
        (
            RUNNING[:5],
            task("a", after=[f"r{number}" for number in range(5)]),
            "is waiting for r0 (running), r1 (running), r2 (running), r3 (running), r4 (running)",
        ),
        (
            [*RUNNING[:1], FAILED, task("tidy", when="always")],
            task("a", when="always"),
            "is waiting for all other tasks to end (r0)",
        ),
        (RUNNING, task("a", when="always"), "is waiting for all other tasks to end (r0, r1, r2, r3, r4 and 2 more)"),
        ([FAILED], task("a", after=["x"]), "will be skipped: task x failed (exit code 3)"),
        ([task("x", done())], task("a", after=["x"], when="failure"), "will be skipped: not-needed"),
    ],
)
def test_what_a_task_waits_for(others: Sequence[TaskState], made: TaskState, said: str) -> None:
    """Unfinished tasks alone, the first of them by name; what cannot come is no wait."""
    assert explain_task(job(*others, made), made, CALM) == f"task a {said}"


def limits(**fields: Any) -> ExplainContext:  # noqa: ANN401 - any field
    """Return surroundings with limits."""
    return ExplainContext(NOW, **fields)


RETRYING = task("r", RETRY, attempts=(attempt("error", 1),))
LATER = [task("d", Queued(NOW + 60)), task("w", after=["d"])]
HOLDS = "(running r0)"


@pytest.mark.parametrize(
    ("others", "made", "runners", "context", "said"),
    [
        ([], task("a", pools={"gpu": 2}), 2, limits(pools={"gpu": 4}, in_use={"gpu": 2}), " and about to start"),
        (
            RUNNING[:1],
            task("a", pools={"gpu": 2}),
            2,
            limits(pools={"gpu": 4}, in_use={"gpu": 3}),
            "; limit reached: pool gpu has 3 of at most 4 in use, and it needs 2",
        ),
        (
            RUNNING[:1],
            task("a"),
            2,
            limits(running=9, max_runners=9),
            "; limit reached: the manager has 9 of at most 9 runners",
        ),
        (RUNNING[:1], task("a"), 1, CALM, f"; limit reached: its job has 1 of at most 1 runner {HOLDS}"),
        (
            RUNNING,
            task("a"),
            7,
            CALM,
            "; limit reached: its job has 7 of at most 7 runners (running r0, r1, r2, r3, r4 and 2 more)",
        ),
        (
            [RETRYING],
            task("a"),
            1,
            CALM,
            " and waits behind task r, which keeps its place in the queue until its retry",
        ),
        (
            [RETRYING],
            task("a"),
            1,
            limits(running=9, max_runners=9),
            " and waits behind task r, which keeps its place in the queue until its retry",
        ),
        ([*RUNNING[:1], RETRYING], task("a"), 1, CALM, f"; limit reached: its job has 1 of at most 1 runner {HOLDS}"),
        ([RETRYING], task("a"), 2, CALM, " and about to start"),
        (
            [],
            task("a", pools={"gpu": 1}),
            2,
            limits(reserved={"gpu": "z of job other"}),
            "; task z of job other is ahead of it in pool gpu",
        ),
        ([], task("a"), 2, limits(reserved={"default": "a of job j", "gpu": "z of job other"}), " and about to start"),
        ([task("b")], task("a"), 2, CALM, "; 1 task of its job is ahead of it"),
        ([task("b"), task("c"), *LATER], task("a"), 2, CALM, "; 2 tasks of its job are ahead of it"),
        (LATER, task("a"), 2, CALM, " and about to start"),
        (
            [],
            task("a"),
            2,
            limits(manager=None),
            "; its manager runs on another host or in another container, and its state is unknown here",
        ),
    ],
)
def test_why_a_ready_task_has_not_started(
    others: Sequence[TaskState], made: TaskState, runners: int, context: ExplainContext, said: str
) -> None:
    """A limit and who holds it, a retry or others before it; else it is only a matter of the next cycle."""
    state = job(*others, made, spec={"max_runners": runners})
    assert explain_task(state, made, context) == f"task a is ready{said}"


def test_a_task_that_needs_more_than_there_is() -> None:
    """It waits for nothing: its pool's limit must be raised."""
    made = task("a", pools={"gpu": 5})
    text = explain_task(job(made), made, ExplainContext(NOW, pools={"gpu": 4}))
    assert text == "task a can never start: it needs 5 of pool gpu, whose limit is 4 (AIR_POOLS)"

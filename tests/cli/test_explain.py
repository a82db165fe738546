"""`explain`: one sentence about what something waits for, or how it ended. Pure, so tested on states made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from air_executor.client import Client
from air_executor.core.explanation import ExplainContext, RunnerFacts, explain_job, explain_task
from air_executor.model.attempt import Attempt
from air_executor.model.state import Done, JobState, Queued, Running, Status, TaskState
from tests.cli.conftest import Outcome
from tests.records import make_attempt, make_done, make_job, make_task

NOW = 1_800_000_000.0
CALM = ExplainContext(now=NOW, max_runners=8)


def job(*tasks: TaskState, phase: str = "running", **fields: Any) -> JobState:  # noqa: ANN401 - any field
    """Return a job with these tasks."""
    spec: Mapping[str, Any] = {"max_runners": 2, "on_failure": "stop", "pool": "default", **fields.pop("spec", {})}
    state = make_job("j", "0badcafe", spec, submitted_at=NOW - 60, phase=phase, started_at=NOW - 50, **fields)
    state.tasks = {task.id: task for task in tasks}
    return state


def task(
    name: str,
    status: Status | None = None,
    *,
    queued_by: str | None = None,
    attempts: tuple[Attempt, ...] = (),
    **spec: Any,  # noqa: ANN401 - any field
) -> TaskState:
    """Return a task; queued unless its status is given."""
    made = make_task(name, {"command": "true", **spec}, queued_by=queued_by, status=status or Queued())
    made.attempts = list(attempts)
    made.runs = len(attempts) + isinstance(status, Running)
    return made


def done(phase: str = "succeeded", reason: str = "ok", code: int | None = 0, message: str | None = None) -> Done:
    """Return an end, one second ago."""
    return make_done(phase, reason, NOW - 1, code, message)


def attempt(reason: str = "ok", code: int | None = 0, *, mebibytes: int | None = None) -> Attempt:
    """Return a run of two seconds, with so much memory."""
    limit = None if mebibytes is None else mebibytes << 20
    return make_attempt(1, 0, NOW - 10, 0.1, 2.0, 0.1, reason, code, memory_limit=limit)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (task("a", done(), attempts=(attempt(),)), "succeeded in 2s"),
        (
            task("a", done("failed", "error", 3), attempts=(attempt("error", 3),) * 2),
            "failed after 2 runs: exit code 3",
        ),
        (task("a", done("failed", "error", 127)), "failed: exit code 127: command not found"),
        (task("a", done("failed", "error", 137)), "failed: exit code 137: killed by SIGKILL"),
        (task("a", done("failed", "timeout", 143), timeout=5), "failed: timed out after 5s"),
        (task("a", done("failed", "oom", 137)), "failed: ran out of memory"),
        (
            task(
                "a",
                done("failed", "oom", 1, "1 process was killed at the limit of 768Mi"),
                attempts=(attempt("oom", 1, mebibytes=512), attempt("oom", 1, mebibytes=768)),
            ),
            (
                "failed after 2 runs: ran out of memory: 1 process was killed at the limit of 768Mi "
                "(killed for memory at 512Mi; tried again with 768Mi)"
            ),
        ),
        (
            task("a", done(), attempts=(attempt("oom", 137, mebibytes=512), attempt(mebibytes=768))),
            "succeeded after 2 runs in 2s (killed for memory at 512Mi; tried again with 768Mi)",
        ),
        (
            task("a", done("failed", "timeout", 143, "1 process was killed at the limit of 1Gi"), timeout=5),
            "failed: timed out after 5s; 1 process was killed at the limit of 1Gi",
        ),
        (task("a", done("failed", "lost", None)), "failed: its runner was lost"),
        (
            task("a", done("failed", "rejected", 0, "queue.jsonl:2: bad")),
            "failed: a result or a task it queued is invalid: queue.jsonl:2: bad",
        ),
        (task("a", done("cancelled", "cancelled", None)), "was cancelled"),
        (
            task("a", done("skipped", "ok", None), when="failure"),
            "was skipped: its condition `when: failure` was not met",
        ),
    ],
)
def test_how_a_task_ended(ended: TaskState, said: str) -> None:
    """Every reason has its words, with the exit code's meaning."""
    assert explain_task(job(ended), ended, CALM) == f"task a {said}"


def test_a_skipped_task_names_the_culprit() -> None:
    """Of all that failed it is the one in the tree that the task needs, however deep."""
    root = task("root", done())
    child = task("child", done("failed", "error", 2), queued_by="root")
    other = task("other", done("failed", "error", 1))
    merge = task("merge", done("skipped", "upstream", None), after=["root"])
    assert (
        explain_task(job(other, root, child, merge), merge, CALM)
        == "task merge was skipped: task child failed (exit code 2)"
    )


@pytest.mark.parametrize(
    ("waiting", "context", "said"),
    [
        (task("b", Queued(NOW + 90)), CALM, "is delayed; it starts at"),
        (task("b", Queued(NOW + 5, retrying=True), attempts=(attempt("error", 3),)), CALM, "will be retried at"),
        (task("b"), CALM, "is ready and about to start"),
        (
            task("b"),
            ExplainContext(NOW, max_runners=3, running=3),
            "is ready; limit reached: the manager has 3 of at most 3 runners",
        ),
        (
            task("b"),
            ExplainContext(NOW, pools={"default": 1}, in_use={"default": 1}),
            "is ready; limit reached: pool default has 1 of at most 1 runner",
        ),
        (
            task("b"),
            ExplainContext(NOW, manager=False),
            "its job is not managed: no manager is running; start one with `air-executor manager`",
        ),
        (task("b"), ExplainContext(NOW, manager=None), "in another container"),
        (
            task("b"),
            ExplainContext(NOW, waiting="task b: image node:22: 3 of 7 layers"),
            "task b is waiting for image node:22: 3 of 7 layers",
        ),
        (
            task("b"),
            ExplainContext(NOW, waiting="task other: image node:22: 3 of 7 layers"),
            "is ready and about to start",
        ),
        (
            task("b"),
            ExplainContext(NOW, backend_problem="the engine does not answer"),
            "its job is waiting for its backend, which cannot answer: the engine does not answer",
        ),
        (
            task("b"),
            ExplainContext(NOW, only_jobs=["x"]),
            "the running manager handles only job x; to run this one: `air-executor run j`",
        ),
        (task("b"), ExplainContext(NOW, only_jobs=["x", "y"]), "handles only jobs x, y;"),
    ],
)
def test_why_a_task_is_not_running(waiting: TaskState, context: ExplainContext, said: str) -> None:
    """Delays, retries, limits and a missing manager each have their own sentence."""
    assert said in explain_task(job(waiting), waiting, context)


def test_a_retry_says_what_went_wrong() -> None:
    """The next retry comes with its time and the end of the run before."""
    waiting = task("b", Queued(NOW + 5, retrying=True), attempts=(attempt("error", 3),))
    text = explain_task(job(waiting), waiting, CALM)
    assert "2027-01-15T08:00:05.000Z, in 5s" in text
    assert "(run 1 ended: exit code 3)" in text


def test_a_run_with_more_memory_says_why() -> None:
    """The amounts are shown while the next run waits, and while it runs."""
    growing = {"memory": 512 << 20, "memory_growth": 1.5}
    before = (attempt("oom", 137, mebibytes=512),)
    waiting = task("b", Queued(NOW + 5, retrying=True), attempts=before, resources=growing)
    text = explain_task(job(waiting), waiting, CALM)
    assert text.endswith("in 5s (run 1 ended: killed for memory at 512Mi; tries again with 768Mi)")
    running = task("b", Running(2, 0, NOW - 3, memory_limit=768 << 20), attempts=before, resources=growing)
    assert (
        explain_task(job(running), running, CALM)
        == "task b has been running for 3s (run 2, attempt 2; killed for memory at 512Mi; tried again with 768Mi)"
    )


def test_after_names_what_of_the_tree_is_not_done() -> None:
    """A task that waits for a tree says which of it is unfinished."""
    root = task("root", done())
    running = task("deep", Running(3, 0, NOW - 1), queued_by="root")
    merge = task("merge", after=["root"])
    text = explain_task(job(root, running, merge), merge, CALM)
    assert text == "task merge is waiting for root and the tasks it queued (1 unfinished: deep)"


def test_the_jobs_own_limit_names_who_is_running() -> None:
    """With all slots taken the tasks that hold them are named."""
    first = task("a", Running(1, 0, NOW - 3))
    second = task("b")
    one = job(first, second, spec={"max_runners": 1})
    assert (
        explain_task(one, second, CALM)
        == "task b is ready; limit reached: its job has 1 of at most 1 runner (running a)"
    )


def test_a_step_waits_behind_a_retry() -> None:
    """In a job of one runner a retry keeps its place."""
    first = task("a", Queued(NOW + 9, retrying=True), attempts=(attempt("error", 1),))
    second = task("b")
    one = job(first, second, spec={"max_runners": 1})
    assert "waits behind task a" in explain_task(one, second, CALM)


def test_a_running_task_says_how_long_it_has_left() -> None:
    """Its age, and when the timeout comes."""
    running = task("a", Running(7, 0, NOW - 3), timeout=10)
    assert (
        explain_task(job(running), running, CALM)
        == "task a has been running for 3s (run 7, attempt 1); it times out in 7s"
    )
    stopping = task("a", Running(7, 0, NOW - 3, "timeout"))
    assert "is being stopped: timed out" in explain_task(job(stopping), stopping, CALM)


def test_a_running_task_says_where_it_runs() -> None:
    """Its container by name, and whether its backend still answers."""
    running = task("a", Running(7, 1, NOW - 3))
    runners = {"a": RunnerFacts("docker", "laptop", "air-j--1")}
    context = ExplainContext(NOW, backend="docker", host="other", runners=runners)
    assert (
        explain_task(job(running), running, context)
        == "task a has been running for 3s in container air-j--1 (run 7, attempt 1)"
    )
    starting = {"a": RunnerFacts("kubernetes", "pod", "air-j", begun=False)}
    context = ExplainContext(NOW, runners=starting, waiting="task a: image x cannot be pulled")
    assert (
        explain_task(job(running), running, context)
        == "task a has been starting for 3s in kubernetes air-j (run 7, attempt 1); image x cannot be pulled"
    )
    assert explain_job(job(running), context).endswith(
        "is running 1 of 1 tasks, 0 queued, 1 of the running not started yet; task a: image x cannot be pulled"
    )
    down = ExplainContext(NOW, backend="docker", runners=runners, backend_problem="no answer")
    assert explain_task(job(running), running, down).endswith("; whether it is still running is unknown: no answer")
    assert explain_job(job(running), down).endswith("it is waiting for its backend, which cannot answer: no answer")


@pytest.mark.parametrize(
    ("runner", "backend", "said"),
    [
        (
            RunnerFacts("local", "laptop"),
            "docker",
            "backend local on host laptop, but the running manager uses docker",
        ),
        (
            RunnerFacts("docker", "laptop", "air-j"),
            "local",
            "backend docker on host laptop, but the running manager uses local",
        ),
        (RunnerFacts("local", "other"), "local", "backend local on host other, but the running manager is on laptop"),
    ],
)
def test_a_runner_out_of_reach_names_the_way_out(runner: RunnerFacts, backend: str, said: str) -> None:
    """Runners of another backend or host cannot be seen from here; an operator must confirm their end."""
    running = task("a", Running(7, 0, NOW - 3), timeout=10)
    context = ExplainContext(NOW, backend=backend, host="laptop", runners={"a": runner})
    for text in (explain_task(job(running), running, context), explain_job(job(running), context)):
        assert said in text
        assert text.endswith("if it is certain that the runner no longer exists: `air-executor confirm-gone j`")


def test_what_keeps_an_ended_run_open_is_told() -> None:
    """It still runs only by its state: whoever holds its slot is named."""
    running = task("a", Running(7, 0, NOW - 3))
    context = ExplainContext(NOW, waiting="task a: its runner has ended, but process 7 (sleep) still runs")
    told = explain_task(job(running), running, context)
    assert told.endswith("(run 7, attempt 1); its runner has ended, but process 7 (sleep) still runs")


def test_a_host_that_got_another_name_is_still_in_reach() -> None:
    """The boot is the machine, whatever its name was when the run started."""
    running = task("a", Running(7, 0, NOW - 3))
    runners = {"a": RunnerFacts("local", "monday", boot="b1")}
    context = ExplainContext(NOW, backend="local", host="tuesday", boot="b1", runners=runners)
    assert explain_task(job(running), running, context).endswith("(run 7, attempt 1)")


@pytest.mark.parametrize(
    ("state", "context", "said"),
    [
        (job(task("a"), phase="paused"), CALM, "job j is paused; resume it with `air-executor resume j`"),
        (
            job(task("a"), phase="paused"),
            ExplainContext(NOW, manager=False),
            "job j is paused; resume it with `air-executor run j`",
        ),
        (
            job(task("a"), phase="queued", after_uids={"x": "1"}),
            ExplainContext(NOW, after={"x": "running"}),
            "is ready",
        ),
        (
            job(task("a", done()), phase="succeeded", reason="ok", finished_at=NOW),
            CALM,
            "job j succeeded after 50s: 1 task in 0 runs",
        ),
        (
            job(
                task("a", done()),
                phase="failed",
                reason="timeout",
                stop="timeout",
                finished_at=NOW,
                spec={"deadline": 40},
            ),
            CALM,
            "its deadline of 40s passed",
        ),
        (
            job(task("a", done()), phase="failed", reason="upstream", stop="upstream", after_uids={"x": "1"}),
            CALM,
            "did not succeed",
        ),
        (job(task("a", done()), phase="cancelled", reason="cancelled"), CALM, "job j was cancelled"),
        (
            job(task("a", done("failed", "error", 9)), phase="failed", reason="error"),
            CALM,
            "job j failed: task a: exit code 9",
        ),
        (
            job(task("a"), phase="pending", submitted_by="0badcafe-4"),
            CALM,
            "is pending: run 0badcafe-4, which submitted it, is not committed yet",
        ),
        (job(task("a", Running(1, 0, NOW)), task("b")), CALM, "job j is running 1 of 2 tasks, 1 queued"),
        (job(task("a", Queued(NOW + 60))), CALM, "job j has no running task: task a is delayed; it starts at"),
    ],
)
def test_why_a_job_is_where_it_is(state: JobState, context: ExplainContext, said: str) -> None:
    """A job speaks for itself, or for the task that comes next."""
    assert said in explain_job(state, context)


def test_a_job_that_waits_for_jobs_names_them() -> None:
    """Those that have not succeeded, each with its phase."""
    waiting = job(task("a"), phase="queued", after_uids={"x": "1", "y": "2"})
    waiting.started_at = None
    for phases, said in (
        ({"x": "running", "y": "succeeded"}, "job x (running)"),
        ({"x": "running", "y": "queued"}, "jobs x (running), y (queued)"),
        ({"y": "succeeded"}, "job x, which no longer exists"),
        ({"y": "paused"}, "jobs x (no longer exists), y (paused)"),
    ):
        assert explain_job(waiting, ExplainContext(NOW, after=phases)) == f"job j is waiting for {said}"


def test_a_job_speaks_for_the_task_that_the_backend_prepares() -> None:
    """With several ready tasks, the one that waits for its image is the news."""
    first, second = task("a"), task("b")
    context = ExplainContext(NOW, waiting="task b: image node:22: looking for the image")
    text = explain_job(job(first, second), context)
    assert text == "job j has no running task: task b is waiting for image node:22: looking for the image"


def test_from_the_command_line(air: Callable[..., Outcome], client: Client) -> None:
    """Text, JSON, and what does not exist."""
    air("submit", "first", "--", "true")
    air("submit", "second", "--after", "first", "--", "true")
    assert "no manager is running" in air("explain", "first").out
    assert air("explain", "second").out == "job second is waiting for job first (queued)\n"
    record = json.loads(air("explain", "first", "_1", "--json").out)
    assert record.keys() == {"job", "task", "phase", "explanation", "description"}
    assert air("explain", "nobody").code == 3
    assert air("explain", "first", "nobody").code == 3

"""What each decision makes of a job: the phases, what is skipped, what comes back; checked against a plain model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.core.submission import initial_state, parse_job
from air_executor.core.transitions import LiveJob
from air_executor.model import events as ev
from air_executor.model.job import Task
from air_executor.model.state import Done, Queued, RunnerOrigin, Running
from air_executor.model.usage import Moments, Usage
from tests.conftest import EXAMPLES
from tests.records import make_done

NO_TIME = Moments(1.0, 1.0, 1.0, 1.0)


def make(*tasks: Any, **fields: Any) -> LiveJob:  # noqa: ANN401 - JSON
    """Return a job; a task given as text has only an id."""
    raw = [{"id": t, "command": "x"} if isinstance(t, str) else {"command": "x"} | t for t in tasks]
    return LiveJob(initial_state(parse_job({"id": "j", "tasks": raw, **fields}), uid="00000001", now=1.0))


def start(job: LiveJob, task: str, at: float = 2.0) -> int:
    """Start a run of a task and return its number."""
    seq = job.state.seq + 1
    slot = next(number for number in range(99) if number not in job.progress.slots)
    job.apply(ev.Started(at, task, seq, slot), 1)
    return seq


def end(job: LiveJob, seq: int, reason: str = "ok", at: float = 3.0, **more: Any) -> None:  # noqa: ANN401 - event fields
    """End a run."""
    job.apply(ev.Ended(at, seq, reason, NO_TIME, **more), 1)


def run(job: LiveJob, task: str, reason: str = "ok", at: float = 3.0, **more: Any) -> None:  # noqa: ANN401 - event fields
    """Start and end a run."""
    end(job, start(job, task, at), reason, at, **more)


def phases(job: LiveJob) -> str:
    """Return all phases, by their first letters."""
    return " ".join(f"{task.id}:{task.phase[:3]}" for task in job.state.tasks.values())


def ready(job: LiveJob, now: float = 9e9) -> list[str]:
    """Return the tasks that may start, in order."""
    job.progress.start_order.promote(now)
    return [
        t.id
        for t in sorted(
            (job.state.tasks[n] for n in job.progress.start_order.ready), key=lambda t: job.progress.nodes[t.id].place
        )
    ]


def test_one_event_one_version() -> None:
    """Each decision is the next version, under the epoch of who made it."""
    job = make("a", "b")
    start(job, "a")
    job.apply(ev.StopRequested(2.5, 1, "cancelled"), 7)
    assert (job.state.epoch, job.state.version, job.state.seq) == (7, 2, 1)
    assert job.state.tasks["a"].status == Running(1, 0, 2.0, "cancelled", ready_at=1.0, waited=1.0)
    job.apply(ev.StopRequested(2.6, 1, "timeout"), 7)
    assert job.state.tasks["a"].status == Running(1, 0, 2.0, "cancelled", ready_at=1.0, waited=1.0), (
        "the first reason stands"
    )


def test_life_of_a_job() -> None:
    """queued, running, succeeded; with the times and the reason of each."""
    job = make("a")
    assert (job.state.phase, job.state.started_at) == ("queued", None)
    seq = start(job, "a", 2.0)
    assert (job.state.phase, job.state.started_at) == ("running", 2.0)
    end(job, seq, at=3.0, exit_code=0, result={"n": 1})
    assert (job.state.phase, job.state.reason, job.state.finished_at) == ("succeeded", "ok", 3.0)
    assert job.state.tasks["a"].status == make_done("succeeded", "ok", 3.0, 0, None, {"n": 1})
    assert job.state.results() == {"a": {"n": 1}}


def test_what_a_start_notes() -> None:
    """A lock is held from the first start on, earlier runs are waited for no more, the runner can be found again."""
    origin = RunnerOrigin(backend="docker", host="here")
    job = make("a", "b", max_runners=2, lock="repository")
    job.state.earlier_runs = {"j-1": "0badcafe"}
    for number, task in enumerate(("a", "b")):
        job.apply(ev.Started(2.0 + number, task, 1 + number, number, origin=origin), 1)
    assert (job.state.started_at, job.state.locked_since, job.state.earlier_runs) == (2.0, 2.0, {})
    assert [task.run is not None and task.run.origin for task in job.state.tasks.values()] == [origin, origin]
    free = make("a")
    start(free, "a")
    assert free.state.locked_since is None


@pytest.mark.parametrize(("stop", "expected"), [("timeout", 7.0), ("budget", 7.0), ("upstream", None), (None, None)])
def test_clean_up_has_its_time_anew_after_a_rewind(stop: str | None, expected: float | None) -> None:
    """It begins with the first start: when it began before is not in the state that was checked out."""
    job = make("a", {"id": "tidy", "when": "always"}, {"id": "sweep", "when": "always"}, max_runners=2)
    run(job, "a", "error")
    job.state.stop = stop
    start(job, "tidy", 7.0)
    start(job, "sweep", 9.0)
    assert job.state.cleanup_from == expected


def test_the_usage_of_a_job_is_that_of_its_runs() -> None:
    """However they ended: time, money, and what they reported; how many of them succeeded is counted."""
    job = make({"id": "a", "retries": 1}, "b")
    moments = Moments(1.0, 1.5, 3.0, 3.25, cpu=0.75)
    seq = start(job, "a")
    spent: dict[str, Any] = {"cost": 0.5, "currency": "EUR"}
    job.apply(ev.Ended(3.5, seq, "error", moments, retry_at=4.0, reported={"rows": 2.0}, **spent), 1)
    assert job.state.tasks["a"].ready_at == 4.0, "it waits since then, not since its failure"
    for task, at in (("a", 5.0), ("b", 7.0)):
        job.apply(ev.Ended(at + 1, start(job, task, at), "ok", moments, reported={"rows": 1.0}, **spent), 1)
    assert job.state.usage == Usage(3, 1.5, 4.5, 0.75, 2.25, 1.5, "EUR", reported={"rows": 4.0}, succeeded=2)
    assert [one.waited for one in job.state.tasks["a"].attempts] == [1.0, 1.0]


@pytest.mark.parametrize(("reason", "retrying"), [("error", True), ("again", False), ("requeue", False)])
def test_a_delay_is_waited_for_once(reason: str, retrying: bool) -> None:  # noqa: FBT001
    """It counts from the time when the task could start; further runs have their own waits."""
    job = make("a", {"id": "b", "after": ["a"], "delay_after": 60, "retries": 1})
    run(job, "a", at=3.0)
    task = job.state.tasks["b"]
    assert (task.status, task.ready_at) == (Queued(63.0), 63.0)
    run(job, "b", reason, at=70.0, retry_at=71.0)
    assert (task.status, task.ready_at) == (Queued(71.0, retrying), 71.0)


def test_requeue_is_free() -> None:
    """A run that is put back costs no attempt and keeps its place."""
    job = make("a", "b")
    seq = start(job, "a")
    end(job, seq, "requeue")
    assert (job.state.tasks["a"].runs, job.state.tasks["a"].charged, ready(job)) == (0, 0, ["a", "b"])


@pytest.mark.parametrize(("reason", "charged", "faults"), [("error", 1, 0), ("lost", 0, 1)])
def test_retry_is_charged_to_whose_fault_it_was(reason: str, charged: int, faults: int) -> None:
    """The user's and the platform's budgets are apart."""
    job = make("a", "b", max_runners=2)
    run(job, "a", reason, retry_at=50.0)
    task = job.state.tasks["a"]
    assert (task.charged, task.faults, task.status) == (charged, faults, Queued(50.0, retrying=True))
    assert (ready(job, 49.0), ready(job, 51.0)) == (["b"], ["a", "b"])


def test_skips_cascade() -> None:
    """What needs a skipped task is skipped too, however long the chain."""
    chain = [{"id": f"x{n}", "after": [f"x{n - 1}"]} for n in range(1, 3000)]
    job = make("x0", *chain, "free", on_failure="continue")
    run(job, "x0", "error")
    assert sum(task.phase == "skipped" for task in job.state.tasks.values()) == 2999
    assert ready(job) == ["free"]


def test_tree_of_a_task() -> None:
    """`after` waits for everything that was queued below, `when: failure` for one failure in there."""
    job = make("a", {"id": "m", "after": ["a"]}, {"id": "f", "after": ["a"], "when": "failure"}, on_failure="continue")
    run(job, "a", queued=[Task(id="b", command="x"), Task(id="c", command="x")])
    run(job, "b", queued=[Task(id="d", command="x")])
    run(job, "c")
    assert ready(job) == ["d"]
    run(job, "d", "error")
    assert phases(job) == "a:suc m:ski f:que b:suc c:suc d:fai"
    assert ready(job) == ["f"]


def test_order_in_which_waiting_was_begun_does_not_matter() -> None:
    """A task that waits for several starts when the last of them is done, whichever that is."""
    for order in (["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]):
        job = make("a", "b", "c", {"id": "m", "after": ["a", "b", "c"]}, max_runners=3)
        for task in order:
            assert "m" not in ready(job)
            run(job, task)
        assert ready(job) == ["m"]


def test_the_first_failure_decides() -> None:
    """A task that needs several is skipped at once, whichever fails, and comes back with it, also after a restart."""
    for needs in (["a", "b"], ["b", "a"]):
        job = make("a", "b", {"id": "m", "after": needs}, {"id": "n", "after": ["m"]}, on_failure="continue")
        run(job, "a", "error", at=3.0)
        assert phases(job) == "a:fai b:que m:ski n:ski"
        assert job.state.tasks["n"].status == make_done("skipped", "upstream", 3.0)
        restarted = LiveJob(job.state)
        restarted.apply(ev.Requested(4.0, "r", "retry", "a"), 1)
        assert phases(restarted) == "a:que b:que m:que n:que"
        assert ready(restarted) == ["a", "b"]


def test_what_an_ancestor_queued_besides_does_not_matter() -> None:
    """Who waits for an ancestor waits for it alone: its tree fails by another task, and this one runs on."""
    job = make("a", on_failure="continue", max_runners=3)
    run(job, "a", queued=[Task(id="b", command="x", delay=20, after=["a"]), Task(id="c", command="x")])
    run(job, "c", "error")
    assert phases(job) == "a:suc b:que c:fai"
    assert (ready(job, 10.0), ready(job)) == ([], ["b"])


def test_stop_is_an_event() -> None:
    """After a reopening earlier failures stop nothing, and what was skipped stays so until it is asked for."""
    job = make("a", "b")
    run(job, "a", "error")
    assert (job.state.phase, phases(job)) == ("failed", "a:fai b:ski")
    job.apply(ev.Requested(4.0, "r", "add", None, [Task(id="c", command="x")]), 1)
    assert (job.state.phase, job.state.finished_at, ready(job)) == ("running", None, ["c"])
    run(job, "c")
    assert (job.state.phase, job.state.reason) == ("failed", "error")
    job.apply(ev.Requested(5.0, "r", "retry"), 1)
    assert ready(job) == ["a", "b"]
    run(job, "a")
    run(job, "b")
    assert job.state.phase == "succeeded"


def test_pending_job_runs_only_once_released() -> None:
    """A pending job ends or starts nothing until it is released."""
    job = make("a")
    job.state.phase = "pending"
    job.apply(ev.UpstreamFailed(2.0, "up"), 1)
    assert job.state.finished_at is None
    job.apply(ev.Released(3.0), 1)
    assert (job.state.phase, job.state.reason) == ("failed", "upstream")


def test_paused_job_ends_when_nothing_is_left() -> None:
    """A paused job whose last running task ends has ended."""
    job = make("a")
    seq = start(job, "a")
    job.apply(ev.Requested(2.5, "r", "pause"), 1)
    end(job, seq)
    assert job.state.phase == "succeeded"


@st.composite
def graphs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return tasks that wait for some before them, some of them only on failure or always."""
    found: list[dict[str, Any]] = []
    for position, name in enumerate(f"n{n}" for n in range(draw(st.integers(1, 7)))):
        task: dict[str, Any] = {"id": name, "command": "x"}
        needs = draw(st.lists(st.integers(0, position - 1), max_size=3, unique=True)) if position else []
        if needs:
            task["after"] = [f"n{need}" for need in needs]
            task["when"] = draw(st.sampled_from(["success", "success", "failure", "always"]))
        found.append(task)
    return found


def model(tasks: list[dict[str, Any]], outcomes: dict[str, str], parent: dict[str, str]) -> dict[str, str]:
    """Say what becomes of each task, from the sentences of the contract alone (`continue`; every task has `after`)."""
    ended: dict[str, str] = {}

    def tree(name: str) -> list[str]:
        return [name, *(below for child, above in parent.items() if above == name for below in tree(child))]

    for task in tasks:
        whole = [ended[name] for need in task.get("after", ()) for name in tree(need) if name in ended]
        bad = any(phase in {"failed", "cancelled"} for phase in whole)
        ok = all(phase in {"succeeded", "not-needed"} for phase in whole)
        runs = {"success": ok, "failure": bad, "always": True}[task.get("when", "success")]
        if runs:
            ended[task["id"]] = outcomes[task["id"]]
        else:
            ended[task["id"]] = "not-needed" if task.get("when") == "failure" else "skipped"
        for child, above in parent.items():
            if above == task["id"] and ended[above] == "succeeded":
                ended[child] = outcomes[child]
    return ended


@given(graphs(), st.data())
@settings(max_examples=2 * EXAMPLES)
def test_against_a_plain_model(graph: list[dict[str, Any]], data: st.DataObject) -> None:
    """Whatever waits for what, and however runs end in whatever order: it comes out as the sentences say."""
    outcomes: dict[str, str] = {}
    parent: dict[str, str] = {}
    for node in graph:
        outcomes[node["id"]] = data.draw(st.sampled_from(["succeeded", "succeeded", "failed"]))
        if data.draw(st.booleans()):
            parent[f"{node['id']}-kid"] = node["id"]
            outcomes[f"{node['id']}-kid"] = data.draw(st.sampled_from(["succeeded", "failed"]))
    job = make(*graph, on_failure="continue", max_runners=9)
    while not job.state.ended:
        choices = ready(job)
        assert choices, f"nothing may start, and nothing ends: {phases(job)}"
        name = data.draw(st.sampled_from(choices))
        kids = [Task(id=kid, command="x") for kid, above in parent.items() if above == name]
        run(job, name, "ok" if outcomes[name] == "succeeded" else "error", queued=kids)
    expected = model(graph, outcomes, parent)
    found = {}
    for name, task in job.state.tasks.items():
        assert isinstance(task.status, Done)
        not_needed = task.status.phase == "skipped" and task.status.reason == "ok"
        found[name] = "not-needed" if not_needed else task.status.phase
    assert found == {name: expected[name] for name in found}

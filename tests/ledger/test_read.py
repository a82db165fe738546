"""What the ledger reads from the states of jobs: when a run was ready, whose it is, and what is known only as a sum."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from air_executor.core.ledger import EarlierRuns, Ledger, Origin, UnfinishedRun, entry_of, read
from air_executor.model.attempt import MAX_AGAIN_KEPT, MAX_ATTEMPTS_KEPT
from air_executor.model.memo import Reused
from air_executor.model.state import JobState, Running, TaskState
from air_executor.model.times import to_text
from air_executor.model.usage import Usage
from tests.records import make_attempt, make_done, make_job, make_task

ORIGIN = Origin("j", "default", {})
REUSED = Reused(key="0" * 16, job="other", run="1-a")
MIB = 1 << 20


def make(*tasks: TaskState, **kept: Any) -> JobState:  # noqa: ANN401 - fields of the state
    """Return a job of these tasks, each of which has ended or runs."""
    return make_job("j", "00c0ffee", {"labels": {"team": "a"}}, tasks={task.id: task for task in tasks}, **kept)


@pytest.mark.parametrize(
    ("ended", "ready_at", "waited", "still_open"),
    [
        (50.0, 90.0, 12.0, 90.0),
        (90.0, 90.0, 12.0, 90.0),
        (95.0, 95.0, 7.0, 95.0),
        (100.0, 100.0, 2.0, 100.0),
        (101.0, 90.0, 12.0, 90.0),
    ],
)
def test_the_end_of_another_job_is_what_was_waited_for(
    ended: float, ready_at: float, waited: float, still_open: float
) -> None:
    """If it was between the time when a task would have been ready and its start; by the latest of several."""
    attempt = make_attempt(1, 0, 100.0, 2.0, 5.0, 1.0, "ok", waited=10.0)
    run = Running(2, 0, 100.0, waited=10.0)
    done, running = make_task("a", status=make_done("succeeded", "ok", 108.0), attempts=[attempt]), make_task("b")
    running.status = run
    job = make(done, running, after_uids={"x": "00000001", "y": "00000002", "gone": "00000003"})
    others = [
        make_job(name, uid, finished_at=at) for name, uid, at in (("x", "00000001", ended), ("y", "00000002", 9.0))
    ]
    found = read([job, *others])
    assert [(one.ready_at, one.waited) for one in found.entries] == [(ready_at, waited)]
    assert [one.ready_at for one in found.open] == [still_open]


def test_an_open_run_has_all_that_is_known_of_it() -> None:
    """Its own labels before those of its job; it exists from its node on, and costs nothing before."""
    task = make_task("a", {"labels": {"kind": "x"}}, status=Running(3, 0, 100.0, waited=4.0))
    one = UnfinishedRun(Origin("j", "default", {"team": "a", "kind": "x"}), 100.0, 96.0, 3)
    assert read([make(task)]).open == [one]
    task.status = Running(3, 0, 100.0, node_wait=2.5, price={"runner": 3600.0}, currency="EUR")
    has_node = replace(one, since=102.5, ready_at=100.0, price={"runner": 3600.0}, currency="EUR")
    assert read([make(task)]).open == [has_node]
    task.status = Running(3, 0, 100.0, node_wait=None, price={"runner": 3600.0}, currency="EUR")
    has_none = replace(has_node, since=100.0, exists=False)
    assert read([make(task)]).open == [has_none]
    assert [(each.seconds(104.0), each.cost(104.0, 103.0)) for each in (has_node, has_none)] == [(1.5, 1.0), (0.0, 0.0)]
    always = replace(has_node, since=0.0)
    assert (has_node.seconds(102.0), always.seconds(0.5), always.cost(0.5)) == (0.0, 0.5, 0.5)


@pytest.mark.parametrize(
    ("told", "waited", "ready_at"), [(91.0, 10.0, 91.0), (91.25, 10.0, 90.0), (None, 10.0, 90.0), (None, None, 100.0)]
)
def test_two_clocks_agree_within_a_second(told: float | None, waited: float | None, ready_at: float) -> None:
    """Where they do not, only the wait counts."""
    one = make_attempt(
        1, 0, 100.0, 2.0, 5.0, 1.0, "ok", ready_at=None if told is None else to_text(told), waited=waited
    )
    found = entry_of(ORIGIN, one, {}, followed=False)
    assert (found.ready_at, found.waited) == (ready_at, (waited or 0.0) + 2.0)


def test_each_run_had_its_own_memory() -> None:
    """Other requests are those of the task; all runs but the last are followed by one, and that too until the end."""
    attempts = [
        make_attempt(n, 0, 9.0 * n, 1.0, 2.0, 1.0, "oom", memory_limit=limit) for n, limit in ((1, 64 * MIB), (2, None))
    ]
    task = make_task("a", {"resources": {"cpu": 2, "memory": 128 * MIB}}, attempts=attempts)
    found = [(dict(one.requested), one.waste) for one in read([make(task)]).entries]
    assert found == [({"cpu": 2, "memory": 64 * MIB}, "retried"), ({"cpu": 2, "memory": 128 * MIB}, "retried")]
    task.status = make_done("failed", "oom", 30.0)
    assert [one.waste for one in read([make(task)]).entries] == ["retried", "failed"]


def test_results_of_earlier_runs() -> None:
    """Of all jobs: when they were taken, and whose they were."""
    tasks = [make_task(name, status=make_done("succeeded", "ok", 7.0)) for name in "ab"] + [make_task("c")]
    tasks[0].cached = tasks[2].cached = REUSED
    assert read([make(*tasks), make(tasks[0]), make(tasks[1])]).reused == [(7.0, REUSED), (7.0, REUSED)]


def test_what_is_known_only_as_a_sum() -> None:
    """Is what the runs that are known leave of a job's usage, and never less than nothing."""
    usage = Usage(4, 9.0, 8.0, 7.0, 1.5, 6.0, "EUR", {"USD": 5.0, "CHF": 1.0}, {"rows": 3.25, "usd": 1.0}, succeeded=2)
    attempts = [
        make_attempt(1, 0, 5.0, 1.0, 2.0, 3.0, "ok", cpu=0.5, cost=1.0, currency="EUR", reported={"rows": 1.125}),
        make_attempt(2, 0, 15.0, 1.0, 2.0, 3.0, "error", cost=2.0, currency="USD", reported={"usd": 4.0, "new": 1.0}),
        make_attempt(3, 0, 25.0, 1.0, 2.0, 3.0, "error", cost=4.0, currency="CHF"),
    ]
    task = make_task("a", status=make_done("failed", "error", 30.0), attempts=attempts)
    rest = Usage(1, 6.0, 2.0, 0.0, 1.0, 5.0, "EUR", {"USD": 3.0, "CHF": 0.0}, {"rows": 2.125, "usd": 0.0}, succeeded=1)
    job = make(task, usage=usage, started_at=4.0)
    expected = EarlierRuns(Origin("j", "default", {"team": "a"}), rest, 4.0, math.inf)
    assert (read([job]).earlier, usage.other_costs, usage.reported["rows"]) == (
        [expected],
        {"USD": 5.0, "CHF": 1.0},
        3.25,
    )
    job.started_at, usage.cpu_seconds, usage.succeeded = None, 0.25, 0
    floor = replace(rest, cpu_seconds=0.0, succeeded=0)
    assert read([job]).earlier == [replace(expected, usage=floor, after=0.0)]


@pytest.mark.parametrize("again", [0, MAX_AGAIN_KEPT, MAX_AGAIN_KEPT + 1])
def test_when_the_last_of_them_had_ended(again: int) -> None:
    """Before the oldest run that a task with too many has kept; of those that asked to run again, before such a one."""
    many = [make_attempt(n, 0, 10.0 + n, 0.0, 0.5, 0.0, "error") for n in range(MAX_ATTEMPTS_KEPT)]
    few = [make_attempt(500 + n, 0, 500.0 + n, 0.0, 0.5, 0.0, "again" if n else "error") for n in range(3)]
    job = make(make_task("a", attempts=many), make_task("b", attempts=few, again=again), usage=Usage(999))
    (found,) = read([job]).earlier
    assert found.before == (501.0 if again > MAX_AGAIN_KEPT else 10.0)
    del few[1:]
    assert read([job]).earlier[0].before == (math.inf if again > MAX_AGAIN_KEPT else 10.0), "none such is left"


def test_a_clock_that_was_set_divides_the_ledger() -> None:
    """Runs count from the end of the run that saw it on; all that is no run stays."""
    runs = [
        make_attempt(n, 0, at, 0.0, 2.0, 0.0, "ok", clock_stepped=at == 10.0) for n, at in enumerate((1.0, 10.0, 12.0))
    ]
    entries = [entry_of(ORIGIN, one, {}, followed=False) for one in runs]
    rest = ([UnfinishedRun(ORIGIN, 1.0, 1.0)], [EarlierRuns(ORIGIN, Usage())], [(1.0, REUSED)])
    assert Ledger(entries, *rest).after_clock_step() == Ledger(entries[2:], *rest)

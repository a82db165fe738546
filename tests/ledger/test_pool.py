"""The always-on pool: its window times its size is its busy and its idle time; its size is the smallest that does."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.core.always_on import Demand, Waits, demands, quantile, simulate, smallest, waits_of
from air_executor.core.ledger import Entry, Ledger, Origin, UnfinishedRun, read
from air_executor.model.state import JobState
from air_executor.model.times import to_text
from tests.ledger.strategies import BEGIN, histories
from tests.records import make_attempt, make_done, make_job, make_task

LOADS = st.lists(
    st.builds(
        Demand, st.integers(0, 30_000).map(lambda ms: ms / 1000), st.integers(0, 9_000).map(lambda ms: ms / 1000)
    ),
    max_size=25,
).map(lambda load: sorted(load, key=lambda one: one.arrival))


def slow_simulation(load: list[Demand], size: int) -> list[float]:
    """Return each run's wait, found the plain way: the first worker that is free takes the first that has come."""
    free = [0.0] * size
    waits = []
    for one in load:
        worker = min(range(size), key=free.__getitem__)
        begin = max(free[worker], one.arrival)
        free[worker] = begin + one.work
        waits.append(begin - one.arrival)
    return waits


@given(LOADS, st.integers(1, 6), st.floats(0, 60))
def test_window_times_size_is_busy_and_idle(load: list[Demand], size: int, end: float) -> None:
    """However small the pool: it stays until its work is done, so idle time is never negative."""
    pool = simulate(load, size, 0.0, end)
    assert pool.window_seconds * size == pytest.approx(pool.busy_seconds + pool.idle_seconds)
    assert pool.busy_seconds == pytest.approx(math.fsum(one.work for one in load))
    assert pool.idle_seconds >= -1e-6
    assert pool.end >= end
    waits = slow_simulation(load, size)
    assert pool.waits.mean == pytest.approx(math.fsum(waits) / len(waits) if waits else 0.0)
    assert pool.waits.p95 == pytest.approx(quantile(waits, 0.95))


@given(LOADS, st.integers(1, 6), st.floats(0, 60))
def test_no_pool_works_in_the_future(load: list[Demand], size: int, now: float) -> None:
    """It ends now, with the work that it has done by then, and idle time is never negative."""
    pool = simulate(load, size, 0.0, now, now)
    assert pool.end == now
    assert pool.busy_seconds <= size * now + 1e-6
    assert pool.busy_seconds <= math.fsum(one.work for one in load) + 1e-6


@given(LOADS, st.floats(0, 5), st.floats(0, 10))
def test_the_smallest_that_does(load: list[Demand], mean: float, p95: float) -> None:
    """It keeps the waits, and no smaller one does."""
    bound = Waits(mean, p95)
    pool = smallest(load, bound, 0.0, 30.0)
    assert pool.waits.no_worse_than(bound)
    assert not any(simulate(load, size, 0.0, 30.0).waits.no_worse_than(bound) for size in range(1, pool.size))


@given(st.tuples(histories("one"), histories("two")), st.integers(1, 5))
@settings(max_examples=50)
def test_over_random_schedules(jobs: tuple[JobState, ...], size: int) -> None:
    """The identity holds for what really ran; the pool is asked for no more work than was done."""
    ledger = read(jobs)
    load = demands(ledger, BEGIN + 1000, BEGIN)
    if not load:
        return
    start, end = load[0].arrival, max((e.attempt.gone_at for e in ledger.entries), default=BEGIN)
    waits = waits_of(ledger)
    for pool in (simulate(load, size, start, end), smallest(load, waits, start, end)):
        assert pool.window_seconds * pool.size == pytest.approx(pool.busy_seconds + pool.idle_seconds)
        assert pool.idle_seconds >= -1e-6
    assert smallest(load, waits, start, end).waits.no_worse_than(waits)
    work = math.fsum(e.attempt.work for e in ledger.entries) + math.fsum(BEGIN + 1000 - r.since for r in ledger.open)
    assert simulate(load, size, start, end).busy_seconds <= work + 1e-6


@pytest.mark.parametrize(
    ("load", "waits", "size", "seconds"),
    [
        ([Demand(0, 5), Demand(605, 3), Demand(1808, 0)], Waits(0.02, 0.02), 1, 1808.0),
        ([Demand(0, 10)] * 100, Waits(45, 90), 10, 1000.0),
        ([Demand(n, 1) for n in range(100)], Waits(0, 0), 1, 100.0),
    ],
    ids=["bursts", "files", "steady"],
)
def test_plain_cases(load: list[Demand], waits: Waits, size: int, seconds: float) -> None:
    """One worker waits out the bursts; ten carry the files; one is always busy with a steady load."""
    pool = smallest(load, waits, 0.0, 0.0)
    assert pool.size == size
    assert pool.runner_seconds == pytest.approx(seconds)


def test_what_was_ready_before_the_window_arrives_with_it() -> None:
    """A pool that exists from then on cannot have done it earlier."""
    one = make_attempt(1, 0, 100.0, 0.5, 30.0, 0.5, "ok", waited=40.0)
    ledger = Ledger([Entry(Origin("j", "q", {}), one, 60.0, 40.5, followed=False, requested={})])
    assert demands(ledger, 200.0, 0.0) == [Demand(60.0, 30.0, (100.0, 1))]
    assert demands(ledger, 200.0, 110.0) == [Demand(110.0, 30.0, (100.0, 1))]
    assert waits_of(ledger) == Waits(40.5, 40.5)


def test_what_was_stopped_for_our_sake_is_not_asked_of_the_pool() -> None:
    """It would not have had to do that twice; what is still open has worked until now."""
    stopped = make_attempt(1, 0, 100.0, 0.5, 30.0, 0.5, "requeue")
    origin = Origin("j", "q", {})
    ledger = Ledger(
        [Entry(origin, stopped, 100.0, 0.5, followed=True, requested={})], [UnfinishedRun(origin, 150.0, 145.0)]
    )
    assert demands(ledger, 200.0, 0.0) == [Demand(145.0, 50.0, (150.0, 0))]
    assert waits_of(ledger) == Waits(5.0, 5.0)


def test_runs_that_wait_are_taken_in_the_order_of_starts_on_demand() -> None:
    """One worker that takes the short task first keeps the waits of one runner that did so; another order doesn't."""
    job = make_job("j", "00c0ffee", {}, BEGIN)
    starts = [
        ("short", 0.0, 0.02, 0.01),
        ("long", 0.0, 0.06, 10.0),
        ("urgent", 4.0, 11.0, 1.0),
        ("late", 3.0, 13.0, 1.0),
    ]
    for seq, (name, ready, at, work) in enumerate(starts, 1):
        job.tasks[name] = make_task(name, status=make_done("succeeded", "ok", BEGIN + 15))
        job.tasks[name].attempts.append(
            make_attempt(
                seq, 0, BEGIN + at, 0.0, work, 0.0, "ok", ready_at=to_text(BEGIN + ready), waited=round(at - ready, 3)
            )
        )
    ledger = read([job])
    load = demands(ledger, BEGIN + 20, BEGIN)
    assert [one.arrival - BEGIN for one in load] == [0.0, 0.0, 3.0, 4.0]
    assert smallest(load, waits_of(ledger), BEGIN, BEGIN + 14).size == 1
    assert simulate(load, 1, BEGIN, BEGIN).waits.mean == pytest.approx((0 + 0.01 + 6.01 + 8.01) / 4)


@pytest.mark.parametrize("by", [-3600, -2, 2, 3600])
def test_a_volume_with_another_clock_makes_the_pool_neither_larger_nor_longer(by: int) -> None:
    """A wait is what the manager's clock has measured; it says nothing of the moments of runs, which the volume has."""
    ledgers = []
    for skew in (0, by):
        job = make_job("j", "00c0ffee", {}, BEGIN)
        job.tasks["a"] = make_task("a", status=make_done("succeeded", "ok", BEGIN + 15))
        for seq, at in enumerate((2.0, 9.0), 1):
            ready = to_text(BEGIN + at - 1.5 + skew)
            attempt = make_attempt(seq, 0, BEGIN + at, 0.5, 5.0, 0.5, "ok", ready_at=ready, waited=1.5)
            job.tasks["a"].attempts.append(attempt)
        ledgers.append([(entry.ready_at, entry.waited) for entry in read([job]).entries])
    assert ledgers[0] == ledgers[1]


@given(LOADS, st.randoms(use_true_random=False), st.integers(1, 6))
def test_no_order_makes_a_worker_idle_while_something_waits(load: list[Demand], chance: Random, size: int) -> None:
    """Whatever the order of starts: nothing is begun before it arrives, and one worker is done as early as ever."""
    turns = list(range(len(load)))
    chance.shuffle(turns)
    other = [replace(one, turn=(0.0, turn)) for one, turn in zip(load, turns, strict=True)]
    assert simulate(other, 1, 0.0, 0.0).end == pytest.approx(simulate(load, 1, 0.0, 0.0).end)
    pool = simulate(other, size, 0.0, 0.0)
    assert pool.waits.mean >= 0
    assert pool.end >= max((one.arrival + one.work for one in load), default=0.0)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.95, 0.0), ([3.0], 0.95, 3.0), ([float(n) for n in range(1, 101)], 0.95, 95.0), ([2.0, 1.0], 0.5, 1.0)],
)
def test_quantile(values: list[float], share: float, expected: float) -> None:
    """The nearest rank, always one of the values."""
    assert quantile(values, share) == expected

"""Whatever ran in whatever order: the sums of a report are exact, and nothing is counted twice or left out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.core.cost_query import group
from air_executor.core.job_cost import CostSums, money, sum_costs
from air_executor.core.ledger import WASTE, Ledger, read
from air_executor.model.state import JobState, Queued
from air_executor.model.usage import Stages, Usage
from air_executor.store import codec
from tests.ledger.strategies import histories
from tests.records import make_attempt, make_done, make_job, make_task

JOBS = st.tuples(histories("one"), histories("two"))


def close(value: float) -> object:
    """Return what compares equal but for the rounding of sums."""
    return pytest.approx(value, abs=1e-6)


@given(JOBS)
@settings(max_examples=60)
def test_runner_seconds_are_start_work_and_finish(jobs: tuple[JobState, ...]) -> None:
    """In all and in each group; the groups together are the whole, and each job's part is its own usage."""
    ledger = read(jobs)
    total = sum_costs(ledger)
    assert total.runner_seconds == close(total.start_seconds + total.work_seconds + total.finish_seconds)
    assert total.runner_seconds == close(math.fsum(e.attempt.gone_at - e.attempt.spawned for e in ledger.entries))
    for keys in (["job"], ["pool"], ["day"], ["week"], ["month"], ["label=x"], ["day", "month", "job"]):
        parts = [sum_costs(part) for part in group(ledger, keys).values()]
        for name in ("runs", "succeeded", "unpriced", "clock_stepped"):
            assert sum(getattr(part, name) for part in parts) == getattr(total, name)
        assert math.fsum(part.runner_seconds for part in parts) == close(total.runner_seconds)
        assert {kind: close(math.fsum(part.waste[kind] for part in parts)) for kind in WASTE} == total.waste
    for job in jobs:
        own = sum_costs(read([job]))
        assert (own.runs, own.runner_seconds) == (job.usage.runs, close(job.usage.runner_seconds))
        costs = {job.usage.currency: job.usage.cost, **job.usage.other_costs} if job.usage.currency else {}
        assert own.costs == {currency: pytest.approx(cost, abs=1e-9) for currency, cost in costs.items()}


@given(histories("one"))
@settings(max_examples=40)
def test_the_ledger_survives_being_written_and_read(job: JobState) -> None:
    """A report after a restart says what it said before, to the millisecond of when and the microsecond of how long."""
    again = codec.load_job(codec.dump_job(job), "state.json")
    before, after = sum_costs(read([job])), sum_costs(read([again]))
    for name in (
        "runs",
        "succeeded",
        "start_seconds",
        "work_seconds",
        "finish_seconds",
        "cpu_seconds",
        "waste",
        "costs",
    ):
        assert getattr(after, name) == getattr(before, name), name
    for entry, stored in zip(read([job]).entries, read([again]).entries, strict=True):
        assert stored.attempt.spawned_at == pytest.approx(entry.attempt.spawned_at, abs=0.0005001)
        assert stored.waited == entry.waited


@given(histories("one"), st.integers(0, 3))
@settings(max_examples=40)
def test_runs_that_the_state_has_forgotten_stay_in_the_sums(job: JobState, kept: int) -> None:
    """Of a task that ran very often only the newest runs are known one by one; the rest is counted, and said to be."""
    whole = sum_costs(read([job]))
    for task in job.tasks.values():
        del task.attempts[: max(0, len(task.attempts) - kept)]
    cut = sum_costs(read([job]))
    assert (cut.runs, cut.runner_seconds) == (whole.runs, close(whole.runner_seconds))
    assert cut.earlier == whole.runs - sum(len(task.attempts) for task in job.tasks.values())
    assert {name: pytest.approx(cost, abs=1e-9) for name, cost in cut.costs.items() if cost > 1e-9} == {
        name: cost for name, cost in whole.costs.items() if cost > 1e-9
    }


def test_a_changed_price_rewrites_nothing() -> None:
    """What was committed stays as it was; money of another currency is never added to it."""
    usage = Usage()
    usage.add(Stages(0, 3600, 0), None, 2.0, "EUR")
    usage.add(Stages(0, 3600, 0), None, 1.0, "USD")
    usage.add(Stages(0, 3600, 0), None, 0.0, None)
    assert (usage.cost, usage.currency, usage.other_costs) == (1.0, "USD", {"EUR": 2.0})
    usage.add(Stages(0, 3600, 0), None, 0.5, "EUR")
    assert (usage.cost, usage.currency, usage.other_costs) == (2.5, "EUR", {"USD": 1.0})


def test_nothing_is_nothing() -> None:
    """Without a run there is no share, no price per success and no division by zero."""
    job = make_job("j", "00c0ffee", {}, 0.0)
    job.tasks["a"] = make_task("a", {"command": "x"}, queued_by=None, status=Queued())
    assert read([job]) == Ledger([], [], [])
    assert sum_costs(read([job])) == CostSums()
    assert (CostSums().efficiency, CostSums().cost_per_success("EUR"), CostSums().window_seconds) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (12.345, "12.35"),
        (0.5, "0.500"),
        (0.0142, "0.0142"),
        (0.00000123456, "< 0.01"),
        (0.00999, "< 0.01"),
        (0.01, "0.0100"),
        (-0.002, "-0.00200"),
        (1234.5, "1234.50"),
    ],
)
def test_amounts_are_readable(amount: float, text: str) -> None:
    """Small ones show three digits, without an exponent; what is less than a cent needs no more words."""
    assert money(amount) == text


@pytest.mark.parametrize(
    ("slots", "spawned", "peak"),
    [([0], [0.0], 1), ([0, 1], [0.0, 0.0], 2), ([0, 0, 0], [0.0, 0.0, 0.001], 1), ([0, 1], [0.0, 0.05], 1)],
)
def test_the_peak_of_runs_shorter_than_the_step_of_the_clock(slots: list[int], spawned: list[float], peak: int) -> None:
    """Each was there for a moment; those of one slot never together."""
    attempts = [
        make_attempt(n, slot, at, 0.0005, 0.001, 0.0, "ok")
        for n, (slot, at) in enumerate(zip(slots, spawned, strict=True), 1)
    ]
    task = make_task("t", status=make_done("succeeded", "ok", 1.0), attempts=attempts)
    job = make_job("j", "00000001", tasks={"t": task})
    assert sum_costs(read([job])).peak_runners == peak

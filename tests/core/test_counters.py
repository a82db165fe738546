"""What each decision counts, under which labels, and what the next manager finds of it: on jobs that are made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from air_executor.core.counters import Counters, pool_of
from air_executor.core.pool_labels import OTHERS, UNNAMED_POOLS
from air_executor.core.price import Prices
from air_executor.core.transitions import LiveJob
from air_executor.core.usage_meter import RunSample
from air_executor.model import events as ev
from air_executor.model.job import Task
from air_executor.model.records import CountersRecord
from air_executor.model.usage import Moments
from tests.core.test_transitions import make

EUROS = Prices("EUR", runner_hour=3600.0)
A_RUN = Moments(11.5, 11.75, 13.75, 14.0)
"""A quarter of a second to start, two of work, and a quarter to finish."""


def made(*limited: str, before: CountersRecord | None = None, **more: Any) -> Counters:  # noqa: ANN401 - further arguments
    """Return the counters of a manager whose backend is called `fake`."""
    return Counters("fake", EUROS, limited, before, **more)


def decide(counters: Counters, job: LiveJob, *events: ev.Event, steady: float = 0.0) -> None:
    """Carry out decisions and count them, as a manager does."""
    for event in events:
        job.apply(event, 1)
        counters.decided(job, event, steady)


def ran(task: str, seq: int, reason: str = "ok", **more: Any) -> tuple[ev.Event, ev.Event]:  # noqa: ANN401 - event fields
    """Return a run."""
    return ev.Started(11.0, task, seq, 0), ev.Ended(14.0, seq, reason, A_RUN, **more)


def shown(counters: Counters, *names: str) -> dict[str, float]:
    """Return what a scrape has, 0 excepted; only series whose names begin so, if any are given."""
    values = {" ".join(one): value for one, value in counters.counts().values.items() if value}
    return {name: value for name, value in values.items() if not names or name.startswith(names)}


def kept(record: CountersRecord | None) -> dict[str, float]:
    """Return what a record has of counters."""
    assert record is not None
    return dict(record.counters)


def since(counters: Counters) -> dict[str, float]:
    """Return the counters that have changed since the last look at them."""
    return kept(counters.changes() or CountersRecord({}, {}))


def test_all_that_a_run_is_counted_by() -> None:
    """Its end, what it used, cost and queued, and how long it and its task were in each stage."""
    counters = made(cost_labels=["team"])
    job = make({"id": "a", "labels": {"team": "machine learning", "color": "red"}}, pool="night")
    counters.waits_for_backend("j", "a", 100.0)
    counters.waits_for_backend("j", "a", 102.0)
    decide(counters, job, ev.Started(11.0, "a", 1, 0), steady=104.0)
    assert counters.counts().values["label_cost_total", "team", "machine%20learning", "EUR"] == 0, "it begins at 0"
    ended = ev.Ended(
        14.0,
        1,
        "ok",
        Moments(11.5, 11.75, 13.75, 14.0, cpu=1.5),
        queued=[Task(id="b", command="x"), Task(id="c", command="x")],
        cost=2.5,
        price={"runner": 3600.0, "gpu": 1800.0},
        currency="CHF",
        backend="docker",
        delay=0.5,
        node_wait=2.0,
        reported={"rows": 3.0, "bytes": 7.0},
    )
    decide(counters, job, ended)
    assert shown(counters) == {
        "runs_total docker night ok": 1,
        "tasks_total night succeeded ok": 1,
        "queued_tasks_total": 2,
        "cpu_seconds_total docker night": 1.5,
        "reported_usage_total night rows": 3.0,
        "reported_usage_total night bytes": 7.0,
        "runner_seconds_total docker night busy": 2.0,
        "runner_seconds_total docker night idle": 0.5,
        "cost_total CHF night runner": 2.5,
        "cost_total CHF night gpu": 1.25,
        "label_cost_total team machine%20learning CHF": 2.5,
        "runner_stage_seconds_bucket queue 5.0": 1,
        "runner_stage_seconds_sum queue": 4.5,
        "runner_stage_seconds_bucket pull 5.0": 1,
        "runner_stage_seconds_sum pull": 4.0,
        "runner_stage_seconds_bucket node_wait 2.5": 1,
        "runner_stage_seconds_sum node_wait": 2.0,
        "runner_stage_seconds_bucket start 0.25": 1,
        "runner_stage_seconds_sum start": 0.25,
        "runner_stage_seconds_bucket work 2.5": 1,
        "runner_stage_seconds_sum work": 2.0,
        "runner_stage_seconds_bucket finish 0.25": 1,
        "runner_stage_seconds_sum finish": 0.25,
        "task_wait_seconds_bucket night 30.0": 1,
        "task_wait_seconds_sum night": 10.75,
    }


def test_what_a_run_without_more_is_counted_by() -> None:
    """Its backend and currency are the manager's; what is not known, or was not waited for, has no series."""
    counters, job = made(), make("a")
    job.state.tasks["a"].ready_at = None
    decide(counters, job, *ran("a", 1, price={"runner": 3600.0}))
    assert shown(counters, "runs", "cost", "cpu", "label", "queued", "runner_seconds", "task_wait_seconds_sum") == {
        "runs_total fake default ok": 1,
        "runner_seconds_total fake default busy": 2.0,
        "runner_seconds_total fake default idle": 0.5,
        "cost_total EUR default runner": 2.5,
        "task_wait_seconds_sum default": 0.25,
    }
    stages = {one[1] for one in counters.counts().values if one[0] == "runner_stage_seconds_bucket"}
    assert stages == {"queue", "start", "work", "finish"}


@pytest.mark.parametrize(
    ("waited", "asked", "node_wait", "queue", "pull"),
    [(10.0, 4.0, 3.0, 3.0, 4.0), (10.0, 12.0, 0.0, 0.0, 10.0), (2.0, 1.0, 4.0, 0.0, 1.0)],
)
def test_the_parts_of_a_wait(waited: float, asked: float, node_wait: float, queue: float, pull: float) -> None:
    """Together they are no longer than the wait, however the clocks went; what is left of it is the queue's."""
    counters, job = made(), make("a")
    counters.waits_for_backend("j", "a", 100.0)
    decide(counters, job, ev.Started(1.0 + waited, "a", 1, 0), steady=100.0 + asked)
    decide(counters, job, ev.Ended(99.0, 1, "ok", A_RUN, node_wait=node_wait))
    found = shown(counters, "runner_stage_seconds_sum")
    assert found.get("runner_stage_seconds_sum queue", 0.0) == queue
    assert found["runner_stage_seconds_sum pull"] == pull


def test_only_the_next_run_of_a_task_has_waited_for_its_image() -> None:
    """A later one has its own wait, and so has another task."""
    counters, job = made(), make({"id": "a", "retries": 1}, "b")
    counters.waits_for_backend("j", "a", 100.0)
    decide(counters, job, *ran("b", 1), steady=103.0)
    assert shown(counters, "runner_stage_seconds_sum pull") == {}
    decide(counters, job, *ran("a", 2, "error", retry_at=15.0), *ran("a", 3), steady=103.0)
    assert shown(counters, "runner_stage_seconds_sum pull") == {"runner_stage_seconds_sum pull": 3.0}


@pytest.mark.parametrize(
    ("value", "bound"), [(0.0, "0.005"), (0.25, "0.25"), (0.2501, "0.5"), (14400.0, "14400.0"), (14401.0, "+Inf")]
)
def test_a_value_is_in_the_first_bucket_that_holds_it(value: float, bound: str) -> None:
    """A bound belongs to its own bucket; what is above all of them has one too."""
    counters = made()
    moments = Moments(1.0, 1.0, 1.0 + value, 1.0 + value)
    decide(counters, make("a"), ev.Started(1.0, "a", 1, 0), ev.Ended(99.0, 1, "ok", moments))
    work = "runner_stage_seconds_bucket work"
    assert shown(counters, work) == {f"{work} {bound}": 1}


@pytest.mark.parametrize(
    ("reason", "more", "kind"),
    [
        ("ok", {}, None),
        ("again", {"retry_at": 15.0}, None),
        ("error", {}, "failed"),
        ("error", {"retry_at": 15.0}, "retried"),
        ("cancelled", {}, "cancelled"),
        ("lost", {}, "lost"),
        ("requeue", {}, "lost"),
    ],
)
def test_waste_by_kind(reason: str, more: dict[str, Any], kind: str | None) -> None:
    """All seconds of a run that brought nothing; only one that was put back has its wait still before it."""
    counters = made()
    decide(counters, make("a", "b"), *ran("a", 1, reason, **more))
    assert shown(counters, "waste") == ({} if kind is None else {f"waste_seconds_total default {kind}": 2.5})
    assert bool(shown(counters, "task_wait_seconds")) == (reason != "requeue")


@pytest.mark.parametrize(("reason", "queued"), [("ok", 1), ("again", 1), ("error", 0)])
def test_tasks_count_as_queued_once_their_run_is_committed(reason: str, queued: int) -> None:
    """A run that failed queues nothing."""
    counters = made()
    more = {"retry_at": 15.0} if reason == "again" else {}
    decide(counters, make("a", "z"), *ran("a", 1, reason, queued=[Task(id="b", command="x")], **more))
    assert shown(counters, "queued_tasks_total") == ({"queued_tasks_total": 1} if queued else {})


def test_a_run_that_nobody_meters_is_an_end_alone() -> None:
    """Its job was dropped and came back: its seconds are unknown, and its end is counted."""
    counters, job = made(cost_labels=["team"]), make("a", "b", labels={"team": "ml"}, max_runners=2)
    decide(counters, job, *(ev.Started(11.0, name, seq, seq) for seq, name in enumerate("ab")))
    other = make("x", id="other")
    decide(counters, other, ev.Started(11.0, "x", 0, 0))
    counters.drop("j")
    assert list(counters.open) == [("other", 0)]
    decide(counters, job, ev.Ended(14.0, 1, "ok", A_RUN, cost=2.5))
    assert shown(counters) == {"runs_total fake default ok": 1, "tasks_total default succeeded ok": 1}


def test_ends_of_jobs() -> None:
    """By pool, phase and reason, each once: also when it is reopened, but not when something is asked of it later."""
    counters, job = made(), make("a", pool="night")
    decide(counters, job, *ran("a", 1, "error"))
    assert shown(counters, "jobs") == {"jobs_total night failed error": 1}
    decide(counters, job, ev.Requested(20.0, "r1", "cancel"), ev.NoticeSettled(14.0, 1, "failed", "ops"))
    assert shown(counters, "jobs") == {"jobs_total night failed error": 1}
    decide(counters, job, ev.Requested(30.0, "r2", "retry"), *ran("a", 2))
    assert shown(counters, "jobs") == {"jobs_total night failed error": 1, "jobs_total night succeeded ok": 1}


def test_late_jobs_and_notifications() -> None:
    """A job is late in its pool; a notification was delivered, or given up."""
    counters, job = made(), make("a", pool="night")
    events = [ev.NoticeSettled(3.0, 1, on, "ops", failed) for on, failed in (("late", None), ("failed", "no host"))]
    decide(counters, job, ev.Late(2.0), *events, events[1])
    assert shown(counters) == {
        "jobs_late_total night": 1,
        "notifications_total late delivered": 1,
        "notifications_total failed given-up": 2,
    }


def test_ends_of_tasks_are_counted_once() -> None:
    """By one manager: a later one counts those since."""
    first, second, job = made(), made(), make("a", "b", {"id": "c", "after": ["b"]})
    decide(first, job, *ran("a", 1))
    second.recovered(job)
    decide(second, job, *ran("b", 2, "error"))
    assert shown(first, "tasks") == {"tasks_total default succeeded ok": 1}
    assert shown(second, "tasks") == {"tasks_total default failed error": 1, "tasks_total default skipped upstream": 1}


STAYED: Mapping[str, tuple[dict[str, Any], dict[str, float]]] = {
    "with all that is known": (
        {"backend": "docker", "currency": "CHF", "price": {"runner": 1800.0}, "cost": 1.25},
        {
            "runner_seconds_total docker night idle": 6.0,
            "cost_total CHF night runner": 3.0,
            "label_cost_total team ml CHF": 3.0,
        },
    ),
    "without a price": (
        {},
        {"runner_seconds_total fake night idle": 6.0, "label_cost_total team ml EUR": 3.0},
    ),
}


@pytest.mark.parametrize("case", STAYED)
def test_what_a_runner_uses_that_stays(case: str) -> None:
    """It is counted like its run, whose seconds are counted already, and as waste of the same kind."""
    more, expected = STAYED[case]
    counters, job = made(cost_labels=["team"]), make({"id": "a", "labels": {"team": "ml"}}, pool="night")
    decide(counters, job, *ran("a", 1, "error", keep_until=60.0, **more))
    before = shown(counters)
    decide(counters, job, ev.KeepEnded(20.0, "a", 1, 6.0, 3.0))
    after = shown(counters)
    assert {name: value - before.get(name, 0.0) for name, value in after.items() if value != before.get(name)} == {
        **expected,
        "waste_seconds_total night failed": 6.0,
        "runner_stage_seconds_bucket kept 10.0": 1,
        "runner_stage_seconds_sum kept": 6.0,
    }


def test_a_runner_that_stayed_until_its_task_ran_again() -> None:
    """It was for a run that was repeated; one whose run the job's state no longer has counts nothing."""
    counters, job = made(), make("a", "b", max_runners=2, on_failure="continue")
    decide(counters, job, *ran("a", 1, "error", keep_until=60.0), *ran("b", 2, "error", keep_until=60.0))
    decide(counters, job, ev.Requested(16.0, "r", "retry", "a"))
    since(counters)
    decide(counters, job, ev.KeepEnded(20.0, "a", 1, 6.0))
    assert since(counters)["waste_seconds_total default retried"] == 6.0
    job.state.tasks["b"].attempts.clear()
    decide(counters, job, ev.KeepEnded(20.0, "b", 2, 6.0))
    assert since(counters) == {}


def sample(job: LiveJob, task: str, seq: int, elapsed: float) -> RunSample:
    """Return a run that began to work one second after its runner."""
    return RunSample(job, job.state.tasks[task], seq, elapsed, start=1.01)


def test_open_runs_are_shown_and_not_kept() -> None:
    """Until they end: then their outcome counts, in place of what was shown of them."""
    counters, job = made(), make("a", "b", pool="night", max_runners=2)
    decide(counters, job, ev.Started(11.0, "a", 1, 0))
    counters.sample([sample(job, "a", 7, 99.0), sample(job, "a", 1, 5.01)])
    busy, idle = "runner_seconds_total fake night busy", "runner_seconds_total fake night idle"
    assert shown(counters) == {busy: 3.99, idle: 1.0, "cost_total EUR night runner": 4.99}
    changed = counters.changes()
    assert changed is not None
    assert (changed.counters, changed.shown[busy], counters.changes()) == ({}, 3.99, None)
    decide(counters, job, ev.Ended(16.0, 1, "ok", Moments(10.0, 11.0, 15.0, 15.5)))
    assert shown(counters, "runner_seconds") == {busy: 4.0, idle: 1.5}
    decide(counters, job, ev.Started(17.0, "b", 2, 0))
    counters.sample([sample(job, "b", 2, 3.01)])
    assert shown(counters, "runner_seconds") == {busy: 5.99, idle: 2.5}, "of all runs together"


def test_what_is_shown_begins_at_0_for_each_pool() -> None:
    """Pools with a limit have all their series at once, others from their first run on; each is kept once."""
    counters = made("gpu")
    zeros = {
        f"{name} {pool} {last}"
        for pool in ("gpu", "default")
        for name, ends in (
            ("runner_seconds_total fake", ("busy", "idle")),
            ("cost_total EUR", ("runner", "cpu", "memory", "gpu")),
        )
        for last in ends
    }
    assert {" ".join(one) for one in counters.counts().values} == zeros
    record = counters.changes()
    assert record is not None
    assert (record.counters, set(record.shown), set(record.shown.values())) == ({}, zeros, {0.0})
    counters.counts()
    assert counters.changes() is None


def test_who_is_running_in_which_pool() -> None:
    """Each open run in the pool of its job, and with its weight in the other pools that have a limit."""
    counters = made("gpu", "license")
    job = make({"id": "a", "pools": {"gpu": 2, "disk": 1}}, "b", pool="night", max_runners=2)
    decide(counters, job, *(ev.Started(11.0, name, seq, seq) for seq, name in enumerate("ab")))
    other = make("x", id="other", pool="gpu")
    decide(counters, other, ev.Started(11.0, "x", 1, 0))
    found = counters.counts()
    assert (found.open_runs, found.in_use) == ({"night": 2, "gpu": 1}, {"gpu": 3, "license": 0})
    assert (found.pools, set(found.new_pools)) == (("gpu", "license", "default", "night"), {"night"})


def test_the_next_manager_goes_on_with_all_of_it() -> None:
    """Values and pools: what is recorded as a whole is what the changes were, and a pool that was shown is not new."""
    counters = made("gpu", cost_labels=["team"])
    assert counters.changes() is None
    changes = []
    for number, pool in enumerate(("night", "day")):
        job = make("a", id=pool, pool=pool, labels={"team": "two words"})
        decide(counters, job, *ran("a", number + 1, cost=2.5, reported={"rows": 3.0}))
        counters.counts()
        changes.append(counters.changes() or CountersRecord({}, {}))
    first, second = changes
    assert "runs_total fake night ok" not in second.counters, "which has not changed again"
    record = CountersRecord({**first.counters, **second.counters}, {**first.shown, **second.shown})
    assert record == counters.record()
    following = made("gpu", before=record, cost_labels=["team"])
    assert (counters.goes_on, following.goes_on) == (False, True)
    assert (following.record(), following.counts().values) == (record, counters.counts().values)
    assert (following.counts().pools, following.counts().new_pools) == (("gpu", "default", "night", "day"), frozenset())


def test_a_value_is_never_lower_than_it_was_shown() -> None:
    """Nor is it shown again as new while it is lower; once it is higher it goes on."""
    name = "runner_seconds_total fake default busy"
    counters = made(before=CountersRecord({name: 1.0}, {name: 2.5}))
    assert shown(counters) == {name: 2.5}
    counters.changes()
    job = make("a", "b")
    decide(counters, job, ev.Started(11.0, "a", 1, 0), ev.Ended(14.0, 1, "ok", Moments(1.0, 1.0, 2.0, 2.0)))
    assert shown(counters, name) == {name: 2.5}
    changed = counters.changes()
    assert changed is not None
    assert (changed.counters[name], name in changed.shown) == (2.0, False)
    decide(counters, job, *ran("b", 2))
    assert shown(counters, name)[name] == 4.0


@pytest.mark.parametrize(("before", "counted"), [(None, 3.0), (CountersRecord({}, {}), 10.0)])
def test_a_run_of_an_earlier_manager(before: CountersRecord | None, counted: float) -> None:
    """Where its counters are known, all of its open runs is still to be counted; else what is older is left to it."""
    counters, job = made(before=before), make("a")
    job.apply(ev.Started(11.0, "a", 1, 0), 1)
    counters.waits_for_backend("j", "a", 97.0)
    counters.adopted(job, job.state.tasks["a"], 1, elapsed=7.0, steady=100.0)
    decide(counters, job, ev.Ended(30.0, 1, "ok", Moments(11.0, 11.0, 21.0, 21.0)))
    assert shown(counters, "runner_seconds") == {"runner_seconds_total fake default busy": counted}
    assert shown(counters, "runner_stage_seconds_sum pull") == {"runner_stage_seconds_sum pull": 3.0}
    assert shown(counters, "task_wait_seconds_sum") == {"task_wait_seconds_sum default": 10.0}


def labels(counters: Counters, name: str, at: int) -> set[str]:
    """Return the values that a label has in the series of a counter."""
    return {one[at] for one in counters.counts().values if one[0] == name}


def test_what_tasks_report_has_few_names() -> None:
    """As many as pools have without a limit; all others share one, also over a restart."""
    counters = made()
    names = [f"n{number}" for number in range(UNNAMED_POOLS + 2)]
    decide(counters, make("a"), *ran("a", 1, reported=dict.fromkeys(names, 1.0)))
    expected = {*names[:UNNAMED_POOLS], OTHERS}
    assert labels(counters, "reported_usage_total", 2) == expected
    following = made(before=counters.record())
    decide(following, make("a"), *ran("a", 1, reported={"new": 1.0, "n3": 1.0}))
    assert labels(following, "reported_usage_total", 2) == expected
    assert shown(following, "reported_usage_total")["reported_usage_total default n3"] == 2.0


def test_cost_is_divided_by_few_values() -> None:
    """Of each label by itself, also over a restart; what has no label has the empty value."""
    values = [f"v {number}" for number in range(UNNAMED_POOLS)]
    counters = made(cost_labels=["team", "customer"])
    for number, value in enumerate(values):
        decide(counters, make("a", id=f"j{number}", labels={"team": value}), *ran("a", 1, cost=1.0))
    following = made(before=counters.record(), cost_labels=["team", "customer"])
    new = make("a", {"id": "b", "labels": {"team": "v 3"}}, labels={"team": "new", "customer": "new"})
    decide(following, new, *ran("a", 1, cost=4.0), *ran("b", 2, cost=2.0))
    found = shown(following, "label_cost_total")
    assert found["label_cost_total customer  EUR"] == UNNAMED_POOLS
    assert found["label_cost_total customer new EUR"] == 6.0
    assert found["label_cost_total team v%203 EUR"] == 3.0
    assert found["label_cost_total team _other EUR"] == 4.0


@pytest.mark.parametrize(
    ("series", "pool"),
    [
        ("jobs_total night failed error", "night"),
        ("task_wait_seconds_bucket night 0.1", "night"),
        ("task_wait_seconds_sum night", "night"),
        ("runs_total fake night ok", "night"),
        ("cpu_seconds_total fake night", "night"),
        ("runner_seconds_total fake night busy", "night"),
        ("cost_total EUR night runner", "night"),
        ("runner_stage_seconds_bucket start 0.1", None),
        ("notifications_total late delivered", None),
        ("label_cost_total team ml EUR", None),
        ("queued_tasks_total", None),
        ("runs_total fake", None),
    ],
)
def test_the_pool_of_a_series(series: str, pool: str | None) -> None:
    """Most have it as first label; a file of another version may have fewer."""
    assert pool_of(tuple(series.split(" "))) == pool


def test_every_pool_that_was_counted_keeps_its_label() -> None:
    """Whether it was shown or not: pools that are new share one once there are many."""
    counted = {f"jobs_total p{number} succeeded ok": 1.0 for number in range(UNNAMED_POOLS - 1)}
    counters = made(before=CountersRecord(counted, {"cost_total EUR seen runner": 1.0}))
    assert [counters.pools.label(name) for name in ("p5", "new", "seen")] == ["p5", OTHERS, "seen"]

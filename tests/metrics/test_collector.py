"""What a collector exports, from when on, and that it counts each end once: on jobs that are made here."""

from __future__ import annotations

import pytest

from air_executor.core.observer import Observer
from air_executor.core.pool_labels import OTHERS, UNNAMED_POOLS
from air_executor.core.submission import initial_state, parse_job
from air_executor.core.transitions import LiveJob
from air_executor.metrics.collector import Collector, ManagerInfo
from air_executor.metrics.counter_families import TASK_ENDS
from air_executor.metrics.definitions import METRICS, PREFIX
from air_executor.model.events import Ended, Event, Requested, Started
from air_executor.model.job import Task
from air_executor.model.usage import Moments
from tests.metrics.rig import CountingCollector, samples

NOW = 1_800_000_000.0


@pytest.fixture
def collector() -> Collector:
    """The metrics of a manager that holds its state directory."""
    made = CountingCollector(ManagerInfo("test", "fake", max_runners=4, baseline_pool=2, pools={"gpu": 1}))
    made.holds()
    return made


def live_job(*commands: str, pool: str = "default") -> LiveJob:
    """Return a job with a task for each command, whose id it also is; `fails` is not retried."""
    tasks = [{"id": command, "command": command} for command in commands]
    spec = parse_job({"id": "j", "tasks": tasks, "pool": pool})
    return LiveJob(initial_state(spec, uid="0badcafe", now=NOW))


def decide(observer: Observer, job: LiveJob, *events: Event) -> None:
    """Carry out decisions as a manager does."""
    for event in events:
        job.apply(event, 1)
        if job.state.ended:
            observer.job_ended(job.state.id, job.state.phase)
        else:
            observer.job_changed(job, blocked=False)
        observer.decided(job, event)


def run(task: str, seq: int, reason: str = "ok") -> tuple[Event, Event]:
    """Return a run of three seconds: a fifth to start, a tenth to finish."""
    moments = Moments(NOW, NOW + 0.2, NOW + 2.9, NOW + 3)
    return Started(NOW, task, seq, 0), Ended(NOW + 3, seq, reason, moments, exit_code=0 if reason == "ok" else 1)


def task_ends(collector: Collector) -> dict[tuple[str, ...], float]:
    """Return how many tasks of the pool `default` ended, by result and reason."""
    return {end[1:]: count for end, count in samples(collector)["tasks_total"].items() if count and end[0] == "default"}


def test_what_is_defined_is_exported(collector: Collector) -> None:
    """Each metric with its type and help, once, and no other; nothing says when a series was created."""
    lines = [line for line in collector.scrape().decode().splitlines() if PREFIX in line]
    heads = {line for line in lines if line.startswith("#")}
    expected = [(f"# HELP {PREFIX}{one.name} {one.help}", f"# TYPE {PREFIX}{one.name} {one.kind}") for one in METRICS]
    assert heads == {line for pair in expected for line in pair}
    assert sum(line.startswith("#") for line in lines) == len(heads)
    assert not any("_created" in line for line in lines)


def test_every_series_of_a_pool_begins_at_0(collector: Collector) -> None:
    """Those of pools with a limit at once, those of others before their first job has done anything."""
    assert samples(collector)["tasks_total"] == {(pool, *end): 0 for pool in ("gpu", "default") for end in TASK_ENDS}
    collector.job_changed(live_job("a", pool="slow"), blocked=False)
    assert samples(collector)["jobs_total"]["slow", "succeeded", "ok"] == 0
    text = collector.scrape().decode()
    for name, labels in {
        "runner_seconds_total": 'backend="fake",pool="slow",state="busy"',
        "runs_total": 'backend="fake",pool="slow",reason="lost"',
        "waste_seconds_total": 'kind="failed",pool="slow"',
        "cost_total": 'component="cpu",currency="USD",pool="slow"',
        "task_wait_seconds_count": 'pool="slow"',
        "runner_stage_seconds_sum": 'stage="pull"',
        "orphans_total": 'action="adopted"',
    }.items():
        assert f"{PREFIX}{name}{{{labels}}} 0.0" in text


def test_the_first_money_of_a_new_pool_is_an_increase(collector: Collector) -> None:
    """However much it used before it was first scraped: that scrape has 0, and the next one all of it."""
    decide(collector, live_job("a", pool="night"), *run("a", 1))
    first, second = samples(collector), samples(collector)
    assert first["runner_seconds_total"]["fake", "night", "busy"] == 0
    assert second["runner_seconds_total"]["fake", "night", "busy"] == pytest.approx(2.7)
    decide(collector, live_job("b"), *run("b", 1))
    assert samples(collector)["runner_seconds_total"]["fake", "default", "busy"] == pytest.approx(2.7)


def test_pools_without_a_limit_share_a_label_at_last(collector: Collector) -> None:
    """However many names people write into job files, labels stay few."""
    for number in range(UNNAMED_POOLS + 5):
        collector.job_changed(live_job("a", pool=f"pool-{number}"), blocked=False)
    pools = {labels[0] for labels in samples(collector)["ready_tasks"]}
    assert len(pools) == UNNAMED_POOLS + 3
    assert pools >= {"gpu", "default", "pool-0", OTHERS}
    assert f"pool-{UNNAMED_POOLS}" not in pools


@pytest.mark.parametrize(
    ("name", "labels"), [("runner_stage_seconds", 'stage="start"'), ("task_wait_seconds", 'pool="default"')]
)
def test_histograms_add_up(collector: Collector, name: str, labels: str) -> None:
    """Buckets are cumulative, the last one counts all values, and the sum is that of the values."""
    decide(collector, live_job("a"), *run("a", 1))
    lines = [line for line in collector.scrape().decode().splitlines() if labels in line]
    (total,) = [line for line in lines if line.startswith(f"{PREFIX}{name}_sum")]
    assert float(total.split()[-1]) == pytest.approx(0.2)
    buckets = [line for line in lines if line.startswith(f"{PREFIX}{name}_bucket")]
    counts = {line.partition('le="')[2].partition('"')[0]: float(line.split()[-1]) for line in buckets}
    assert list(counts.values()) == sorted(counts.values())
    assert (counts["0.1"], counts["0.25"], counts["+Inf"]) == (0, 1, 1)


def test_each_end_is_counted_once(collector: Collector) -> None:
    """Through a failure that skips others, a retry that rebuilds what is derived, and a job that is reopened."""
    job = live_job("a", "b", "c")
    decide(collector, job, *run("a", 1), *run("b", 2, "error"))
    assert task_ends(collector) == {("succeeded", "ok"): 1, ("failed", "error"): 1, ("skipped", "upstream"): 1}
    decide(collector, job, Requested(NOW, "r1", "retry"), *run("b", 3), *run("c", 4))
    assert task_ends(collector)["succeeded", "ok"] == 3
    decide(collector, job, Requested(NOW, "r2", "add", tasks=[Task(id="d", command="d")]), *run("d", 5))
    assert task_ends(collector) == {("succeeded", "ok"): 4, ("failed", "error"): 1, ("skipped", "upstream"): 1}
    assert samples(collector)["jobs_total"]["default", "failed", "error"] == 1
    assert samples(collector)["jobs_total"]["default", "succeeded", "ok"] == 2


def test_counting_changes_nothing(collector: Collector) -> None:
    """Two collectors count the same job; neither takes anything from the other."""
    other = CountingCollector(ManagerInfo("test", "fake", max_runners=4, baseline_pool=2))
    other.holds()
    job = live_job("a", "b")
    for event in (*run("a", 1), *run("b", 2)):
        job.apply(event, 1)
        for one in (collector, other):
            one.decided(job, event)
    assert task_ends(collector) == task_ends(other) == {("succeeded", "ok"): 2}


def test_what_recovery_replays_is_not_counted_again(collector: Collector) -> None:
    """The journal's ends were counted by the manager that decided them; later ones are this manager's."""
    job = live_job("a", "b")
    for event in run("a", 1):
        job.apply(event, 1)
    starting = CountingCollector(ManagerInfo("test", "fake", max_runners=4, baseline_pool=2))
    starting.counters.recovered(job)
    starting.holds()
    decide(starting, job, *run("b", 2))
    assert task_ends(starting) == {("succeeded", "ok"): 1}

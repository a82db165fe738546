"""What a manager keeps of its counters for the next one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from urllib.parse import unquote

import pytest

from air_executor.core.counters import Counters, Counts
from air_executor.core.pool_labels import UNNAMED_POOLS
from air_executor.core.price import FREE, Prices
from air_executor.core.usage_meter import MeteredRun, RunSample
from air_executor.errors import StoreError
from air_executor.model.records import CountersRecord
from air_executor.model.usage import Stages
from air_executor.store import counters_file
from air_executor.store.journal import Journal
from tests.manager.rig import World


def test_unreadable_counters_begin_at_0(world: World) -> None:
    """They are quarantined, said, and stop nobody."""
    world.submit("j", "a", "b")
    world.do("j/a")
    world.stop()
    path = Path(world.layout.counters)
    path.write_text('{"counters": {"runs_total fake default ok": -1}}')
    world.start()
    assert any("counters.json.corrupt" in problem for problem in world.manager.status_writer.problems)
    world.do("j/b")
    world.stop()
    found = counters_file.load(world.layout)
    assert found is not None
    assert found.counters["runs_total fake default ok"] == 1
    assert "-1" in Path(f"{path}.corrupt").read_text()


def test_counters_that_may_not_be_read_begin_at_0(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As others: a manager of another user has left them."""
    world.stop()
    path = world.layout.counters
    real_open = os.open

    def refuse(opened: str, *rest: int, **named: int | None) -> int:
        if opened == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real_open(opened, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    world.start()
    assert any("counters.json.corrupt" in problem for problem in world.problems())
    world.submit("j", "a")
    world.do("j/a")
    assert world.job("j").phase == "succeeded"


def test_a_run_is_counted_until_its_runner_was_seen(world: World) -> None:
    """It may have ended since, and the next manager may learn that from the files of the run, which count less."""
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    world.clock.pass_time(10)
    world.cycle()
    seen = [sample.elapsed for sample in world.manager.open_runs.samples()]
    world.clock.pass_time(7)
    assert [sample.elapsed for sample in world.manager.open_runs.samples()] == seen
    assert seen[0] >= 10


def test_what_is_counted_of_an_open_run_is_never_more_than_its_end_says(world: World) -> None:
    """The outcome can have begun a tick of the volume's clock earlier than its file was seen to."""
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    (job,) = world.manager.state.index.open.values()
    task = job.state.tasks["a"]
    run = MeteredRun(task, "default", "fake", "USD", None)
    run.sample(RunSample(job, task, 1, elapsed=1.802, start=0.0133), Prices())
    shown = run.busy + run.idle
    run.commit(Stages(start=0.008, work=1.79, finish=0.0), None)
    assert shown <= run.busy + run.idle
    run.sample(RunSample(job, task, 1, elapsed=1.802, start=0.0133), Prices())
    assert run.idle == 0.008, "no sample counts more of the start than it took"


def test_counters_outlive_every_journal_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file begins with all of them, for checkpoints let those before go."""
    monkeypatch.setattr("air_executor.store.journal.ROTATE_AT", 1)
    world.submit("j", *(f"step-{n}" for n in range(5)))
    world.do(*(f"j/step-{n}" for n in range(5)))
    world.until(lambda: world.job("j").ended)
    assert not Path(world.layout.journal_file(world.manager.epoch, 0)).exists()
    world.restart()
    assert world.manager.state.counters.record().counters["runs_total fake default ok"] == 5


def test_what_was_never_shown_is_new_to_the_next_manager(world: World) -> None:
    """A pool that a killed manager has counted, and no scrape has seen, begins at 0 with the next one."""
    world.submit("j", "a", "b", pool="night")
    world.do("j/a")
    world.restart()
    assert world.manager.state.counters.counts().new_pools == {"night"}
    world.manager.counter_keeper.request()
    world.cycle()
    world.restart()
    assert world.manager.state.counters.counts().new_pools == frozenset()


def test_cost_by_label(world: World) -> None:
    """Of the task, else of its job; over restarts, with values of any kind, of which only the first have a series."""
    priced = {"prices": {"fake": Prices("EUR", 3600.0)}, "cost_labels": ["team"]}
    world.stop()
    world.start(**priced)
    world.submit("j", {"id": "a", "labels": {"team": "two words"}}, "b", labels={"team": "ml"}, max_runners=2)
    world.do("j/a")
    world.crash()
    world.start(**priced)
    world.do("j/b")
    for number in range(UNNAMED_POOLS):
        world.submit(f"n{number}", "t", labels={"team": f"t{number}"})
        world.do(f"n{number}/t")
    values = world.manager.state.counters.counts().values
    costs = {unquote(one[2]): cost for one, cost in values.items() if one[0] == "label_cost_total"}
    assert len(costs) == UNNAMED_POOLS + 1
    assert {"two words", "ml", "t0", "_other"} <= costs.keys()
    spent = [world.job(job).usage.cost for job in ("j", *(f"n{number}" for number in range(UNNAMED_POOLS)))]
    assert sum(costs.values()) == pytest.approx(sum(spent))
    assert costs["two words"] == pytest.approx(sum(one.cost for one in world.task("j", "a").attempts))


def test_no_value_is_lower_than_shown() -> None:
    """Not even where the job of an open run is gone when the next manager starts; what it used later fills that up."""
    shown = {"runner_seconds_total fake default busy": 5.0}
    before = CountersRecord({"runner_seconds_total fake default busy": 1.0}, shown)
    counters = Counters("fake", FREE, (), before)
    assert counters.counts().values["runner_seconds_total", "fake", "default", "busy"] == 5.0
    assert counters.record().counters == before.counters


def test_a_volume_that_cannot_sync_delays_nothing_but_a_scrape(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks start and are committed; the counters come once the journal is safe."""
    seen: list[Counts] = []
    monkeypatch.setattr(world.manager.observer, "counted", seen.append)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "sync", refuses)
        world.submit("j", "a", "b")
        world.manager.counter_keeper.request()
        world.until(lambda: "j/a" in world.running())
        world.exit("j/a")
        world.until(lambda: "j/b" in world.running())
        assert seen == []
    world.manager.counter_keeper.request()
    world.cycle()
    world.manager.counter_keeper.request()
    world.cycle()
    assert seen[-1].values["runs_total", "fake", "default", "ok"] == 1


def refuses(_: Journal) -> None:
    """Stand for a volume that is sick."""
    raise StoreError("cannot be synced")


def test_without_earlier_counters_a_run_counts_from_its_adoption(world: World) -> None:
    """An earlier version's manager, whose counters are unknown, may have shown the rest."""
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    world.crash()
    for path in Path(world.layout.journal).iterdir():
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(line for line in lines if not line.startswith(b'{"counters"')))
    world.start()
    (run,) = world.manager.state.counters.open.values()
    assert run.age > 0

"""What the manager commits of a run: its four moments, its price, its wait, whoever looked when it ended."""

from __future__ import annotations

import os

import pytest

from air_executor.core.cost_report import open_costs
from air_executor.core.job_cost import sum_costs
from air_executor.core.ledger import read
from air_executor.core.price import Prices
from air_executor.core.spending_limits import SpendingLimit
from air_executor.model.attempt import MAX_AGAIN_KEPT, Attempt
from air_executor.model.state import Running
from air_executor.model.times import from_text
from air_executor.store import codec
from tests.manager.rig import World, leave

EUROS = {"fake": Prices("EUR", 3.6, 7.2)}


def only(world: World, task: str = "a") -> Attempt:
    """Return the one run of a task of job j."""
    (attempt,) = world.task("j", task).attempts
    return attempt


def test_the_price_is_that_of_the_commit(world: World) -> None:
    """A manager with other prices and another currency changes nothing that was committed before."""
    world.stop()
    world.start(prices=EUROS)
    world.submit("j", {"id": "a", "resources": {"cpu": 0.5}}, "b")
    world.cycle()
    status = world.task("j", "a").status
    assert isinstance(status, Running)
    assert (status.price, status.currency) == ({"runner": 3.6, "cpu": 3.6}, "EUR")
    world.do("j/a")
    first = only(world)
    assert (first.price, first.currency, first.backend) == ({"runner": 3.6, "cpu": 3.6}, "EUR", "fake")
    assert first.cost == pytest.approx(first.runner_seconds * 7.2 / 3600)
    world.crash()
    world.start(prices={"fake": Prices("USD", 1.0)})
    world.do("j/b")
    job = world.job("j")
    assert only(world) == first
    assert job.usage.currency == "USD"
    assert job.usage.other_costs == {"EUR": pytest.approx(first.cost)}
    assert set(sum_costs(read([job])).costs) == {"EUR", "USD"}


def test_a_task_that_asked_to_run_again_very_often(world: World) -> None:
    """Its state keeps the newest runs; each of them all was a success that its money has bought."""
    world.stop()
    world.start(prices=EUROS)
    world.submit("j", {"id": "a", "again_on": [5], "again_delay": 0})
    for _ in range(MAX_AGAIN_KEPT + 20):
        world.do("j/a", code=5)
    world.do("j/a", code=1)
    assert len(world.task("j", "a").attempts) == MAX_AGAIN_KEPT + 1
    for job in (world.job("j"), codec.load_job(codec.dump_job(world.job("j")), "state.json")):
        sums = sum_costs(read([job]))
        assert (sums.runs, sums.succeeded) == (MAX_AGAIN_KEPT + 21, MAX_AGAIN_KEPT + 20)
        assert sums.cost_per_success("EUR") == pytest.approx(sums.costs["EUR"] / (MAX_AGAIN_KEPT + 20))


def waits_for_a_node(world: World, seconds: float | None) -> None:
    """Let the platform say for how long the runner of j/a had no node."""
    runner = world.platform.runners[world.slot("j/a")]
    runner.status = runner.status._replace(node_wait=seconds)
    world.cycle()


def test_a_wait_for_a_node_is_no_runner_time(world: World) -> None:
    """It is part of the task's wait, and what is left adds up as ever."""
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    waits_for_a_node(world, None)
    assert list(world.manager.open_runs.samples()) == []
    launch = world.launch("j/a")
    began = os.stat(f"{launch.out_dir}/claim").st_mtime
    os.utime(f"{launch.out_dir}/claim", (began + 60.0, began + 60.0))
    waits_for_a_node(world, 40.0)
    world.set_volume_time(began + 100.0)
    world.exit("j/a")
    os.utime(f"{launch.out_dir}/exit.json", (began + 90.0, began + 90.0))
    world.until(lambda: world.job("j").ended)
    found = only(world)
    assert found.node_wait == 40.0
    assert found.waited is not None
    assert found.waited >= 40.0
    assert [found.start, found.work, found.finish] == pytest.approx([20.0, 30.0, 10.0], abs=1.0)
    sums = sum_costs(read([world.job("j")]))
    assert sums.runner_seconds == pytest.approx(60.0, abs=1.0)
    assert sums.node_wait_seconds == 40.0
    counts = world.manager.state.counters.counts().values
    assert counts["runner_stage_seconds_sum", "node_wait"] == 40.0
    assert counts["runner_seconds_total", "fake", "default", "idle"] == pytest.approx(30.0, abs=1.0)


def test_a_runner_that_never_got_a_node_costs_nothing(world: World) -> None:
    """All of its time was a wait for one."""
    world.stop()
    world.start(prices=EUROS)
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    os.unlink(f"{world.launch('j/a').out_dir}/claim")
    waits_for_a_node(world, None)
    world.ask("cancel", "j")
    world.until(lambda: world.job("j").ended)
    found = only(world)
    assert found.reason == "cancelled"
    assert (found.runner_seconds, found.cost) == (0.0, 0.0)


def test_an_open_run_without_a_node_costs_nothing(world: World) -> None:
    """Nor does it use up a budget; from its node on it does both, also in the file."""
    world.stop()
    limit = SpendingLimit(None, 0.03, "month", "EUR", stops=True)
    world.start(prices=EUROS, budgets=[limit])
    world.submit("j", "a", budget={"runner_seconds": 30})
    world.until(lambda: "j/a" in world.running())
    os.unlink(f"{world.launch('j/a').out_dir}/claim")
    waits_for_a_node(world, None)
    world.clock.pass_time(60)
    world.cycle(2)
    (still,) = read([codec.load_job(codec.dump_job(world.job("j")), "state.json")]).open
    assert (still.exists, still.cost(world.clock.wall())) == (False, 0.0)
    world.submit("k", "b")
    world.until(lambda: "k/b" in world.running())
    world.do("k/b")
    assert world.task("j", "a").phase == "running"
    waits_for_a_node(world, 60.0)
    assert open_costs(read([world.job("j")]), world.clock.wall())["EUR"] < 0.03
    world.clock.pass_time(40)
    world.cycle(2)
    assert world.job("j").over_budget == "runner_seconds"
    world.submit("l", "c")
    world.cycle(3)
    assert "l/c" not in world.running()


@pytest.mark.parametrize("code", [0, 1])
def test_the_verdict_names_what_held_the_slot(world: World, code: int) -> None:
    """A process that outlives its runner keeps the run open: the outcome says for how long, and which one it was."""
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    slot, world.platform.slow_removal = world.slot("j/a"), True
    world.exit("j/a", code, lingers=True)
    runner = world.platform.runners[slot]
    runner.status = runner.status._replace(held_by="its runner has ended, but process 7 (sleep) still runs")
    world.cycle()
    for _ in range(12):
        world.clock.pass_time(1.0)
        world.cycle()
    assert world.task("j", "a").phase == "running"
    world.platform.settle()
    world.until(lambda: world.job("j").ended)
    assert only(world).reason == ("error" if code else "ok")
    assert only(world).message == "its slot was held for 12s: its runner has ended, but process 7 (sleep) still runs"
    assert world.task("j", "a").message == only(world).message


def test_what_was_spawned_before_a_price_holds_has_none(world: World) -> None:
    """Neither has what runs on a backend that nobody has named a price for."""
    world.stop()
    world.start(prices={"fake": Prices("EUR", 1.0, valid_from=world.clock.wall() + 3600)})
    world.submit("j", "a")
    world.do("j/a")
    assert (only(world).price, only(world).currency, only(world).cost) == (None, None, 0.0)
    assert world.job("j").usage.currency is None


def test_a_wait_is_from_ready_to_started(world: World) -> None:
    """A delay is no wait, and neither is what the task needs; a slot that is taken, or a manager that is away, is."""
    world.submit("j", {"id": "a", "delay": 30}, {"id": "b", "after": ["a"]})
    world.stop()
    world.clock.pass_time(42)
    world.start()
    world.do("j/a")
    world.clock.pass_time(5)
    world.do("j/b")
    assert only(world).waited == pytest.approx(12, abs=1)
    assert only(world, "b").waited == pytest.approx(0, abs=1)


def test_a_pause_is_no_wait(world: World) -> None:
    """Nobody waits for a runner while the job is paused."""
    world.submit("j", "a", "b")
    world.cycle()
    assert world.asked("pause", "j") is None
    world.do("j/a")
    world.clock.pass_time(3600)
    assert world.asked("resume", "j") is None
    world.do("j/b")
    waited = only(world, "b").waited
    assert waited is not None
    assert waited < 60


def test_a_wait_survives_a_crash(world: World) -> None:
    """It is in the state of the open run."""
    world.submit("j", {"id": "a", "delay": 10})
    world.clock.pass_time(25)
    world.cycle()
    world.restart()
    status = world.task("j", "a").status
    assert isinstance(status, Running)
    assert status.waited == pytest.approx(15, abs=1)
    world.do("j/a")
    assert only(world).waited == pytest.approx(status.waited, abs=1)


def test_tasks_that_were_ready_together_stay_so(world: World) -> None:
    """However long the first one's start took: both waited from then until their own runners were spawned."""
    world.submit("j", "a", "b")
    world.do("j/a", "j/b")
    first, second = only(world), only(world, "b")
    assert first.ready_at is not None
    assert first.ready_at == second.ready_at
    for one in (first, second):
        assert one.waited == pytest.approx(one.spawned - from_text(first.ready_at), abs=0.5)


@pytest.mark.parametrize("by", [3600, -3600])
def test_a_clock_that_is_set_is_no_wait(world: World, by: int) -> None:
    """What was ready before waited as long as it did, and the moment it was ready is told by the new clock."""
    world.submit("j", "a", "b")
    world.cycle()
    world.clock.set_wall(by)
    world.cycle()
    world.clock.pass_time(5)
    world.do("j/a", "j/b")
    second = only(world, "b")
    assert second.ready_at is not None
    assert second.waited == pytest.approx(5, abs=2)
    assert from_text(second.ready_at) == pytest.approx(world.clock.wall() - 5, abs=5)


def test_an_end_behind_a_silent_platform_is_the_runners_own(world: World) -> None:
    """While the platform answered nobody the run ended: it is not charged for the silence."""
    world.submit("j", "a")
    world.cycle()
    launch = world.launch("j/a")
    world.cycle()
    spawned = world.spawned("j/a")
    world.platform.silent = True
    world.cycle()
    leave(launch)
    world.platform.end(launch.slot)
    os.utime(f"{launch.out_dir}/exit.json", (spawned + 7, spawned + 7))
    world.clock.pass_time(600)
    world.platform.silent = False
    world.set_volume_time(spawned + 9000)
    world.until(lambda: world.job("j").ended, step=60)
    assert only(world).runner_seconds == pytest.approx(7, abs=0.001)


def test_the_platforms_time_of_an_end_counts_where_nobody_looked(world: World) -> None:
    """The runner outlived its command, and the platform knows until when."""
    world.platform.keeps_names = True
    world.submit("j", "a")
    world.cycle()
    launch = world.launch("j/a")
    world.restart()
    spawned = world.spawned("j/a")
    world.crash()
    leave(launch)
    os.utime(f"{launch.out_dir}/exit.json", (spawned + 7, spawned + 7))
    runner = world.platform.runners[launch.slot]
    runner.status = runner.status._replace(alive=False, finished=True, finished_at=spawned + 9)
    world.start()
    world.set_volume_time(spawned + 9000)
    world.until(lambda: world.job("j").ended)
    run = only(world)
    assert run.finish == pytest.approx(2, abs=0.001)
    assert run.runner_seconds == pytest.approx(9, abs=0.001)


def test_an_end_that_was_seen_is_by_the_volumes_clock(world: World) -> None:
    """What lies between the command's end and the runner's is charged: it was there."""
    world.submit("j", "a")
    world.cycle(2)
    launch, spawned = world.launch("j/a"), world.spawned("j/a")
    leave(launch)
    os.utime(f"{launch.out_dir}/exit.json", (spawned + 7, spawned + 7))
    world.set_volume_time(spawned + 8)
    world.platform.end(launch.slot)
    world.until(lambda: world.job("j").ended)
    assert only(world).runner_seconds == pytest.approx(8, abs=0.001)


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_a_clock_that_is_set_around_a_crash_is_noticed(world: World, when: str) -> None:
    """The next manager knows from the run's own file where the clocks stood."""
    if when == "before":
        world.clock.set_wall(3600)
    world.submit("j", "a")
    world.cycle()
    world.crash()
    if when == "while":
        world.clock.set_wall(-3600)
    world.start()
    world.cycle()
    if when == "after":
        world.clock.set_wall(3600)
    world.do("j/a")
    assert only(world).clock_stepped is (when != "before")

"""Budgets of pools, DAGs and labels: what the manager starts, over restarts and into the next period."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from air_executor.client import Client
from air_executor.core.explanation import explain_job
from air_executor.core.price import Prices
from air_executor.core.spending_limits import SpendingLimit
from air_executor.store.deleted_runs import DeletedRuns
from tests.manager.rig import World, leave

EUROS = {"fake": Prices("EUR", 3600.0)}
"""A euro for each second."""
MONTH = 32 * 86_400.0
GPU = SpendingLimit(("pool", "gpu"), 10.0, "month", "EUR", stops=True)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A state directory with a budget."""
    made = World(tmp_path / "project", prices=EUROS, budgets=[GPU], max_runners=8)
    made.jobs.prepare()
    return made


def spend(world: World, job: str, seconds: float, **fields: Any) -> None:  # noqa: ANN401 - JSON
    """Let a job of one task run for so many seconds."""
    world.submit(job, "t", **fields)
    world.until(lambda: f"{job}/t" in world.running())
    out_dir = world.launch(f"{job}/t").out_dir
    began = world.spawned(f"{job}/t")
    ended = began + seconds
    os.utime(f"{out_dir}/claim", (began, began))
    world.set_volume_time(ended)
    world.exit(f"{job}/t")
    os.utime(f"{out_dir}/exit.json", (ended, ended))
    world.until(lambda: world.job(job).ended)


def test_nothing_of_the_pool_starts_beyond_it(world: World) -> None:
    """What runs goes on, other pools do, and next month it does; until then all say why."""
    world.start()
    spend(world, "first", 11, pool="gpu")
    world.submit("second", "t", pool="gpu")
    world.submit("other", "t")
    world.cycle(5)
    assert list(world.running()) == ["other/t"]
    client = Client(world.layout.root)
    state = client.status("second")
    context = client.explain_context(state, client.job_facts(), world.clock.wall(), None, client.presence())
    assert "the budget pool=gpu is used up (11" in explain_job(state, context)
    world.clock.pass_time(MONTH)
    world.cycle(3)
    assert "second/t" in world.running()


def test_kept_runners_count(world: World) -> None:
    """A runner that stays after a failure uses it up before it goes, and no more once it has gone."""
    world.platform.keeps = True
    world.start()
    world.submit("failed", {"id": "t", "keep": {"on_failure": 60}}, pool="gpu")
    world.until(lambda: "failed/t" in world.running())
    leave(world.launch("failed/t"), 1)
    world.until(lambda: bool(world.job("failed").kept))
    begun = world.job("failed").kept["t"].since
    world.clock.pass_time(12)
    world.submit("next", "t", pool="gpu")
    world.cycle(3)
    assert list(world.running()) == ["failed/t"]
    world.set_volume_time(begun + 4)
    assert world.asked("cancel", "failed") is None
    world.until(lambda: "next/t" in world.running())
    assert 4 <= world.job("failed").usage.cost < 9


def test_open_runs_count(world: World) -> None:
    """A run that takes long uses it up before it ends."""
    world.start()
    world.submit("long", "t", pool="gpu")
    world.until(lambda: "long/t" in world.running())
    world.clock.pass_time(9)
    world.submit("second", "t", pool="gpu")
    world.until(lambda: "second/t" in world.running())
    world.clock.pass_time(5)
    world.submit("third", "t", pool="gpu")
    world.cycle(5)
    assert sorted(world.running()) == ["long/t", "second/t"]


@pytest.mark.parametrize("then", ["lives on", "archived", "deleted", "crashed"])
def test_what_was_spent_is_known_after_a_restart(world: World, then: str) -> None:
    """Whatever became of the job that spent it."""
    world.start()
    spend(world, "first", 11, pool="gpu")
    world.crash() if then == "crashed" else world.stop()
    if then == "archived":
        world.jobs.archive(world.job("first"))
    elif then == "deleted":
        DeletedRuns(world.layout).add(world.job("first"))
        shutil.rmtree(world.layout.job("first"))
    world.start()
    world.submit("second", "t", pool="gpu")
    world.cycle(5)
    assert list(world.running()) == []


def test_a_soft_budget_warns_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """At 80 %, and when it is used up; nothing waits."""
    caplog.set_level(logging.WARNING, "air_executor.manager.spending_keeper")
    world.start(budgets=[SpendingLimit(("label=team", "ml"), 10.0, "month", "EUR")])
    for number, seconds in enumerate((5, 4, 0, 3, 0)):
        spend(world, f"j{number}", seconds, labels={"team": "ml"})
        world.clock.pass_time(2)
        world.cycle()
    said = [record.getMessage() for record in caplog.records if record.name.endswith("spending_keeper")]
    assert len(said) == 2
    assert all("budget label=team=ml: used " in one and "of 10.00 EUR for this month" in one for one in said)

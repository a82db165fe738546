"""Backfills with `--retry`: runs that failed have their turn among the new ones, over crashes too."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.core.explanation import explain_job
from air_executor.model.names import scheduled_id
from air_executor.store.backfill_runs import Backfill, backfill_runs, cancel_runs
from air_executor.store.schedule_file import schedule_from
from air_executor.store.schedules import Schedules
from tests.manager.rig import World

DAYS = [scheduled_id("daily", 86_400.0 * (20_454 + day)) for day in range(4)]
"""From 2026-01-01 on."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A state directory with a schedule whose first two runs have failed: one is archived."""
    made = World(tmp_path / "project")
    made.jobs.prepare()
    path = tmp_path / "daily.yaml"
    path.write_text("name: daily\nschedule: {cron: 0 0 * * *}\ntasks: [{id: t, command: run it}]\n")
    schedule = schedule_from(str(path), made.clock.wall(), Schedules(made.layout))
    assert schedule is not None
    schedule.since = made.clock.wall() + 1e6  # nothing but the backfill starts runs
    Schedules(made.layout).save(schedule)
    made.start(max_runners=8)
    assert backfill(made, "2026-01-02").created == DAYS[:2]
    made.do(f"{DAYS[0]}/t", f"{DAYS[1]}/t", code=1)
    made.stop()
    made.jobs.archive(made.job(DAYS[0]))
    made.start(max_runners=8)
    return made


def backfill(world: World, until: str, *, max_active: int = 1, retry: bool = False) -> Backfill:
    """Backfill the days from the first one on."""
    client = Client(world.layout.root)
    return backfill_runs(client, "daily", "2026-01-01", until, max_active=max_active, retry=retry)


@pytest.mark.parametrize("crash", [False, True])
def test_retries_have_their_turn(world: World, *, crash: bool) -> None:
    """Never more at once than allowed, oldest first; what is archived runs anew."""
    found = backfill(world, "2026-01-04", retry=True)
    assert (found.created, found.retried) == ([DAYS[0], *DAYS[2:]], [DAYS[1]])
    for day in DAYS:
        world.until(lambda: bool(world.running()))
        if crash:
            world.crash()
            world.start(max_runners=8)
        world.cycle(5)
        assert list(world.running()) == [f"{day}/t"]
        world.exit(f"{day}/t")
    world.until(lambda: not world.live_jobs())
    assert {world.job(day).phase for day in DAYS} == {"succeeded"}
    assert world.job(DAYS[1]).tasks["t"].runs == 2


def test_two_at_once(world: World) -> None:
    """Each waits for the one that is two before it."""
    backfill(world, "2026-01-04", max_active=2, retry=True)
    world.cycle(5)
    assert sorted(world.running()) == [f"{day}/t" for day in DAYS[:2]]
    world.exit(f"{DAYS[1]}/t")
    world.cycle(5)
    assert sorted(world.running()) == [f"{DAYS[0]}/t", f"{DAYS[3]}/t"]


def test_a_retry_that_waits_says_so_and_is_cancelled_with_the_others(world: World) -> None:
    """It is a run of the backfill like those that it made."""
    backfill(world, "2026-01-02", retry=True)
    world.cycle(3)
    client = Client(world.layout.root)
    state = client.status(DAYS[1])
    why = explain_job(state, client.explain_context(state, client.job_facts(), world.clock.wall(), None))
    assert f"is waiting for job {DAYS[0]} (" in why
    assert cancel_runs(client, "daily") == DAYS[:2][::-1]
    world.until(lambda: not world.live_jobs())
    assert {world.job(day).phase for day in DAYS[:2]} == {"cancelled"}
    assert world.job(DAYS[1]).tasks["t"].runs == 1


def test_a_plain_retry_waits_for_nobody(world: World) -> None:
    """Also after it has waited in a backfill."""
    backfill(world, "2026-01-02", retry=True)
    world.do(f"{DAYS[0]}/t", f"{DAYS[1]}/t", code=1)
    world.until(lambda: not world.live_jobs())
    world.ask("retry", DAYS[0])
    world.ask("retry", DAYS[1])
    world.cycle(5)
    assert sorted(world.running()) == [f"{day}/t" for day in DAYS[:2]]

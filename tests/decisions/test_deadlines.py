"""What a passed deadline or a request decides is done in the same cycle, not at the next poll."""

from __future__ import annotations

from typing import Any

import pytest

from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.core.short_reason import ShortReasons
from air_executor.model.times import to_text
from tests.manager.rig import World
from tests.manager.test_features import outcome, reasons


def test_a_deadline_stops_its_runners_at_once(world: World) -> None:
    """The runner is told to stop in the cycle in which the deadline passes."""
    world.submit("j", "a", deadline=60)
    world.cycle()
    upcoming = world.manager.state.index.next_time()
    assert upcoming is not None
    world.clock.pass_time(upcoming - world.clock.wall() + 0.001)
    world.cycle()
    assert not world.running()


def test_a_cancel_stops_its_runners_at_once(world: World) -> None:
    """So it is with a cancel."""
    world.submit("j", "a")
    world.cycle()
    assert world.asked("cancel", "j") is None
    assert not world.running()


def test_a_poll_comes_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens between two polls does not put the next one off."""
    slept: list[float] = []
    world.submit("j", "a", deadline="1h")
    world.cycle()
    monkeypatch.setattr(world.manager.wakeups, "sleep", slept.append)
    world.clock.pass_time(world.manager.options.poll_interval * 0.9)
    world.manager.cycle()
    world.manager.sleep()
    assert slept[0] <= world.manager.options.poll_interval * 0.2


# Clean-up

TIDY: dict[str, Any] = {"id": "tidy", "when": "always"}


def pass_time(world: World, seconds: float) -> None:
    """Let time pass, and whatever follows from that happen."""
    world.clock.pass_time(seconds)
    world.cycle(3)


def said(world: World, task: str) -> str:
    """Return what `explain` says of a task."""
    job = world.job("j")
    return explain_task(job, job.tasks[task], ExplainContext(world.clock.wall()))


def test_clean_up_runs_after_a_deadline(world: World) -> None:
    """Within its own time; that is told with its end, and the deadline is told as the job's."""
    world.submit("j", {"id": "a", "timeout": "1h"}, "b", TIDY, deadline=60, cleanup_time=30)
    world.cycle()
    pass_time(world, 61)
    world.until(lambda: "j/tidy" in world.running(), step=0)
    assert world.launch("j/tidy").env["AIR_JOB_PHASE"] == "failed"
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    until = f"clean-up tasks may run until {to_text(world.clock.wall() + 30)}, for 30s"
    assert explain_job(job, context).endswith(f"; {until}")
    assert said(world, "tidy").endswith(f"; {until}")
    assert until in ShortReasons(job, context).of_job()
    assert said(world, "a") == "task a failed: the deadline of its job passed"
    assert said(world, "b") == "task b was skipped: the deadline of its job (1m) passed"
    world.do("j/tidy")
    assert outcome(world, "j") == ("failed", "timeout")
    assert reasons(world, "j") == {"a": "timeout", "b": "timeout", "tidy": "ok"}
    assert explain_job(world.job("j"), context).endswith("its deadline of 1m passed")


def test_clean_up_that_takes_too_long_is_ended(world: World) -> None:
    """What runs is stopped, what is queued is skipped, and both say why; nothing is retried."""
    last = {**TIDY, "id": "last", "after": ["tidy"]}
    world.submit("j", "a", {**TIDY, "retries": 3}, last, deadline=60, cleanup_time=30)
    world.cycle()
    pass_time(world, 61)
    world.until(lambda: "j/tidy" in world.running(), step=0)
    pass_time(world, 29)
    assert "j/tidy" in world.running()
    pass_time(world, 2)
    assert outcome(world, "j") == ("failed", "timeout")
    assert said(world, "tidy") == "task tidy failed: the time for clean-up tasks of its job passed"
    assert said(world, "last") == "task last was skipped: the time for clean-up tasks of its job passed"


def test_clean_up_has_time_by_default(world: World) -> None:
    """Two minutes; with 0, there is no clean-up after a deadline."""
    world.submit("j", "a", TIDY, deadline=60)
    world.submit("k", "a", TIDY, deadline=60, cleanup_time=0)
    world.cycle()
    pass_time(world, 61)
    assert outcome(world, "k") == ("failed", "timeout")
    assert world.phases("k") == {"a": "failed", "tidy": "skipped"}
    world.until(lambda: "j/tidy" in world.running(), step=0)
    assert world.job("j").cleanup_until == world.job("j").cleanup_from + 120  # type: ignore[operator]


def test_a_clean_up_task_that_runs_already_goes_on(world: World) -> None:
    """Neither the deadline nor the first cancel of its job stops it."""
    world.submit("j", "a", TIDY, deadline=60, cleanup_time=30)
    world.do("j/a")
    world.until(lambda: "j/tidy" in world.running(), step=0)
    pass_time(world, 61)
    assert world.asked("cancel", "j") is None
    assert world.task("j", "tidy").run.stop is None  # type: ignore[union-attr]
    world.do("j/tidy")
    assert world.phases("j") == {"a": "succeeded", "tidy": "succeeded"}


def test_no_pause_keeps_clean_up_from_its_time(world: World) -> None:
    """A passed deadline and a cancel end it, also one for a budget; else clean-up would wait until it's too late."""
    world.submit("late", "a", "b", TIDY, deadline=60, cleanup_time=30)
    world.submit("no", "a", "b", TIDY)
    world.submit("dear", "a", "b", TIDY, budget={"runner_seconds": 0.001})
    world.cycle()
    for job in ("late", "no"):
        assert world.asked("pause", job) is None
    for job in ("late", "no", "dear"):
        world.do(f"{job}/a")
        assert (world.job(job).phase, world.task(job, "tidy").phase) == ("paused", "queued")
    for job in ("no", "dear"):
        assert world.asked("cancel", job) is None
    pass_time(world, 61)
    for job in ("late", "no", "dear"):
        world.do(f"{job}/tidy")
        world.until(lambda job=job: world.job(job).ended, step=0)  # type: ignore[misc]
    assert [outcome(world, job) for job in ("late", "no", "dear")] == [
        ("failed", "timeout"),
        ("cancelled", "cancelled"),
        ("cancelled", "cancelled"),
    ]


def test_cancels(world: World) -> None:
    """The first lets clean-up run, the second limits it, and the third ends it."""
    world.submit("j", "a", TIDY, cleanup_time=30)
    world.cycle()
    assert world.asked("cancel", "j") is None
    world.until(lambda: "j/tidy" in world.running(), step=0)
    pass_time(world, 300)
    assert "j/tidy" in world.running()
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    assert explain_job(job, context).endswith("; it was cancelled: only clean-up tasks go on")
    assert ShortReasons(job, context).of_job() == "it was cancelled: only clean-up tasks go on"
    assert world.asked("cancel", "j") is None
    pass_time(world, 29)
    assert "j/tidy" in world.running()
    assert world.asked("cancel", "j") is None
    world.cycle(3)
    assert outcome(world, "j") == ("cancelled", "cancelled")
    assert reasons(world, "j") == {"a": "cancelled", "tidy": "cancelled"}


def test_a_second_cancel_has_an_end(world: World) -> None:
    """Without a third."""
    world.submit("j", "a", TIDY, cleanup_time=30)
    world.cycle()
    for _ in range(2):
        assert world.asked("cancel", "j") is None
    world.until(lambda: "j/tidy" in world.running(), step=0)
    pass_time(world, 31)
    assert outcome(world, "j") == ("cancelled", "cancelled")
    assert said(world, "tidy").startswith("task tidy was cancelled")


def test_clean_up_after_too_many_tasks(world: World) -> None:
    """It runs in this ending, too."""
    world.submit("j", "a", TIDY, max_tasks=3)
    world.do("j/a", queue=[{"command": "x"}] * 5)
    world.do("j/tidy")
    assert outcome(world, "j") == ("failed", "budget")
    assert reasons(world, "j") == {"a": "budget", "tidy": "ok"}


def test_the_time_of_clean_up_survives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash, and a clock that is set; the manager sleeps no longer than until its end."""
    world.submit("j", "a", TIDY, deadline=60, cleanup_time=30)
    world.delay_checkpoints(monkeypatch)
    pass_time(world, 61)
    world.until(lambda: "j/tidy" in world.running(), step=0)
    world.clock.set_wall(+3600)
    world.cycle()
    pass_time(world, 10)
    world.restart()
    world.cycle(2)
    assert "j/tidy" in world.running()
    assert world.manager.state.index.next_time() == world.job("j").cleanup_until
    assert world.job("j").cleanup_until == pytest.approx(world.clock.wall() + 20, abs=2)
    pass_time(world, 22)
    assert outcome(world, "j") == ("failed", "timeout")


def test_a_passed_time_is_found_after_a_restart(world: World) -> None:
    """Deadline and clean-up may both pass while no manager lives; clean-up then has its time all the same."""
    world.submit("j", "a", TIDY, deadline=60, cleanup_time=30)
    world.cycle()
    world.crash()
    world.clock.pass_time(600)
    world.start()
    world.until(lambda: "j/tidy" in world.running(), step=0)
    world.crash()
    world.clock.pass_time(600)
    world.start()
    world.cycle(3)
    assert outcome(world, "j") == ("failed", "timeout")


def test_a_retry_begins_anew(world: World) -> None:
    """A reopened job has neither its old deadline nor its old clean-up time."""
    world.submit("j", "a", TIDY, deadline=60, cleanup_time=0)
    world.cycle()
    pass_time(world, 61)
    assert world.job("j").ended
    assert world.asked("retry", "j") is None
    job = world.job("j")
    assert (job.cleanup_from, job.cleanup_over) == (None, False)
    world.do("j/a", "j/tidy")
    assert outcome(world, "j") == ("succeeded", "ok")

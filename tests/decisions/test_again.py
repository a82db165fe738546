"""A task that asks to run again, later, does: no retry is charged, and what it queued takes effect once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from air_executor.core.explanation import ExplainContext, explain_task
from air_executor.core.short_reason import ShortReasons
from air_executor.manager.act_queue import ActQueue
from air_executor.model.attempt import MAX_AGAIN_KEPT
from air_executor.model.times import from_text, to_text
from air_executor.web.views import outcome_of
from tests.manager.rig import World, leave
from tests.manager.test_features import outcome, reasons, wait_of

AGAIN: list[Any] = [{"again": {"delay": "10m"}}]


def run_again(world: World, name: str, *, code: int = 0, queue: list[Any] | None = None, result: Any = None) -> None:  # noqa: ANN401 - JSON
    """End a run that asks for another one, and let the manager commit it."""
    world.do(name, code=code, queue=AGAIN if queue is None else queue, result=result)


def test_a_line_asks_for_another_run(world: World) -> None:
    """The task is queued again for its time; what waits for it waits on, and its last run's result counts."""
    world.submit("j", {"id": "check", "retries": 0}, {"id": "use", "after": ["check"]})
    run_again(world, "j/check", result={"ready": 1})
    assert world.task("j", "check").phase == "queued"
    assert wait_of(world, "j", "check") == pytest.approx(600, abs=1)
    assert not world.running()
    world.clock.pass_time(601)
    world.do("j/check", result={"ready": 2})
    world.do("j/use")
    assert outcome(world, "j") == ("succeeded", "ok")
    assert world.task("j", "check").result == {"ready": 2}
    assert world.task("j", "check").runs == 2
    assert [one.reason for one in world.task("j", "check").attempts] == ["again", "ok"]


def test_an_exit_code_asks_for_another_run(world: World) -> None:
    """So does an exit code that the task names, after `again_delay`; it takes nothing from the retries."""
    world.submit("j", {"id": "a", "again_on": [75], "again_delay": "30s", "retries": 1, "retry_delay": 1})
    for _ in range(3):
        world.do("j/a", code=75)
        assert wait_of(world, "j", "a") == pytest.approx(30, abs=1)
        world.clock.pass_time(31)
    world.do("j/a", code=1)
    assert world.task("j", "a").retrying
    world.until(lambda: "j/a" in world.running())
    world.do("j/a", code=1)
    assert outcome(world, "j") == ("failed", "error")


def test_what_it_queues_each_time_is_committed_each_time(world: World) -> None:
    """Tasks and jobs that a run queued before it asked for another one run meanwhile, each once."""
    world.submit("j", "a", max_runners=2)
    run_again(
        world, "j/a", queue=[{"id": "b", "command": "x"}, {"job": {"id": "k", "tasks": [{"command": "y"}]}}, *AGAIN]
    )
    world.do("j/b")
    world.do("k/_1")
    world.clock.pass_time(601)
    run_again(world, "j/a", queue=[{"id": "c", "command": "x"}])
    world.do("j/c")
    assert reasons(world, "j") == {"a": "ok", "b": "ok", "c": "ok"}
    assert outcome(world, "k") == ("succeeded", "ok")


def test_others_go_on_meanwhile(world: World) -> None:
    """In a job with one runner a task that runs again later holds nobody, unlike one that waits for its retry."""
    world.submit("j", "a", "b")
    run_again(world, "j/a")
    world.do("j/b")


@pytest.mark.parametrize("where", ["before the journal", "after the journal"])
def test_a_crash_commits_it_once(world: World, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """The manager is killed around the commit: the next one has the wait, and the queued task, once."""
    world.submit("j", "a", max_runners=2)
    world.cycle()
    world.delay_checkpoints(monkeypatch)
    world.exit("j/a", queue=[{"id": "b", "command": "x"}, *AGAIN])
    if where == "before the journal":
        monkeypatch.setattr(ActQueue, "write_journal", lambda _: False)
    world.cycle()
    monkeypatch.undo()
    world.restart()
    world.cycle(2)
    assert world.task("j", "a").again == 1
    assert list(world.job("j").tasks) == ["a", "b"]
    world.do("j/b")
    world.clock.pass_time(601)
    world.do("j/a")
    assert outcome(world, "j") == ("succeeded", "ok")
    assert not world.overlaps


def test_bounds(world: World) -> None:
    """A task that asks too often, or for too long, fails and says why; retries are for faults, not for this."""
    world.submit("often", {"id": "a", "again_max": 2, "retries": 5})
    for _ in range(2):
        run_again(world, "often/a")
        world.clock.pass_time(601)
    run_again(world, "often/a")
    assert outcome(world, "often") == ("failed", "error")
    assert world.task("often", "a").message == "it asked to run again more than again_max = 2 times"
    world.submit("long", {"id": "a", "again_until": "15m", "retries": 5})
    run_again(world, "long/a", queue=[{"again": {}}])
    world.clock.pass_time(61)
    run_again(world, "long/a", queue=[{"again": {"delay": "20m"}}, {"id": "never", "command": "x"}])
    assert world.task("long", "a").message == "it asked to run again after again_until = 15m"
    assert list(world.job("long").tasks) == ["a"]


def test_a_retry_by_the_user_begins_anew(world: World) -> None:
    """Bounds count from the retry on."""
    world.submit("j", {"id": "a", "again_max": 1})
    run_again(world, "j/a")
    world.clock.pass_time(601)
    run_again(world, "j/a")
    assert world.job("j").phase == "failed"
    assert world.asked("retry", "j") is None
    run_again(world, "j/a")
    assert world.task("j", "a").phase == "queued"


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize(("task", "phase"), [(None, "cancelled"), ("a", "failed")])
def test_a_cancelled_task_does_not_run_again(world: World, task: str | None, phase: str, *, running: bool) -> None:
    """A cancel ends it while it waits, and while it runs, even if it asks for another run once more."""
    world.submit("j", "a")
    run_again(world, "j/a")
    if running:
        world.clock.pass_time(601)
        world.cycle()
        world.platform.slow_removal = True
        world.ask("cancel", "j", task)
        world.cycle()
        leave(world.launch("j/a"), queue=AGAIN)
        world.platform.settle()
        world.until(lambda: world.job("j").ended)
    else:
        assert world.asked("cancel", "j", task) is None
    assert world.task("j", "a").phase == "cancelled"
    assert world.job("j").phase == phase


def test_a_failed_sibling_ends_it(world: World) -> None:
    """`on_failure: stop` skips a task that waits for its next run, as it does any other."""
    world.submit("j", "a", "b")
    run_again(world, "j/a")
    world.do("j/b", code=1)
    assert reasons(world, "j") == {"a": "upstream", "b": "error"}


def test_the_state_stays_small(world: World) -> None:
    """However often it asks, the state keeps its newest runs; the usage of the job counts all."""
    world.submit("j", "a")
    for _ in range(MAX_AGAIN_KEPT + 5):
        run_again(world, "j/a", queue=[{"again": {"delay": 1}}])
        world.clock.pass_time(1.1)
    world.do("j/a")
    assert len(world.task("j", "a").attempts) == MAX_AGAIN_KEPT + 1
    assert world.job("j").usage.runs == MAX_AGAIN_KEPT + 6
    assert world.task("j", "a").again == MAX_AGAIN_KEPT + 5


def test_explained(world: World) -> None:
    """It is said how often it has asked, when it runs again, and how often and how long it may; its runs are a line."""
    world.submit("j", "a", {"id": "b", "again_max": 9, "again_until": "1h"}, max_runners=2)
    run_again(world, "j/b")
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    until = to_text((job.tasks["b"].again_since or 0) + 3600)
    text = explain_task(job, job.tasks["b"], context)
    assert text.endswith(f"; it has asked for that once of at most 9, and may until {until}")
    run_again(world, "j/a")
    world.clock.pass_time(601)
    run_again(world, "j/a")
    job = world.job("j")
    text = explain_task(job, job.tasks["a"], ExplainContext(world.clock.wall()))
    assert text.startswith("task a will run again at ")
    assert text.endswith("; it has asked for that 2 times")
    context = ExplainContext(world.clock.wall())
    assert ShortReasons(job, context).of_task(job.tasks["a"]) == "checked 2 ×, next in 10m"
    assert outcome_of(job.tasks["a"], ShortReasons(job, context)).startswith("checked 2 ×, next at ")


def test_a_clock_that_is_set_changes_nothing(world: World) -> None:
    """The wait lasts as long as before, even for a task that once had a date."""
    world.submit("j", {"id": "a", "not_before": "2020-01-01T00:00:00Z"})
    run_again(world, "j/a")
    world.clock.set_wall(-7200)
    world.cycle()
    assert wait_of(world, "j", "a") == pytest.approx(600, abs=1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"again": 5}, "again: must be a mapping"),
        ({"again": {"delay": -1}}, "again.delay"),
        ({"again": {"wait": 5}}, "again.wait: is not a field (fields: delay)"),
        ({"again": {}, "id": "x"}, "again: must be the only key of the line"),
    ],
)
def test_a_wrong_line_is_rejected(world: World, line: Any, said: str) -> None:  # noqa: ANN401 - JSON
    """A line that is wrong fails the run, as any other wrong line does."""
    world.submit("j", "a")
    run_again(world, "j/a", queue=[line])
    assert reasons(world, "j") == {"a": "rejected"}
    assert said in (world.task("j", "a").message or "")


def test_first_run(world: World) -> None:
    """`again_until` counts from the first run, not from the submit."""
    world.submit("j", {"id": "a", "delay": "1h", "again_until": "10m"})
    world.cycle()
    world.clock.pass_time(3601)
    run_again(world, "j/a", queue=[{"again": {"delay": 60}}])
    since = world.task("j", "a").again_since
    assert since == pytest.approx(world.clock.wall(), abs=2)
    assert since is not None
    assert since > from_text(world.task("j", "a").attempts[0].spawned_at) - 60


def test_the_file_holds_it(world: World) -> None:
    """`state.json` says how often, under names that stay."""
    world.submit("j", "a")
    run_again(world, "j/a")
    world.stop()
    text = Path(world.layout.state("j")).read_text()
    assert '"again":1' in text
    assert '"again_since":"' in text

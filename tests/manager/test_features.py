"""What the fields of jobs and tasks promise, and what requests do; time passes as the test says."""

from __future__ import annotations

from typing import Any

import pytest

from air_executor.model.state import Done, Queued
from tests.fake_backend import Fault
from tests.manager.rig import World


def reasons(world: World, job: str) -> dict[str, str]:
    """Return why each ended task ended."""
    tasks = world.job(job).tasks.values()
    return {task.id: task.status.reason for task in tasks if isinstance(task.status, Done)}


def outcome(world: World, job: str) -> tuple[str, str | None]:
    """Return phase and reason of a job."""
    state = world.job(job)
    return state.phase, state.reason


def wait_of(world: World, job: str, task: str) -> float:
    """Return how many seconds a queued task still waits."""
    status = world.task(job, task).status
    assert isinstance(status, Queued)
    assert status.waits_until is not None
    return status.waits_until - world.clock.wall()


# When


def test_delay_is_passed_over(world: World) -> None:
    """A task with a delay is passed over until its time, and starts then without another event."""
    world.submit("j", {"id": "a", "delay": "10s"}, "b")
    world.do("j/b")
    world.cycle(2)
    assert world.running() == {}
    assert world.manager.state.index.next_time() == pytest.approx(world.clock.wall() + 10, abs=1.1)
    world.clock.pass_time(10.1)
    world.cycle()
    assert set(world.running()) == {"j/a"}


def test_delay_of_a_queued_task_counts_from_its_commit(world: World) -> None:
    """The delay of a task that a run queues begins when the run is committed, and the job has not ended."""
    world.submit("j", "a")
    world.cycle()
    world.clock.pass_time(100)
    world.exit("j/a", queue=[{"id": "b", "command": "x", "delay": 60}])
    world.cycle()
    assert world.job("j").phase == "running"
    assert wait_of(world, "j", "b") == pytest.approx(60, abs=0.01)


def test_not_before(world: World) -> None:
    """A task starts not before its date, a date in the past does not matter."""
    world.submit(
        "j", {"id": "past", "not_before": "2001-01-01T00:00:00Z"}, {"id": "far", "not_before": "2998-01-01T00:00:00Z"}
    )
    world.do("j/past")
    world.clock.pass_time(1e6)
    world.cycle(2)
    assert world.running() == {}


def test_priority_of_tasks_and_jobs(world: World) -> None:
    """Priority first, between jobs and within one; otherwise the order of the queue."""
    world.submit("low", "a", {"id": "b", "priority": 1}, "c")
    world.submit("high", "x", priority=5)
    world.crash()
    world.start(max_runners=1)
    world.do("high/x", "low/b", "low/a", "low/c")
    assert [launch.task for launch in world.begun.values()] == ["x", "b", "a", "c"]


def test_queue_limits(world: World) -> None:
    """A queue's limit holds for all its jobs together, and leaves other queues alone."""
    world.crash()
    world.start(pools={"gpu": 1}, max_runners=10)
    for name in ("j1", "j2"):
        world.submit(name, "a", "b", max_runners=2, pool="gpu")
    world.submit("j3", "a", "b", max_runners=2)
    world.cycle(2)
    running = set(world.running())
    assert {"j3/a", "j3/b"} < running
    assert len(running) == 3
    for _ in range(3):
        world.exit(next(name for name in world.running() if not name.startswith("j3")))
        world.cycle(2)
        assert len([name for name in world.running() if not name.startswith("j3")]) == 1


def test_managers_own_limit(world: World) -> None:
    """No more runners than the manager may have, whatever the job may."""
    world.submit("j", *[f"x{i}" for i in range(9)], max_runners=9)
    world.cycle(3)
    assert len(world.running()) == 4


# Again


def test_retries_with_backoff_and_jitter(world: World) -> None:
    """Retries wait retry_delay, growing by retry_backoff, with up to a tenth more; then the task has failed."""
    world.submit("j", {"id": "a", "retries": 3, "retry_delay": 10, "retry_backoff": 2})
    waits = []
    for _ in range(3):
        world.cycle()
        world.exit("j/a", 1)
        world.cycle()
        waits.append(wait_of(world, "j", "a"))
        world.clock.pass_time(waits[-1] - 0.01)
        world.cycle()
        assert world.running() == {}
        world.clock.pass_time(0.02)
    world.cycle()
    assert world.launch("j/a").env["AIR_ATTEMPT"] == "4"
    world.exit("j/a", 1)
    world.cycle()
    for wait, base in zip(waits, (10, 20, 40), strict=True):
        assert base <= wait <= base * 1.1
    assert outcome(world, "j") == ("failed", "error")


def test_retry_wait_survives_a_crash(world: World) -> None:
    """When a task is tried again was decided once: a restart neither shortens nor lengthens it."""
    world.submit("j", {"id": "a", "retries": 1, "retry_delay": 50})
    world.do("j/a", code=1)
    before = wait_of(world, "j", "a")
    world.restart()
    assert wait_of(world, "j", "a") == before


def test_platforms_faults_have_their_own_budget(world: World) -> None:
    """Lost runs are tried again three times without touching the user's retries; the fourth time is one too many."""
    world.submit("j", {"id": "a"})
    for _ in range(4):
        world.until(lambda: "j/a" in world.running())
        world.platform.lose(world.slot("j/a"))
        world.cycle()
    assert outcome(world, "j") == ("failed", "lost")
    assert len(world.task("j", "a").attempts) == 4


def test_sequence_holds_its_place_while_a_retry_waits(world: World) -> None:
    """In a job with one runner a waiting retry holds those behind it, but not one of higher priority."""
    world.submit("j", {"id": "a", "retries": 1, "retry_delay": 30}, "b")
    world.do("j/a", code=1)
    world.ask("add", "j", tasks=[{"id": "urgent", "command": "x", "priority": 9}])
    world.cycle(2)
    assert set(world.running()) == {"j/urgent"}
    world.exit("j/urgent")
    world.cycle(3)
    assert world.running() == {}
    world.clock.pass_time(40)
    world.do("j/a", "j/b")


def test_waiting_retry_holds_nobody_among_several_runners(world: World) -> None:
    """With several runners a waiting retry holds nobody."""
    world.submit("j", {"id": "a", "retries": 1, "retry_delay": 30}, "b", "c", max_runners=2)
    world.cycle()
    world.exit("j/a", 1)
    world.cycle(2)
    assert set(world.running()) == {"j/b", "j/c"}


# Failure


def test_on_failure_stop(world: World) -> None:
    """`stop` lets running tasks finish, skips what is queued and what those still queue, and retries nothing more."""
    world.submit("j", "a", {"id": "b", "retries": 5}, {"id": "c"}, "d", max_runners=3)
    world.until(lambda: len(world.running()) == 3)
    world.exit("j/a", 1)
    world.cycle()
    assert set(world.running()) == {"j/b", "j/c"}
    world.exit("j/c", queue=[{"id": "e", "command": "x"}])
    world.exit("j/b", 1)
    world.cycle()
    assert outcome(world, "j") == ("failed", "error")
    assert reasons(world, "j") == {"a": "error", "b": "error", "c": "ok", "d": "upstream", "e": "upstream"}


def test_on_failure_continue(world: World) -> None:
    """`continue` skips only what needs what failed, transitively."""
    world.submit("j", "a", {"id": "b", "after": ["a"]}, {"id": "c", "after": ["b"]}, "d", on_failure="continue")
    world.do("j/a", code=1)
    world.do("j/d")
    assert reasons(world, "j") == {"a": "error", "b": "upstream", "c": "upstream", "d": "ok"}
    assert outcome(world, "j") == ("failed", "error")


def test_after_waits_for_the_whole_tree(world: World) -> None:
    """`after` waits for all that was queued, however deep; one failure in there skips it."""
    world.submit("j", "a", {"id": "merge", "after": ["a"]}, max_runners=2, on_failure="continue")
    world.until(lambda: "j/a" in world.running())
    world.exit("j/a", queue=[{"id": "b", "command": "x"}])
    world.until(lambda: "j/b" in world.running())
    world.exit("j/b", queue=[{"id": "c", "command": "x"}])
    world.until(lambda: "j/c" in world.running())
    assert "j/merge" not in world.running()
    world.exit("j/c", queue=[{"id": "d", "command": "x"}], code=0)
    world.do("j/d", code=1)
    assert world.phases("j")["merge"] == "skipped"


def test_after_an_ancestor_is_the_ancestor_alone(world: World) -> None:
    """Naming one's own ancestor waits for that task alone, not for the tree in which one is."""
    world.submit("j", "a")
    world.do("j/a", queue=[{"id": "b", "command": "x", "after": ["a"]}])
    world.do("j/b")
    assert outcome(world, "j") == ("succeeded", "ok")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, {"a": "succeeded", "b": "succeeded", "oops": "skipped", "tidy": "succeeded"}),
        (1, {"a": "failed", "b": "skipped", "oops": "succeeded", "tidy": "succeeded"}),
    ],
)
def test_clean_up_of_the_whole_job(world: World, code: int, expected: dict[str, str]) -> None:
    """`failure` and `always` without `after` wait for all other tasks, and are spared by `on_failure: stop`."""
    clean = [{"id": "oops", "when": "failure"}, {"id": "tidy", "when": "always"}]
    world.submit("j", *clean, "a", "b")
    world.do("j/a", code=code)
    if code == 0:
        world.do("j/b")
    for _ in range(6):
        world.cycle()
        for name in list(world.running()):
            world.exit(name)
    assert world.phases("j") == expected
    assert outcome(world, "j")[0] == ("failed" if code else "succeeded")


def test_clean_up_task_keeps_its_retries(world: World) -> None:
    """A clean-up task, spared by the stop, is tried again as it says, and so is what it queued."""
    world.submit("j", "a", {"id": "tidy", "when": "always", "retries": 1})
    world.do("j/a", code=1)
    world.do("j/tidy", code=1)
    world.do("j/tidy", queue=[{"id": "more", "command": "x"}])
    world.do("j/more")
    assert reasons(world, "j") == {"a": "error", "tidy": "ok", "more": "ok"}


def test_nothing_follows_the_time_for_clean_up(world: World) -> None:
    """A clean-up task that exits 0 after it has succeeded; what it queued is skipped all the same."""
    world.submit("j", "a", {"id": "tidy", "when": "always"}, deadline=60, cleanup_time=10)
    world.do("j/a")
    world.until(lambda: "j/tidy" in world.running())
    world.platform.slow_removal = True
    for seconds in (100, 11):
        world.clock.pass_time(seconds)
        world.cycle()
    world.exit("j/tidy", queue=[{"id": "more", "command": "x"}])
    world.cycle(2)
    assert reasons(world, "j") == {"a": "ok", "tidy": "ok", "more": "timeout"}
    assert outcome(world, "j") == ("failed", "timeout")


def test_budget_of_tasks(world: World) -> None:
    """A job that queues itself for ever fails with `budget` at max_tasks."""
    world.submit("j", {"id": "a", "command": "again"}, max_tasks=5)
    for _ in range(8):
        world.cycle()
        for name in list(world.running()):
            world.exit(name, queue=[{"command": "again"}])
    assert outcome(world, "j") == ("failed", "budget")
    assert len(world.job("j").tasks) == 5
    assert world.asked("add", "j", tasks=[{"command": "x"}]) is not None


# Jobs after jobs


def test_job_after_jobs(world: World) -> None:
    """A job starts when all it waits for have succeeded; when one ends otherwise it fails with `upstream`."""
    world.submit("one", "a")
    world.submit("two", "a")
    world.submit("good", "x", after=["one"])
    world.submit("bad", "x", {"id": "tidy", "when": "always"}, after=["one", "two"])
    world.cycle(2)
    assert set(world.running()) == {"one/a", "two/a"}
    world.exit("two/a", 1)
    world.cycle()
    assert outcome(world, "bad") == ("failed", "upstream")
    assert world.phases("bad") == {"x": "skipped", "tidy": "skipped"}
    world.restart()
    world.exit("one/a")
    world.do("good/x")
    assert outcome(world, "good") == ("succeeded", "ok")


def test_job_after_an_archived_job(world: World) -> None:
    """A job that succeeded and was archived counts as such, whatever came to bear its name."""
    world.submit("one", "a")
    world.submit("two", "a")
    world.submit("next", "x", after=["one", "two"])
    world.do("one/a")
    world.crash()
    world.jobs.archive(world.jobs.load("one"))
    world.submit("one", "other")
    world.start()
    world.cycle()
    assert "next/x" not in world.running()
    world.do("two/a", "next/x")
    assert outcome(world, "next") == ("succeeded", "ok")


# Requests


def test_pause_and_resume(world: World) -> None:
    """`pause` lets running tasks finish and starts nothing while delays run on; `resume` goes on."""
    world.submit("j", "a", {"id": "b", "delay": 10}, "c")
    world.cycle()
    assert world.asked("pause", "j") is None
    assert world.asked("pause", "j") is None, "asking twice is no mistake"
    world.exit("j/a")
    world.clock.pass_time(20)
    world.cycle(3)
    assert world.running() == {}
    world.restart()
    world.cycle(2)
    assert world.running() == {}
    assert world.job("j").phase == "paused"
    assert world.asked("resume", "j") is None
    world.do("j/b", "j/c")
    assert outcome(world, "j") == ("succeeded", "ok")


def test_a_task_that_is_added_after_a_task_that_does_not_exist(world: World) -> None:
    """Is refused with the nearest name that does."""
    world.submit("j", "discover")
    world.cycle()
    refused = world.asked("add", "j", tasks=[{"id": "b", "command": "x", "after": ["dicover"]}])
    assert refused is not None
    assert refused.endswith("after: dicover is not a task of job j; did you mean discover?")


def test_cancel_a_job_leaves_clean_up_its_chance(world: World) -> None:
    """Cancelling stops what runs and cancels what waits; clean-up tasks still run, unless asked again."""
    world.submit("j", "a", "b", {"id": "tidy", "when": "always"})
    world.cycle()
    assert world.asked("cancel", "j") is None
    world.until(lambda: "j/tidy" in world.running())
    assert reasons(world, "j") == {"a": "cancelled", "b": "cancelled"}
    world.exit("j/tidy")
    world.cycle()
    assert outcome(world, "j") == ("cancelled", "cancelled")
    assert "has already ended: it is cancelled" in (world.asked("cancel", "j") or "")


def test_exit_code_0_wins_over_a_cancel_that_came_too_late(world: World) -> None:
    """A task that had ended with 0 when the cancel came has succeeded, with all that it queued."""
    world.submit("j", "a")
    world.cycle()
    world.platform.slow_removal = True
    world.ask("cancel", "j")
    world.exit("j/a")
    world.cycle(2)
    assert outcome(world, "j") == ("succeeded", "ok")


def test_cancel_one_task(world: World) -> None:
    """Cancelling one task is a failure for those that need it; the job has failed."""
    world.submit("j", "a", "b", {"id": "c", "after": ["b"]}, on_failure="continue")
    world.cycle()
    assert world.asked("cancel", "j", "b") is None
    assert world.asked("cancel", "j", "b") is not None
    world.do("j/a")
    assert reasons(world, "j") == {"a": "ok", "b": "cancelled", "c": "upstream"}
    assert outcome(world, "j") == ("failed", "cancelled")


def test_retry_brings_back_what_was_skipped_since(world: World) -> None:
    """`retry` queues a failed task again with fresh budgets and with it what was skipped; what succeeded stays."""
    world.submit("j", "a", {"id": "b", "retries": 1}, {"id": "c", "after": ["b"]})
    world.do("j/a")
    world.do("j/b", "j/b", code=1)
    assert world.phases("j") == {"a": "succeeded", "b": "failed", "c": "skipped"}
    assert "retry takes failed" in (world.asked("retry", "j", "a") or "")
    assert world.asked("retry", "j", "b") is None
    world.do("j/b", code=1)
    world.do("j/b", "j/c")
    assert outcome(world, "j") == ("succeeded", "ok")
    assert sum(launch.task == "a" for launch in world.begun.values()) == 1


def test_failures_before_a_reopening_stop_nothing(world: World) -> None:
    """`add` to a failed job runs the new task although the old failure stays; the job has failed all the same."""
    world.submit("j", "a", "b")
    world.do("j/a", code=1)
    assert world.asked("add", "j", tasks=[{"id": "c", "command": "x"}, {"id": "d", "command": "x"}]) is None
    world.do("j/c", "j/d")
    assert world.phases("j") == {"a": "failed", "b": "skipped", "c": "succeeded", "d": "succeeded"}
    assert outcome(world, "j") == ("failed", "error")


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ({"id": "a", "command": "x"}, "taken"),
        ({"command": "x", "after": ["nobody"]}, "nobody"),
        ({"id": "../x", "command": "x"}, "id"),
        ({"command": ""}, "command"),
        ({"command": "x", "delay": -1}, "delay"),
        ({"command": "x", "nonsense": 1}, "nonsense"),
        ({"id": "b", "command": "x", "after": ["b"]}, "b -> b"),
    ],
)
def test_refused_additions(world: World, task: dict[str, Any], why: str) -> None:
    """A task that cannot be is refused with its field named, and nothing changes."""
    world.submit("j", "a")
    world.cycle()
    version = world.job("j").version
    assert why in (world.asked("add", "j", tasks=[{"command": "good"}, task]) or "")
    assert world.job("j").version == version


@pytest.mark.parametrize("op", ["add", "cancel", "pause", "resume", "retry"])
def test_requests_about_nobody(world: World, op: str) -> None:
    """A request about a job that does not exist is refused with a reason."""
    assert "no job nobody" in (world.asked(op, "nobody") or "")


def test_deadline_counts_from_the_first_start_and_restarts_after_a_reopening(world: World) -> None:
    """A deadline counts from the first start; a reopened job has it again."""
    world.submit("wait", "w")
    world.submit("j", "a", deadline=60, after=["wait"])
    world.clock.pass_time(100)
    world.do("wait/w")
    world.cycle()
    world.clock.pass_time(59)
    world.cycle()
    assert not world.job("j").ended
    world.clock.pass_time(2)
    world.cycle(4)
    assert outcome(world, "j") == ("failed", "timeout")
    assert world.asked("retry", "j") is None
    world.do("j/a")
    assert outcome(world, "j") == ("succeeded", "ok")


def test_fairness_between_jobs(world: World) -> None:
    """Jobs of one priority take turns."""
    world.crash()
    world.start(max_runners=1)
    for name in ("j1", "j2"):
        world.submit(name, "a", "b", "c")
    order = []
    for _ in range(6):
        world.cycle()
        (name,) = world.running()
        order.append(name)
        world.exit(name)
    assert order == ["j1/a", "j2/a", "j1/b", "j2/b", "j1/c", "j2/c"]


def test_a_start_that_the_platform_refuses_costs_nothing(world: World) -> None:
    """There was no runner; the seconds until the manager knows it are nobody's."""
    world.platform.faults.append(Fault.REJECTED)
    world.submit("j", "a")
    world.cycle()
    world.clock.pass_time(30)
    world.until(lambda: world.job("j").phase == "failed")
    job = world.job("j")
    assert reasons(world, "j") == {"a": "start-failed"}
    assert (job.usage.runner_seconds, job.tasks["a"].attempts[0].runner_seconds) == (0, 0)


def test_backend_that_does_not_answer(world: World) -> None:
    """While the backend is silent nothing is concluded and nothing starts; then everything goes on."""
    world.submit("j", "a", "b", max_runners=2)
    world.submit("k", "a")
    world.cycle()
    runs = {launch.run for launch in world.begun.values()}
    world.platform.silent = True
    world.exit("j/a")
    world.submit("l", "a")
    for _ in range(5):
        world.clock.pass_time(40)
        world.cycle()
    assert world.phases("j")["a"] == "running"
    assert {launch.run for launch in world.begun.values()} == runs
    world.platform.silent = False
    world.clock.pass_time(60)
    world.cycle(2)
    assert world.phases("j")["a"] == "succeeded"
    assert "l/a" in world.running()
    assert len(runs) == 3
    assert all(task.attempts == [] or task.attempts[0].reason == "ok" for task in world.job("j").tasks.values())

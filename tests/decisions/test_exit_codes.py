"""Exit codes that mean something: retry or not, nothing to do, a failure that is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.core.short_reason import ShortReasons
from air_executor.errors import BadInputError
from tests.manager.rig import World
from tests.manager.test_features import outcome, reasons


@pytest.mark.parametrize(
    ("fields", "retried"),
    [
        ({}, True),
        ({"retry_on": [3]}, True),
        ({"retry_on": [4]}, False),
        ({"retry_on": []}, False),
        ({"no_retry_on": [4]}, True),
        ({"no_retry_on": [3]}, False),
        ({"retry_on": [3], "no_retry_on": [3]}, False),
    ],
)
def test_which_codes_are_retried(world: World, fields: dict[str, Any], *, retried: bool) -> None:
    """`retry_on` names those that are, `no_retry_on` those that are not."""
    world.submit("j", {"id": "a", "retries": 1, "retry_delay": 60} | fields)
    world.do("j/a", code=3)
    assert world.task("j", "a").retrying is retried
    assert world.job("j").ended is not retried


def test_other_ends_are_retried_whatever_the_codes(world: World) -> None:
    """A lost runner is the platform's fault: exit codes say nothing about it."""
    world.submit("j", {"id": "a", "retry_on": [], "no_retry_on": [3]})
    world.until(lambda: "j/a" in world.running())
    world.platform.lose(world.slot("j/a"))
    world.until(lambda: world.task("j", "a").faults == 1)
    assert world.task("j", "a").phase in ("queued", "running")


def test_nothing_to_do(world: World) -> None:
    """A task that says so is skipped, with what needs it; clean-up runs, the job succeeds, and a retry leaves it."""
    tasks = [
        {"id": "a", "skip_on": [78], "retries": 3},
        {"id": "b", "after": ["a"]},
        {"id": "tidy", "after": ["a"], "when": "always"},
        {"id": "mend", "after": ["a"], "when": "failure"},
    ]
    world.submit("j", *tasks)
    world.do("j/a", code=78)
    world.do("j/tidy")
    assert outcome(world, "j") == ("succeeded", "ok")
    assert reasons(world, "j") == {"a": "skip_on", "b": "upstream", "tidy": "ok", "mend": "ok"}
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    assert explain_task(job, job.tasks["a"], context) == "task a was skipped: exit code 78 is one of its skip_on"
    assert explain_task(job, job.tasks["b"], context).startswith("task b was skipped: task a was skipped")
    world.stop()
    world.start()
    assert world.job("j").tasks["a"].exit_code == 78


def test_nothing_to_do_is_no_cause_for_others(world: World) -> None:
    """What waits for nothing is skipped because a task failed, and told so, whatever else was skipped before."""
    world.submit("j", {"id": "a", "skip_on": [78]}, "b", "c")
    world.do("j/a", code=78)
    world.do("j/b", code=1)
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    said = "task c was skipped: task b failed (exit code 1) and its job has on_failure: stop"
    assert explain_task(job, job.tasks["c"], context) == said


def test_each_is_told_its_own_reason(world: World) -> None:
    """In the table of `status`, too, where tasks that were skipped for the same reason share its words."""
    world.submit("j", {"id": "a", "skip_on": [78]}, {"id": "b", "skip_on": [78, 79]}, max_runners=2)
    world.do("j/a", code=78)
    world.do("j/b", code=79)
    job = world.job("j")
    short = ShortReasons(job, ExplainContext(world.clock.wall()))
    assert [short.of_task(task) for task in job.tasks.values()] == [
        "exit code 78 is one of its skip_on",
        "exit code 79 is one of its skip_on",
    ]


@pytest.mark.parametrize("allowed", [True, [3, 4]])
def test_allowed_failures(world: World, allowed: Any) -> None:  # noqa: ANN401 - JSON
    """The task has failed and is shown so; what needs it runs, nothing is stopped, and the job succeeds."""
    tasks = [
        {"id": "lint", "allow_failure": allowed},
        {"id": "test", "after": ["lint"]},
        {"id": "mend", "after": ["lint"], "when": "failure"},
    ]
    world.submit("j", *tasks)
    world.do("j/lint", code=3)
    world.do("j/test")
    assert outcome(world, "j") == ("succeeded", "ok")
    assert world.phases("j") == {"lint": "failed", "test": "succeeded", "mend": "skipped"}
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    assert explain_task(job, job.tasks["lint"], context) == "task lint failed: exit code 3; its failure is allowed"
    assert explain_job(job, context).startswith("job j succeeded")


def test_other_codes_are_not_allowed(world: World) -> None:
    """With a list, every other code and every other end fails the job."""
    world.submit("j", {"id": "a", "allow_failure": [3]}, "b")
    world.do("j/a", code=5)
    assert outcome(world, "j") == ("failed", "error")
    assert reasons(world, "j") == {"a": "error", "b": "upstream"}


def test_retries_come_first(world: World) -> None:
    """A failure that is allowed is retried as any other, as long as there are retries."""
    world.submit("j", {"id": "a", "allow_failure": True, "retries": 1, "retry_delay": 10})
    world.do("j/a", code=3)
    assert world.task("j", "a").retrying
    world.do("j/a", code=3)
    assert outcome(world, "j") == ("succeeded", "ok")


def test_a_restart_judges_the_same(world: World) -> None:
    """A manager that reads the job again still takes the failure as allowed."""
    world.submit("j", {"id": "a", "allow_failure": [3]}, "b")
    world.do("j/a", code=3)
    world.restart()
    world.do("j/b")
    assert outcome(world, "j") == ("succeeded", "ok")


def test_a_cancelled_task_is_no_allowed_failure(world: World) -> None:
    """Somebody's cancel is not the task's failure."""
    world.submit("j", {"id": "a", "allow_failure": True, "delay": 60})
    assert world.asked("cancel", "j", "a") is None
    assert world.job("j").phase == "failed"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"skip_on": [0]}, "a whole number between 1 and 255, got 0"),
        ({"again_on": 75}, "must be a list of exit codes, got 75"),
        ({"retry_on": ["3"]}, 'got "3"'),
        ({"allow_failure": "yes"}, 'must be true, false or a list of exit codes, got "yes"'),
        ({"allow_failure": [True]}, "got true"),
    ],
)
def test_wrong_codes(world: World, fields: dict[str, Any], said: str) -> None:
    """The message says what is accepted."""
    with pytest.raises(BadInputError) as error:
        world.submit("j", {"id": "a"} | fields)
    assert said in str(error.value)


def test_delay_after(world: World) -> None:
    """It counts from when everything that the task waits for has ended, once, whatever happens in between."""
    world.submit("j", "a", {"id": "b", "after": ["a"], "delay_after": "30s"})
    world.cycle()
    world.clock.pass_time(100)
    world.do("j/a")
    world.clock.pass_time(20)
    world.restart()
    world.cycle()
    assert not world.running()
    world.clock.pass_time(11)
    world.cycle()
    assert set(world.running()) == {"j/b"}

"""A task that asks for approval: it costs no runner, is answered once, and its answer is its result."""

from __future__ import annotations

from typing import Any

import pytest

from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.core.short_reason import ShortReasons
from air_executor.errors import BadInputError
from air_executor.web.views import outcome_of
from tests.manager.rig import World
from tests.manager.test_features import outcome, reasons

ASKS: dict[str, Any] = {"id": "ok", "approve": "Deploy main?", "after": ["build"]}


def submit(world: World, **fields: Any) -> None:  # noqa: ANN401 - JSON
    """Submit a job that builds, asks and deploys."""
    world.submit("j", "build", ASKS | fields, {"id": "deploy", "after": ["ok"]}, defaults={"command": "make"})


def test_approved(world: World) -> None:
    """It asks once what it waits for has ended; approved, it succeeds with the values given, and the job goes on."""
    submit(world)
    refused = world.asked("approve", "j", "ok")
    assert refused == "task ok of job j does not ask yet: it waits for other tasks"
    world.do("j/build")
    world.cycle(3)
    assert not world.running()
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    said = 'task ok asks "Deploy main?": `air-executor approve j ok`, or `reject`'
    assert explain_task(job, job.tasks["ok"], context) == said
    assert said in explain_job(job, context)
    assert world.asked("approve", "j", "ok", by="alice", values={"region": "eu"}) is None
    world.do("j/deploy")
    assert outcome(world, "j") == ("succeeded", "ok")
    task = world.task("j", "ok")
    assert (task.result, task.message, task.runs) == ({"region": "eu"}, "approved by alice", 0)
    assert explain_task(world.job("j"), task, context) == "task ok succeeded: approved by alice"
    assert ShortReasons(world.job("j"), context).of_task(task) == "approved by alice"
    assert "asks no more: it is succeeded" in (world.asked("reject", "j", "ok") or "")


def test_rejected(world: World) -> None:
    """It fails, with who and why; what needs it is skipped; a retry asks again."""
    submit(world)
    world.do("j/build")
    assert world.asked("reject", "j", "ok", by="bob", message="not on a Friday") is None
    assert outcome(world, "j") == ("failed", "declined")
    assert reasons(world, "j") == {"build": "ok", "ok": "declined", "deploy": "upstream"}
    assert world.task("j", "ok").message == "rejected by bob: not on a Friday"
    assert world.asked("retry", "j") is None
    assert world.asked("approve", "j", "ok", by="alice") is None
    world.do("j/deploy")
    assert outcome(world, "j") == ("succeeded", "ok")


def test_nobody_answers(world: World) -> None:
    """Its `timeout` counts from when it asks; the manager sleeps until then, and acts when it passes."""
    submit(world, timeout="2d")
    world.cycle()
    world.clock.pass_time(86_400)
    world.do("j/build")
    world.clock.pass_time(86_400)
    world.cycle()
    assert world.task("j", "ok").phase == "queued"
    upcoming = world.manager.state.index.next_time()
    assert upcoming == pytest.approx(world.clock.wall() + 86_400, abs=2)
    world.clock.pass_time(86_401)
    world.cycle()
    assert outcome(world, "j") == ("failed", "timeout")
    assert world.task("j", "ok").message == "nobody answered within 2d"


@pytest.mark.parametrize("clean", [False, True])
def test_it_asks_on_after_a_restart(world: World, *, clean: bool) -> None:
    """A manager that was killed or stopped leaves the question; the next one takes the answer, once."""
    submit(world, timeout="1h")
    world.do("j/build")
    world.clock.pass_time(1800)
    if clean:
        world.stop()
        world.start()
    else:
        world.restart()
    name = world.ask("approve", "j", "ok")
    world.cycle()
    world.restart()
    assert not world.inbox.waiting(name)
    assert world.task("j", "ok").phase == "succeeded"


def test_it_takes_no_slot(world: World) -> None:
    """Others go on, also in a job with one runner, and a job that only asks never had a runner."""
    world.submit("j", {"id": "ok", "approve": "?"}, "b")
    world.do("j/b")
    assert not world.job("j").ended
    assert world.asked("approve", "j", "ok") is None
    assert outcome(world, "j") == ("succeeded", "ok")


@pytest.mark.parametrize("op", ["cancel", "pause"])
def test_other_requests(world: World, op: str) -> None:
    """A cancel ends the question; a pause does not keep anybody from answering."""
    submit(world)
    world.do("j/build")
    assert world.asked(op, "j") is None
    if op == "cancel":
        assert world.phases("j") == {"build": "succeeded", "ok": "cancelled", "deploy": "skipped"}
        return
    assert world.asked("approve", "j", "ok") is None
    world.cycle(2)
    assert not world.running()
    assert world.asked("resume", "j") is None
    world.do("j/deploy")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"approve": "?", "command": "x"}, "cannot be used together with approve"),
        ({"approve": " "}, "approve: must not be empty"),
        ({"approve": 5.5}, "approve: must be a question"),
        ({"command": None}, "command: is missing"),
    ],
)
def test_wrong_questions(world: World, task: dict[str, Any], said: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(BadInputError) as error:
        world.submit("j", {"id": "a"} | task)
    assert said in str(error.value)


@pytest.mark.parametrize("task", [None, "build"])
def test_what_asks_nothing_has_no_answer(world: World, task: str | None) -> None:
    """A request about another task, or about none, is refused."""
    submit(world)
    assert (world.asked("approve", "j", task) or "").startswith("approve: ")


def test_a_task_queues_a_question(world: World) -> None:
    """A line in `$AIR_QUEUE` asks, too; the job's default command is none of the question's."""
    world.submit("j", {"id": "plan"}, defaults={"command": "make"})
    world.do("j/plan", queue=[{"id": "ok", "approve": "Merge 3 branches?"}, {"id": "merge", "after": ["ok"]}])
    world.restart()
    assert world.asked("approve", "j", "ok") is None
    world.do("j/merge")
    assert outcome(world, "j") == ("succeeded", "ok")


def test_a_question_is_told_while_others_run(world: World) -> None:
    """`explain` of the job names it, too: whoever looks why nothing is deployed need not know the task."""
    world.submit("j", "long", {"id": "ok", "approve": "Deploy?", "command": None}, max_runners=2)
    world.until(lambda: "j/long" in world.running())
    said = explain_job(world.job("j"), ExplainContext(world.clock.wall()))
    assert said.startswith('job j is running 1 of 2 tasks, 1 queued; task ok asks "Deploy?": `air-executor approve j')
    assert world.asked("approve", "j", "ok") is None
    assert "task ok asks" not in explain_job(world.job("j"), ExplainContext(world.clock.wall()))


def test_what_is_shown_of_a_question(world: World) -> None:
    """`status` and the page show it, and until when; no limit of runners is to blame, and a pause keeps nobody."""
    submit(world, timeout="2h")
    world.do("j/build")
    said = 'asks "Deploy main?": `air-executor approve j ok`, or `reject`, within 2h'
    job, context = world.job("j"), ExplainContext(world.clock.wall(), running=2, max_runners=2)
    short = ShortReasons(job, context)
    assert (short.of_job(), short.of_task(job.tasks["ok"])) == (f"ok {said}", said)
    assert outcome_of(job.tasks["ok"], ShortReasons(job, context)).startswith("asks until ")
    assert outcome_of(job.tasks["ok"], ShortReasons(job, context)).endswith(": Deploy main?")
    assert world.asked("pause", "j") is None
    job = world.job("j")
    paused = "its job is paused; resume it with `air-executor resume j`"
    assert explain_task(job, job.tasks["ok"], context) == f"task ok {said}; {paused}"


def test_the_deadline_of_its_job_ends_a_question(world: World) -> None:
    """What is said of its time is true where the job has less; the job's own sentence has that."""
    world.submit("j", "build", ASKS | {"timeout": "2d"}, deadline="1h")
    world.do("j/build")
    world.clock.pass_time(600)
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    assert explain_task(job, job.tasks["ok"], context).endswith("within 50m")
    assert explain_job(job, context).endswith(", in 50m")


def test_a_job_that_waits_for_another_asks_after_that(world: World) -> None:
    """Its time counts from then, also over a restart, and so do the questions that follow the first."""
    world.submit("up", "a")
    questions = [{"id": "ok", "approve": "1?", "timeout": 60}, {"id": "sure", "approve": "2?", "after": ["ok"]}]
    world.submit("j", *questions, {"id": "b", "after": ["sure"]}, after=["up"])
    world.cycle()
    world.clock.pass_time(600)
    world.cycle()
    job, context = world.job("j"), ExplainContext(world.clock.wall(), after={"up": "running"})
    assert explain_task(job, job.tasks["ok"], context) == "task ok is queued: its job is waiting for job up (running)"
    assert ShortReasons(job, context).of_task(job.tasks["ok"]) == "waiting for job up (running)"
    world.do("up/a")
    world.restart()
    context = ExplainContext(world.clock.wall(), after={"up": "succeeded"})
    assert explain_task(world.job("j"), world.task("j", "ok"), context).endswith("within 1m")
    assert world.asked("approve", "j", "ok") is None
    world.restart()
    assert world.task("j", "sure").ready_at is not None
    assert world.asked("approve", "j", "sure") is None
    world.do("j/b")
    assert outcome(world, "j") == ("succeeded", "ok")

"""Notifications: which there are, what they hold, and that each is delivered whatever dies or hangs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.errors import ManagerHeldError
from air_executor.manager import notifier
from air_executor.manager.checkpointer import Checkpointer
from air_executor.manager.lease import FileLease
from air_executor.manager.loop import Manager
from air_executor.model.job import Job, NotifyRule, Task
from air_executor.model.notice import Notice
from air_executor.notify import delivery
from air_executor.notify.sending import send
from air_executor.store.journal import Journal
from tests.manager.rig import lose_lock
from tests.notify.conftest import NotifyWorld
from tests.notify.receivers import Webhook, webhook

ALL_AND_APPROVAL = [{"on": ["failure", "approval"], "to": "ops"}]
BUILD = {"id": "build", "command": "run it"}
ALL = [{"on": ["failure", "success", "recovered", "late"], "to": "ops"}]


def test_a_failure_is_told_with_the_end_of_its_log(world: NotifyWorld, ops: Webhook) -> None:
    """What failed and why, as data and as text, with a key in header and body."""
    world.submit("nightly", "work", notify=[{"on": "failure", "to": "ops"}], labels={"x": "y"})
    world.cycle()
    Path(world.launch("nightly/work").out_dir, "output.log").write_text("one\n\x1b[31mred\x07\n", encoding="utf-8")
    world.do("nightly/work", code=3)
    world.told(lambda: world.settled("nightly"))
    (body,) = ops.got
    assert body["title"] == "nightly failed"
    assert (body["event"], body["job"], body["phase"], body["reason"]) == ("failure", "nightly", "failed", "error")
    assert "failed after 0s: task work: exit code 3" in body["text"]
    assert body["log"] == "one\nred\\x07"
    assert ops.request_headers[0]["Idempotency-Key"] == body["key"]
    assert body["key"].startswith(f"{world.job('nightly').uid}-")


@pytest.mark.parametrize(("code", "expected"), [(0, ["success"]), (1, ["failure"])])
def test_each_end_has_its_event(world: NotifyWorld, ops: Webhook, code: int, expected: list[str]) -> None:
    """Once."""
    world.submit("j", "work", notify=ALL)
    world.do("j/work", code=code)
    world.told(lambda: world.settled("j"))
    assert ops.events == expected


def test_a_cancelled_job_is_no_news(world: NotifyWorld, ops: Webhook) -> None:
    """Somebody wanted it."""
    world.submit("j", "work", notify=ALL)
    world.cycle()
    world.asked("cancel", "j")
    world.cycle(3)
    assert world.job("j").phase == "cancelled"
    assert world.settled("j")
    assert ops.asked == 0


def run_named(world: NotifyWorld, code: int, name: str = "n") -> str:
    """Run a definition once and return the job's id."""
    rules = [NotifyRule(on=["recovered"], to="ops")]
    job = Client(world.layout.root).submit(Job(name=name, tasks=[Task(id="work", command="x")], notify=rules))
    world.do(f"{job.id}/work", code=code)
    return job.id


@pytest.mark.parametrize("restarts", [False, True])
def test_recovered_is_the_first_success_after_a_failure(world: NotifyWorld, ops: Webhook, restarts: bool) -> None:  # noqa: FBT001
    """Of the same name, also where another manager saw the failure."""
    for code in (0, 1, 1, 0, 0):
        if restarts:
            world.restart()
        last = run_named(world, code)
    world.told(lambda: world.settled("n-4") and world.settled(last))
    assert {body["job"] for body in ops.got} == {"n-4"}
    assert ops.got[0]["title"] == "n recovered: n-4 succeeded"


def test_a_retried_job_recovers(world: NotifyWorld, ops: Webhook) -> None:
    """Its own failure counts, too; and both ends have keys of their own."""
    world.submit("j", "work", notify=ALL)
    world.do("j/work", code=1)
    world.restart()
    world.asked("retry", "j")
    world.do("j/work")
    world.told(lambda: world.settled("j"))
    assert sorted(ops.events) == ["failure", "recovered", "success"]
    assert len(set(ops.keys)) == 3


def test_the_managers_default_is_for_jobs_that_say_nothing(tmp_path: Path, ops: Webhook) -> None:
    """An empty list says: nobody."""
    world = NotifyWorld(tmp_path / "project")
    world.start(notify=[NotifyRule(on=["failure"], to="ops")])
    world.submit("a", "work")
    world.do("a/work", code=1)
    world.submit("b", "work", notify=[])
    world.do("b/work", code=1)
    world.told(lambda: world.settled("a") and world.settled("b"))
    assert [body["job"] for body in ops.got] == ["a"]
    world.stop()


# Late


def test_late_is_told_once(world: NotifyWorld, ops: Webhook) -> None:
    """As an event in the journal, whoever is the manager by then."""
    world.submit("j", "work", notify=ALL, late_after="2h")
    world.cycle()
    world.clock.pass_time(7100)
    world.cycle()
    assert world.job("j").late_since is None
    world.clock.pass_time(200)
    world.cycle()
    since = world.job("j").late_since
    world.restart()
    world.clock.pass_time(7300)
    world.told(lambda: not world.job("j").undelivered)
    assert world.job("j").late_since == since
    assert ops.events == ["late"]
    assert "it was expected by" in ops.got[0]["text"]
    world.do("j/work")
    world.told(lambda: world.settled("j"))
    assert ops.events == ["late", "success"]


def test_a_job_in_time_is_never_late(world: NotifyWorld, ops: Webhook) -> None:
    """Its time passes after its end."""
    world.submit("j", "work", notify=[{"on": "late", "to": "ops"}], late_after=60)
    world.do("j/work")
    world.clock.pass_time(100)
    world.cycle(2)
    assert world.job("j").late_since is None
    assert ops.asked == 0


# Deaths

STEPS: list[tuple[type, str]] = [
    (Journal, "flush"),
    (Checkpointer, "save"),
    (notifier.Notifier, "send"),
    (Manager, "_keep_retention"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS)
@pytest.mark.parametrize("nth", [1, 2])
def test_killed_between_any_two_steps(  # noqa: PLR0917 - each combination
    world: NotifyWorld, ops: Webhook, monkeypatch: pytest.MonkeyPatch, owner: type, step: str, when: str, nth: int
) -> None:
    """The end of the job and its delivery: what was decided is told, with one key however often."""
    world.submit("j", "work", notify=[{"on": "failure", "to": "ops"}])
    world.cycle()
    world.exit("j/work", 1)
    real = getattr(owner, step)
    calls = 0

    def die(*arguments: Any) -> Any:  # noqa: ANN401 - of any step
        nonlocal calls
        calls += 1
        if calls == nth and when == "before":
            raise KeyboardInterrupt
        found = real(*arguments)
        if calls == nth:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(owner, step, die)
    with pytest.raises(KeyboardInterrupt):
        world.told(lambda: False)
    monkeypatch.undo()
    monkeypatch.setenv("AIR_NOTIFY_OPS", ops.url)
    world.restart()
    world.told(lambda: len(ops.got) > 0 and world.settled("j"))
    assert len(set(ops.keys)) == 1
    time.sleep(0.05)
    world.cycle(3)
    assert len(ops.got) <= 2


def test_delivered_and_killed_before_that_is_known(world: NotifyWorld, ops: Webhook) -> None:
    """The next manager sends it again, with the same key."""
    world.fail("j")
    until = time.monotonic() + 10
    while not ops.got and time.monotonic() < until:
        time.sleep(0.01)
    world.restart()
    world.told(lambda: world.settled("j"))
    assert len(ops.got) == 2
    assert len(set(ops.keys)) == 1


def test_a_stopped_manager_leaves_it_to_the_next(world: NotifyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the state of a job that has ended, of which a start reads no more than the head."""
    world.fail("j")  # nobody is there
    world.told(lambda: bool(world.manager.state.outbox.problems()))
    world.stop()
    with webhook() as found:
        monkeypatch.setenv("AIR_NOTIFY_OPS", found.url)
        world.start()
        world.told(lambda: world.settled("j"))
        assert found.events == ["failure"]
        world.restart()
        world.cycle(3)
        assert len(found.got) == 1


# Targets that do not work


def test_down_then_up(world: NotifyWorld, ops: Webhook) -> None:
    """Tried again after a pause that grows; `status` shows why meanwhile."""
    ops.status = 500
    world.fail("j")
    world.told(lambda: ops.asked == 1 and bool(world.manager.state.outbox.problems()))
    text = world.manager.state.outbox.problems()["ops"]
    assert text == "1 not delivered: the webhook answered 500; tried every 5s"
    world.clock.pass_time(4)
    world.cycle(2)
    assert ops.asked == 1
    world.told(lambda: ops.asked == 3, step=1)
    ops.status = 200
    world.told(lambda: world.settled("j"), step=1)
    assert ops.events == ["failure"]
    assert world.manager.state.outbox.problems() == {}


def test_given_up_after_a_day(world: NotifyWorld, ops: Webhook) -> None:
    """That is decided once and said, and other notifications go on."""
    ops.status = 404
    world.fail("j")
    world.told(lambda: ops.asked == 1)
    world.clock.pass_time(notifier.GIVE_UP_AFTER)
    world.told(lambda: not world.job("j").undelivered, step=1)
    (left,) = world.jobs.load("j").notices
    assert left.failed == "the webhook answered 404"
    world.restart()
    asked = ops.asked
    world.clock.pass_time(1000)
    world.cycle(3)
    assert ops.asked == asked
    ops.status = 200
    world.fail("k")
    world.told(lambda: world.settled("k"), step=1)


def test_a_target_that_is_down_for_a_day(world: NotifyWorld, ops: Webhook) -> None:
    """Everything that is too old is given up with one failure; what is younger waits on."""
    ops.status = 503
    for number in range(5):
        world.fail(f"old{number}")
    world.clock.pass_time(notifier.GIVE_UP_AFTER)
    world.fail("young")
    world.told(lambda: not any(world.job(f"old{number}").undelivered for number in range(5)))
    assert len(world.job("young").undelivered) == 1
    assert not world.manager.state.outbox.has("old0")


def test_hundreds_at_once(world: NotifyWorld, ops: Webhook) -> None:
    """Each arrives once, in turn, and the manager goes on meanwhile."""
    for number in range(100):
        world.fail(f"j{number}")
    world.told(lambda: all(world.settled(f"j{number}") for number in range(100)))
    assert sorted(body["job"] for body in ops.got) == sorted(f"j{number}" for number in range(100))
    assert len(set(ops.keys)) == 100


@pytest.mark.parametrize("name", ["../../../etc/passwd", "OPS", "", "x" * 100, "ops\n"])
def test_hostile_names_of_targets(
    world: NotifyWorld, ops: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In a state that somebody edited: no path, no variable."""
    state = world.submit("j", "work")
    state.notices.append(Notice(world.clock.wall(), 0, "failure", name))
    world.jobs.checkpoint(state, world.layout.tmp)
    world.restart()
    world.told(lambda: bool(world.manager.state.outbox.problems()))
    assert "is no name of a target" in world.manager.state.outbox.problems()[name]
    assert ops.asked == 0


def test_a_hanging_target_delays_no_other(world: NotifyWorld, ops: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the manager: its cycles go on."""
    ops.hangs = threading.Event()
    with webhook() as other:
        monkeypatch.setenv("AIR_NOTIFY_OTHER", other.url)
        rules = [{"on": "failure", "to": "ops"}, {"on": "failure", "to": "other"}]
        for name in ("a", "b", "c"):
            world.fail(name, notify=rules)
        world.told(lambda: len(other.got) == 3)
        assert ops.asked == 1
        ops.hangs.set()
        world.told(lambda: all(map(world.settled, "abc")))


def test_a_redirect_is_not_followed(world: NotifyWorld, ops: Webhook) -> None:
    """What is told is for the target alone."""
    with webhook() as elsewhere:
        ops.status, ops.headers = 307, {"Location": elsewhere.url}
        world.fail("j")
        world.told(lambda: bool(world.manager.state.outbox.problems()))
        assert "answered 307" in world.manager.state.outbox.problems()["ops"]
        assert elsewhere.asked == 0


def test_an_unknown_target_says_which_variable(world: NotifyWorld) -> None:
    """It may be set later, so it is tried again."""
    world.fail("j", notify=[{"on": "failure", "to": "nobody"}])
    world.told(lambda: bool(world.manager.state.outbox.problems()))
    assert "AIR_NOTIFY_NOBODY" in world.manager.state.outbox.problems()["nobody"]


def test_a_deleted_job_takes_its_notifications_along(world: NotifyWorld, ops: Webhook) -> None:
    """Nothing is left in memory."""
    ops.status = 500
    world.fail("j")
    world.told(lambda: bool(world.manager.state.outbox.problems()))
    world.jobs.remove("j")
    world.told(lambda: not world.manager.state.outbox.has("j"), step=5)


def test_two_managers(world: NotifyWorld, ops: Webhook) -> None:
    """One that was paused and replaced decides nothing of what its threads report: the new one's word counts."""
    ops.hangs = threading.Event()
    world.fail("j")
    world.told(lambda: ops.asked == 1)
    old = world.manager
    world.let_go()
    assert isinstance(old.lease, FileLease)
    lose_lock(old.lease)
    world.start()
    ops.hangs.set()
    world.told(lambda: world.settled("j"))
    version = world.jobs.load("j").version
    world.clock.pass_time(2)
    with pytest.raises(ManagerHeldError):
        old.cycle()
    assert world.jobs.load("j").version == version
    assert len(set(ops.keys)) == 1


# Secrets


@pytest.mark.parametrize("escape", ["", "\x1b[1m"])
def test_values_of_secrets_are_in_no_message(
    world: NotifyWorld, ops: Webhook, monkeypatch: pytest.MonkeyPatch, escape: str
) -> None:
    """Not in the log that it shows, also where control sequences stand within the value."""
    monkeypatch.setenv("AIR_SECRET_KEY", "hunter2-hunter2")
    world.submit("j", {"id": "work", "secrets": ["KEY"]}, notify=[{"on": "failure", "to": "ops"}])
    world.cycle()
    log = Path(world.launch("j/work").out_dir, "output.log")
    log.write_text(f"{'x' * 70_000}\nlogin with hunter2{escape}-hunter2 failed\n", encoding="utf-8")
    world.do("j/work", code=1)
    world.told(lambda: world.settled("j"))
    assert ops.got[0]["log"].endswith("login with *** failed")
    assert "hunter2" not in str(ops.got)
    assert len(ops.got[0]["log"]) <= delivery.LOG_TEXT


def test_without_the_values_there_is_no_log(world: NotifyWorld, ops: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be recognized is not shown."""
    monkeypatch.setenv("AIR_SECRET_KEY", "hunter2-hunter2")
    world.submit("j", {"id": "work", "secrets": ["KEY"]}, notify=[{"on": "failure", "to": "ops"}])
    world.cycle()
    Path(world.launch("j/work").out_dir, "output.log").write_text("hunter2-hunter2", encoding="utf-8")
    monkeypatch.delenv("AIR_SECRET_KEY")
    world.do("j/work", code=1)
    world.told(lambda: world.settled("j"))
    assert ops.got[0]["log"] == delivery.LEFT_OUT


def test_no_task_gets_a_url(world: NotifyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by naming it as a secret, either."""
    monkeypatch.setenv("AIR_SECRET_AIR_NOTIFY_OPS", "x")
    world.submit("j", {"id": "work", "secrets": ["AIR_NOTIFY_OPS"]})
    world.until(lambda: world.job("j").ended)
    assert "which no task gets" in str(world.task("j", "work").message)


def test_no_url_is_on_the_volume_or_in_a_log(
    world: NotifyWorld, ops: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong with it."""
    ops.status = 500
    world.fail("j")
    world.told(lambda: bool(world.manager.state.outbox.problems()), step=1)
    world.stop()
    found = [path for path in Path(world.layout.root).rglob("*") if path.is_file() and b"t0p" in path.read_bytes()]
    assert found == []
    assert "t0p" not in caplog.text


@pytest.mark.parametrize(
    "url", ["", "ops@example.com", "http://", "http://[", "https://h:port/", "file:///etc/passwd", "http://h/\r\nX: y"]
)
def test_wrong_urls_are_no_crash(
    world: NotifyWorld, monkeypatch: pytest.MonkeyPatch, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are said without being shown."""
    monkeypatch.setenv("AIR_NOTIFY_OPS", url)
    world.fail("j")
    world.told(lambda: bool(world.manager.state.outbox.problems()))
    problem = world.manager.state.outbox.problems()["ops"]
    assert "bug" not in problem
    assert not url or url not in problem


@pytest.mark.parametrize("kind", [OSError, RecursionError])
def test_whatever_a_sender_raises(
    world: NotifyWorld, ops: Webhook, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """Costs this try alone."""

    def broken(*_: object) -> None:
        raise kind

    monkeypatch.setattr("air_executor.notify.sending.send", broken)
    world.fail("j")
    world.told(lambda: bool(world.manager.state.outbox.problems()))
    monkeypatch.setattr("air_executor.notify.sending.send", send)
    world.told(lambda: world.settled("j"), step=1)
    assert ops.events == ["failure"]


# Approval


@pytest.mark.parametrize("after", [[], ["build"]])
def test_a_question_is_told_once(world: NotifyWorld, ops: Webhook, after: list[str]) -> None:
    """When the task asks, from the submission on too; and again when it asks again."""
    question = {"id": "ok", "approve": "Deploy\x1b[31m this?", "after": after}
    client = Client(world.layout.root)
    client.submit(parse_job({"id": "j", "notify": ALL_AND_APPROVAL, "tasks": [BUILD, question]}))
    world.cycle()
    if after:
        assert ops.asked == 0
    world.do("j/build")
    world.told(lambda: len(ops.got) > 0 and not world.job("j").undelivered)
    world.restart()
    world.told(lambda: not world.job("j").undelivered)
    assert ops.events == ["approval"]
    assert ops.got[0]["text"].startswith("Task ok asks: Deploy\\x1b[31m this?\nair-executor approve j ok")
    world.asked("reject", "j", "ok")
    world.told(lambda: world.settled("j"))
    world.asked("retry", "j")
    world.told(lambda: len(ops.events) == 3 and not world.job("j").undelivered)
    assert ops.events == ["approval", "failure", "approval"]


@pytest.mark.parametrize("on_budget", ["pause", "stop"])
def test_a_budget_that_is_used_up(world: NotifyWorld, ops: Webhook, on_budget: str) -> None:
    """It is told once, with the amount and the command that goes on; beside the failure, where that stops the job."""
    rules = [{"on": ["failure", "budget"], "to": "ops"}]
    world.submit("j", "a", "b", "c", notify=rules, budget={"usd": 1}, on_budget=on_budget)
    world.do("j/a", queue=[{"usage": {"usd": 1.5}}])
    world.told(lambda: len(ops.got) == (1 if on_budget == "pause" else 2))
    assert sorted(ops.events) == (["budget"] if on_budget == "pause" else ["budget", "failure"])
    body = next(one for one in ops.got if one["event"] == "budget")
    assert body["title"] == "j has used up its budget"
    assert "used: 1.5 of 1 usd" in body["text"]
    verb = "resume" if on_budget == "pause" else "retry"
    assert body["text"].splitlines()[-1] == f"air-executor {verb} j --budget usd=AMOUNT"
    if on_budget == "pause":
        assert world.asked("resume", "j", budget={"usd": 5}) is None
        world.do("j/b", queue=[{"usage": {"usd": 9}}])
        world.told(lambda: len(ops.got) == 2)
        assert ops.events == ["budget", "budget"]

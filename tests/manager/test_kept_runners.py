"""A runner that stays after a failure: the failure is committed at once, and nothing waits for the runner's end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.errors import StoreError
from air_executor.model.job import Job, RunRetention, Task
from air_executor.model.keep import Keep
from air_executor.model.names import Slot
from air_executor.model.state import JobState
from tests.manager.rig import World, leave, world

KEEP = {"keep": {"on_failure": "10m"}}


@pytest.fixture
def made(quick_path: Path) -> Iterator[World]:
    """A manager on a platform that keeps runners."""
    with world(quick_path) as made:
        made.platform.keeps = True
        restart(made)
        yield made


def restart(made: World, **options: object) -> None:
    """Kill the manager and start the next one."""
    if made.alive:
        made.crash()
    made.start(**options)


def fail(made: World, name: str, code: int = 1) -> Slot:
    """Let the command of `job/task` fail, while its runner stays; return its slot."""
    made.until(lambda: name in made.running())
    slot = made.slot(name)
    leave(made.launch(name), code)
    made.clock.pass_time(1)
    made.cycle(2)
    return slot


def test_the_failure_is_committed_and_the_runner_stays(made: World) -> None:
    """For the time that the task says, whatever managers do meanwhile; then it is removed, and its stay counted."""
    made.submit("j", {"id": "a", **KEEP})
    slot = fail(made, "j/a", 3)
    job, task = made.job("j"), made.task("j", "a")
    assert (job.phase, task.phase, task.exit_code, len(task.attempts)) == ("failed", "failed", 3, 1)
    kept, before = job.kept["a"], task.attempts[0]
    assert (kept.seq, kept.slot, kept.backend) == (1, 0, "fake")
    assert 590 < kept.until - made.clock.wall() <= 600
    restart(made)
    made.clock.pass_time(500)
    made.cycle(3)
    assert slot in made.platform.runners
    assert made.job("j").kept
    shown = made.manager.open_runs.snapshot()
    assert (shown.kept, list(shown.removing)) == (1, [])
    made.set_volume_time(kept.since + 601.5)
    made.clock.pass_time(101)
    made.until(lambda: not made.job("j").kept)
    assert made.platform.runners == {}
    after = made.task("j", "a").attempts[0]
    assert after.finish == pytest.approx(before.finish + 601.5, abs=0.001)
    assert made.job("j").usage.finish_seconds == pytest.approx(after.finish, abs=0.001)
    assert made.job("j").usage.runs == 1


def test_only_the_last_attempt_is_kept(made: World) -> None:
    """One that is retried is removed first, as every runner is."""
    made.submit("j", {"id": "a", "retries": 1, **KEEP})
    fail(made, "j/a")
    made.until(lambda: made.task("j", "a").runs == 2)
    assert made.job("j").kept == {}
    assert made.begun[f"{made.job('j').uid}-2"].slot == Slot("j", 0)
    fail(made, "j/a")
    assert made.job("j").kept["a"].seq == 2


def test_the_job_goes_on_beside_it(made: World) -> None:
    """What waits for the slot gets another one, and a manager without room for more than one runner has it."""
    restart(made, max_runners=1)
    made.submit("j", {"id": "a", **KEEP}, "b", {"id": "tidy", "when": "always"}, on_failure="continue")
    made.submit("other", "x")
    fail(made, "j/a")
    made.do("other/x", "j/b")
    made.until(lambda: "j/tidy" in made.running())
    assert (made.slot("j/a"), made.slot("j/tidy")) == (Slot("j", 0), Slot("j", 1))
    restart(made, max_runners=1)
    made.do("j/tidy")
    made.until(lambda: made.job("j").ended)
    assert made.overlaps == []


@pytest.mark.parametrize("op", ["cancel", "retry", "rerun"])
def test_it_is_let_go(made: World, op: str) -> None:
    """By a request about its task; a retry does not wait for it."""
    made.submit("j", {"id": "a", **KEEP})
    first = fail(made, "j/a")
    assert made.asked(op, "j", "a") is None
    made.until(lambda: not made.job("j").kept)
    if op == "cancel":
        assert (made.job("j").phase, made.platform.runners) == ("failed", {})
        assert "already ended" in str(made.asked(op, "j", "a"))
    else:
        made.do("j/a")
        assert made.job("j").phase == "succeeded"
    assert made.platform.runners.get(first) is None


def test_a_cancelled_job_lets_go_of_all(made: World) -> None:
    """Also one that has not ended."""
    made.submit("j", {"id": "a", **KEEP}, "b", on_failure="continue")
    fail(made, "j/a")
    made.until(lambda: "j/b" in made.running())
    assert made.asked("cancel", "j") is None
    made.until(lambda: not made.job("j").kept and made.job("j").ended)
    assert made.job("j").phase == "cancelled"


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"skip_on": [9]}, 9), ({"again_on": [9]}, 9), ({}, 0)],
    ids=["skipped", "again", "success"],
)
def test_what_is_no_failure_is_not_kept(made: World, fields: dict[str, object], code: int) -> None:
    """Whatever its runner does."""
    made.submit("j", {"id": "a", **fields, **KEEP})
    fail(made, "j/a", code)
    made.clock.pass_time(5)
    made.cycle(3)
    assert made.job("j").kept == {}
    assert made.platform.runners == {}


def test_what_was_stopped_is_not_kept(made: World) -> None:
    """Who cancels a run wants it gone."""
    made.submit("j", {"id": "a", **KEEP})
    made.until(lambda: "j/a" in made.running())
    made.platform.slow_removal = True
    assert made.asked("cancel", "j") is None
    leave(made.launch("j/a"), 143)
    made.cycle(2)
    made.platform.settle()
    made.until(lambda: made.job("j").phase == "cancelled")
    assert made.job("j").kept == {}


def test_the_operator_limits_number_and_time(made: World) -> None:
    """Beyond the number, runners end as without `keep`; 0 is none."""
    restart(made, keep_runners=1, keep_runners_for=60.0)
    made.submit("j", {"id": "a", **KEEP}, {"id": "b", **KEEP}, max_runners=2, on_failure="continue")
    made.until(lambda: {"j/a", "j/b"} <= made.running().keys())
    assert made.launch("j/a").keep == 60.0
    fail(made, "j/a")
    assert made.job("j").kept["a"].until - made.clock.wall() <= 60
    fail(made, "j/b")
    made.until(lambda: made.job("j").ended)
    assert list(made.job("j").kept) == ["a"]
    restart(made, keep_runners=0)
    made.submit("k", {"id": "a", **KEEP})
    made.until(lambda: "k/a" in made.running())
    assert made.launch("k/a").keep == 0.0


def test_a_platform_that_keeps_nothing(quick_path: Path) -> None:
    """There the field has no effect: the runner has ended by itself."""
    with world(quick_path) as made:
        made.submit("j", {"id": "a", **KEEP})
        made.do("j/a", code=1)
        made.until(lambda: made.job("j").ended)
        assert made.job("j").kept == {}


def test_it_goes_while_no_manager_lives(made: World) -> None:
    """The next one finds it gone, and counts only what it knows."""
    made.submit("j", {"id": "a", **KEEP})
    slot = fail(made, "j/a")
    before = made.task("j", "a").attempts[0].finish
    made.crash()
    made.platform.lose(slot)
    restart(made)
    made.until(lambda: not made.job("j").kept)
    assert made.task("j", "a").attempts[0].finish == before


def test_the_platform_does_not_answer(made: World) -> None:
    """Unknown is not gone."""
    made.submit("j", {"id": "a", **KEEP})
    fail(made, "j/a")
    made.platform.silent = True
    made.clock.pass_time(700)
    made.cycle(3)
    assert made.job("j").kept
    made.platform.silent = False
    made.until(lambda: not made.job("j").kept)


def test_another_run_of_the_slot_is_an_orphan(made: World) -> None:
    """Only the kept run is left alone: by its number, not by its name."""
    made.submit("j", {"id": "a", **KEEP})
    slot = fail(made, "j/a")
    made.crash()
    made.platform.runners[slot].status = type(made.platform.runners[slot].status)("0badcafe-9", alive=True)
    restart(made)
    made.until(lambda: not made.platform.runners)
    made.until(lambda: not made.job("j").kept)


def test_stopping_all_runners_removes_it(made: World) -> None:
    """Who stops the manager with its runners leaves none."""
    made.submit("j", {"id": "a", **KEEP})
    fail(made, "j/a")
    made.manager.stop(runners=True)
    made.until(made.manager.may_leave)
    assert made.platform.runners == {}
    assert made.job("j").kept == {}


def test_an_archived_job_has_none(made: World) -> None:
    """A run of a name stays as long as a runner of it is kept, whatever the retention of the name says."""
    for code in (1, 0):
        task = Task(id="a", command="x", keep=Keep(on_failure=600))
        job = Client(made.layout.root).submit(Job(name="n", tasks=[task], retention=RunRetention(failed=0)))
        if code:
            fail(made, f"{job.id}/a")
        else:
            made.do(f"{job.id}/a")
    made.clock.pass_time(100)
    made.cycle(3)
    assert sorted(made.jobs.ids()) == ["n-1", "n-2"]
    made.clock.pass_time(600)
    made.until(lambda: sorted(made.jobs.ids()) == ["n-2"], limit=500)


@pytest.mark.parametrize("trouble", ["refused", "unreadable"])
def test_the_state_cannot_be_read_when_it_goes(made: World, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    """A volume that refuses is asked again; what is unreadable is left to the next start. Other jobs go on."""
    made.submit("j", {"id": "a", **KEEP})
    slot = fail(made, "j/a")
    made.clock.pass_time(1)
    made.cycle()
    path = Path(made.layout.state("j"))
    with monkeypatch.context() as refusing:
        if trouble == "unreadable":
            path.write_bytes(b"<<<<<<< HEAD\n")
        else:
            load = made.manager.jobs.load
            refusing.setattr(made.manager.jobs, "load", lambda name: _refused() if name == "j" else load(name))
        made.platform.lose(slot)
        made.submit("other", "x")
        made.do("other/x")
    made.cycle(2)
    assert made.job("other").phase == "succeeded"
    if trouble == "refused":
        assert made.job("j").kept == {}


def _refused() -> JobState:
    msg = "the volume refuses"
    raise StoreError(msg)

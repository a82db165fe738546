"""Orders of events in which a simpler manager loses, doubles or forgets something; one test each."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from air_executor.backends.base import RunnerStatus
from air_executor.errors import ManagerHeldError, StoreError
from air_executor.manager.wakeups import Wakeups
from air_executor.model.names import Slot
from air_executor.model.state import Done, Queued
from air_executor.store import files, trees
from air_executor.store.journal import Journal
from tests.fake_backend import FakeRunner, Fault
from tests.manager.rig import World, leave


def reason(world: World, job: str, task: str) -> str:
    """Return why a task ended."""
    status = world.task(job, task).status
    assert isinstance(status, Done)
    return status.reason


def test_follow_up_started_after_a_run_that_the_checkpoint_calls_running(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that the checkpoint calls running ends, its follow-up starts, the manager dies: neither runs again."""
    world.submit("j", "a", "b")
    world.cycle(2)
    assert world.jobs.load("j").tasks["a"].phase == "running"
    world.delay_checkpoints(monkeypatch)
    world.exit("j/a", queue=[{"id": "c", "command": "x"}])
    world.cycle(2)
    assert set(world.running()) == {"j/b"}
    assert world.jobs.load("j").tasks["a"].phase == "running", "the checkpoint is to be behind"
    world.restart()
    world.do("j/b", "j/c")
    assert world.phases("j") == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
    assert [launch.task for launch in world.begun.values()] == ["a", "b", "c"]


def test_slow_failure_after_what_a_sibling_queued_has_run(world: World) -> None:
    """A slow A fails after B succeeded and B's C ran (on_failure: stop), crash: what succeeded stays succeeded."""
    world.submit("j", "a", "b", "d", max_runners=2)
    world.until(lambda: set(world.running()) == {"j/a", "j/b"})
    world.exit("j/b", queue=[{"id": "c", "command": "x", "priority": 1}])
    world.do("j/c")
    world.exit("j/a", 1)
    world.cycle()
    world.restart()
    world.cycle(3)
    world.until(lambda: not world.running() or set(world.running()) == {"j/d"})
    for name in list(world.running()):
        world.exit(name)
    world.until(lambda: world.job("j").ended)
    phases = world.phases("j")
    assert (phases["a"], phases["b"], phases["c"]) == ("failed", "succeeded", "succeeded")
    assert world.job("j").phase == "failed"
    assert sum(launch.task == "c" for launch in world.begun.values()) == 1


def test_two_runs_queue_the_same_id(world: World) -> None:
    """Two runs queue the same id: the first committed wins, the other is rejected, and the task exists once."""
    world.submit("j", "a", "b", max_runners=2, on_failure="continue")
    world.until(lambda: set(world.running()) == {"j/a", "j/b"})
    world.exit("j/a", queue=[{"id": "c", "command": "from-a"}])
    world.exit("j/b", queue=[{"id": "d", "command": "x"}, {"id": "c", "command": "from-b"}])
    world.do("j/c")
    ended = {world.task("j", t).phase: t for t in ("a", "b")}
    assert set(ended) == {"succeeded", "failed"}
    assert reason(world, "j", ended["failed"]) == "rejected"
    status = world.task("j", ended["failed"]).status
    assert isinstance(status, Done)
    assert "c is taken" in (status.message or "")
    assert world.task("j", "c").queued_by == ended["succeeded"]
    assert ("d" in world.job("j").tasks) == (ended["succeeded"] == "b"), "nothing of a rejected run is committed"


def test_outcome_of_a_lost_run_appears_later(world: World) -> None:
    """A run committed as lost whose exit.json appears later: it is ignored, for ever and after a restart."""
    world.submit("j", "a", {"id": "after-a", "after": ["a"]})
    world.cycle()
    first = world.launch("j/a")
    world.platform.lose(Slot("j", 0))
    world.cycle()
    assert world.task("j", "a").attempts[0].reason == "lost"
    leave(first, queue=[{"id": "ghost", "command": "x"}], result="ghost")
    world.restart()
    world.until(lambda: "j/a" in world.running())
    assert world.launch("j/a").run != first.run
    world.do("j/a", "j/after-a")
    assert list(world.job("j").tasks) == ["a", "after-a"]
    assert world.task("j", "a").result is None


def test_add_and_retry_applied_started_crash(world: World) -> None:
    """`add` and `retry` are applied, what they queued starts, crash: each has happened exactly once."""
    world.submit("j", "a")
    world.do("j/a", code=1)
    assert world.job("j").phase == "failed"
    assert world.asked("retry", "j") is None
    assert world.asked("add", "j", tasks=[{"command": "x"}]) is None
    world.cycle()
    assert "j/a" in world.running()
    world.restart()
    assert "j/a" in world.running()
    world.do("j/a", "j/_2")
    assert list(world.job("j").tasks) == ["a", "_2"]
    assert world.job("j").phase == "succeeded"
    assert [launch.task for launch in world.begun.values()] == ["a", "a", "_2"]


@pytest.mark.parametrize("op", ["add", "retry"])
def test_request_whose_file_outlives_its_line(world: World, op: str) -> None:
    """The journal names a request, the crash comes before its file is deleted: it is not applied again."""
    world.submit("j", "a")
    world.do("j/a", code=1)
    name = world.ask(op, "j", tasks=[{"id": "b", "command": "x"}] if op == "add" else ())
    kept = Path(world.layout.inbox, name).read_bytes()
    world.cycle()
    version = world.job("j").version
    world.crash()
    Path(world.layout.inbox, name).write_bytes(kept)
    world.start()
    assert not world.inbox.waiting(name)
    world.cycle()
    assert world.job("j").version <= version + 1, "only the start of its task may follow"
    assert len(world.job("j").tasks) == (2 if op == "add" else 1)


def test_add_while_the_manager_finishes_the_job(world: World) -> None:
    """`add` arrives in the cycle in which the job ends: it is taken, before or after, and its task runs."""
    world.submit("j", "a")
    world.cycle()
    world.exit("j/a")
    world.ask("add", "j", tasks=[{"id": "b", "command": "x"}])
    world.cycle()
    world.ask("add", "j", tasks=[{"id": "c", "command": "x"}])
    world.do("j/b", "j/c")
    assert world.job("j").phase == "succeeded"
    world.ask("add", "j", tasks=[{"id": "d", "command": "x"}])
    world.do("j/d")
    assert list(world.job("j").tasks) == ["a", "b", "c", "d"]


def test_start_given_up_whose_runner_appears_after_all(world: World) -> None:
    """A start is given up, its runner appears after all: its claim is taken, so the task runs once."""
    world.platform.faults.append(Fault.LATE)
    world.submit("j", "a", "b")
    world.cycle()
    assert not world.running()
    world.until(lambda: world.task("j", "a").runs == 0 or bool(world.running()), step=0.3)
    world.platform.appear()
    world.do("j/a", "j/b")
    assert [launch.task for launch in world.begun.values()] == ["a", "b"]
    assert world.job("j").phase == "succeeded"


def test_start_given_up_whose_runner_appears_in_a_free_slot(world: World) -> None:
    """The same where nothing bars its way but the claim: the job is paused, so the slot is free when it comes."""
    world.platform.faults.append(Fault.LATE)
    world.submit("j", "a")
    world.cycle()
    world.ask("pause", "j")
    world.until(lambda: isinstance(world.task("j", "a").status, Queued), step=0.3)
    world.platform.appear()
    world.cycle()
    assert not world.begun
    assert world.asked("resume", "j") is None
    world.do("j/a")
    assert len(world.begun) == 1
    assert world.job("j").phase == "succeeded"


def test_late_runner_that_holds_the_slot(world: World) -> None:
    """A late runner that holds its slot is removed, and what waits for the slot starts without another event."""
    world.submit("j", "a", "b")
    world.cycle()
    old = world.launch("j/a")
    world.platform.lose(Slot("j", 0))
    world.cycle()
    os.unlink(f"{old.out_dir}/claim")
    world.platform.slow_removal = True
    world.platform.start(old)
    world.cycle(3)
    assert world.launch("j/a").run == old.run
    world.clock.pass_time(5)
    world.cycle(3)
    world.platform.settle()
    world.until(lambda: "j/a" in world.running())
    assert world.launch("j/a").run != old.run


def test_pid_file_of_the_previous_run(world: World) -> None:
    """The slot still shows the previous run while the next is starting: that one is removed, ours starts afresh."""
    world.submit("j", "a", "b")
    world.cycle()
    first = world.launch("j/a")
    leave(first)
    world.platform.end(first.slot, lingers=True)
    world.platform.slow_removal = True
    world.cycle(3)
    assert world.phases("j") == {"a": "running", "b": "queued"}, "committed only once its runner is gone"
    world.platform.settle()
    world.do("j/b")
    assert world.job("j").phase == "succeeded"


def test_id_resubmitted_while_a_straggler_of_its_old_life_holds_the_slot(world: World) -> None:
    """An id comes back while a straggler of its old life holds the slot: the new life starts when that is gone."""
    world.submit("j", "a")
    world.cycle()
    old = world.launch("j/a")
    leave(old)
    world.platform.end(old.slot)
    world.until(lambda: world.job("j").ended)
    world.jobs.archive(world.jobs.load("j"))
    world.platform.slow_removal = True
    world.platform.runners[old.slot] = FakeRunner(old, RunnerStatus(old.run, alive=True))
    world.submit("j", "b")
    world.cycle(3)
    assert set(world.running()) == {"j/a"}
    world.platform.settle()
    world.until(lambda: "j/b" in world.running())
    world.exit("j/b")
    world.until(lambda: world.job("j").phase == "succeeded")


def test_deadline_passes_while_no_manager_lives(world: World) -> None:
    """A deadline passes while no manager lives: the next one stops the run, skips the rest, and says `timeout`."""
    world.submit("j", "a", "b", deadline=60)
    world.cycle()
    world.crash()
    world.clock.pass_time(100)
    world.start()
    world.until(lambda: world.job("j").ended)
    assert (world.job("j").phase, world.job("j").reason) == ("failed", "timeout")
    assert (reason(world, "j", "a"), reason(world, "j", "b")) == ("timeout", "timeout")
    assert world.phases("j") == {"a": "failed", "b": "skipped"}


def test_after_a_deadline_the_manager_does_not_spin(world: World) -> None:
    """A run that resists its end after the deadline leaves the manager asleep between polls."""
    world.submit("j", "a", deadline=60)
    world.cycle()
    world.platform.slow_removal = True
    world.clock.pass_time(61)
    world.cycle(2)
    upcoming = world.manager.state.index.next_time()
    assert upcoming is None or upcoming > world.clock.wall()


def test_clock_set_back_an_hour(world: World) -> None:
    """The clock is set back an hour: delays and deadlines last as long as before, dates stay dates."""
    date = "2999-01-01T00:00:00Z"
    world.submit("j", {"id": "late", "delay": 60}, {"id": "dated", "not_before": date}, {"id": "a"}, deadline=600)
    world.do("j/a")
    world.clock.set_wall(-3600)
    world.cycle()
    world.clock.pass_time(59)
    world.cycle()
    assert world.running() == {}
    world.clock.pass_time(2)
    world.cycle(2)
    assert set(world.running()) == {"j/late"}
    status = world.task("j", "dated").status
    assert isinstance(status, Queued)
    assert status.waits_until is not None
    assert status.waits_until > world.clock.wall() + 1e9
    world.exit("j/late")
    world.cycle(2)
    world.clock.pass_time(500)
    world.cycle()
    assert not world.job("j").ended
    world.clock.pass_time(60)
    world.cycle(2)
    assert (world.job("j").phase, world.job("j").reason) == ("failed", "timeout")


def test_crash_in_the_middle_of_recovery_and_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery crashes before its first, second and third checkpoint: the next ends where an undisturbed one would."""
    for name in ("j1", "j2", "j3"):
        world.submit(name, "a", "b")
    world.cycle()
    world.delay_checkpoints(monkeypatch)
    for name in ("j1/a", "j2/a", "j3/a"):
        world.exit(name, queue=[{"command": "x"}])
    world.cycle(2)
    before = {name: world.job(name).version for name in ("j1", "j2", "j3")}
    world.crash()
    whole = files.replace
    for survivors in (0, 1, 1):
        left = survivors

        def broken(path: str, data: bytes, staging: str, *, sync: bool = True) -> None:
            nonlocal left
            if path.endswith("/state.json"):
                if left == 0:
                    raise KeyboardInterrupt  # nothing handles it: the process is gone
                left -= 1
            whole(path, data, staging, sync=sync)

        with monkeypatch.context() as patch:
            patch.setattr(files, "replace", broken)
            with pytest.raises(KeyboardInterrupt):
                world.start()
    world.start()
    assert {name: world.job(name).version for name in before} == before
    for name in before:
        world.do(f"{name}/b")
        assert list(world.job(name).tasks) == ["a", "b", "_1-1"]
    assert len(os.listdir(world.layout.journal)) == 1


def test_torn_last_line(world: World) -> None:
    """The last journal line is torn: it was never written, so nothing had acted on it."""
    world.submit("j", "a")
    world.cycle()
    version = world.job("j").version
    world.crash(torn=b'{"job":"j","uid":"00000000","v":7,"event":"end","at":1')
    world.start()
    assert world.problems() == []
    assert world.job("j").version == version
    world.do("j/a")
    assert world.job("j").phase == "succeeded"


def test_damaged_line_before_good_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged line costs only the job whose chain has the gap; a copy is kept and it is reported."""
    world.submit("j1", "a", "b")
    world.submit("j2", "a", "b")
    world.cycle()
    world.delay_checkpoints(monkeypatch)
    world.exit("j1/a", result=1)
    world.cycle()
    world.exit("j2/a", result=2)
    world.cycle()
    path = Path(world.manager.state.journal.path)
    world.crash()
    lines = path.read_bytes().splitlines(keepends=True)
    victim = next(i for i, line in enumerate(lines) if b'"job":"j1"' in line and b'"end":{' in line)
    assert victim < len(lines) - 1
    lines[victim] = lines[victim].replace(b'"end"', b'"eNd"')
    path.write_bytes(b"".join(lines))
    world.start()
    assert any(str(path) in problem for problem in world.problems())
    assert any("job j1: a gap in the journal" in problem for problem in world.problems())
    assert Path(f"{path}.corrupt").read_bytes() == b"".join(lines)
    assert world.phases("j2")["a"] == "succeeded"
    assert world.phases("j1")["a"] == "running"
    world.cycle(3)  # the runner that j1 no longer knows of goes first
    world.do("j1/b", "j2/b")
    assert world.job("j1").phase == world.job("j2").phase == "succeeded"
    assert world.task("j1", "a").result == 1, "its exit.json is there, so it is committed again"


def test_enospc_on_append(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The volume is full: the half line is cut off, nothing acts until an append works, then everything goes on."""
    world.submit("j", "a", "b")
    world.cycle()
    world.exit("j/a")
    path = world.manager.state.journal.path
    length = os.path.getsize(path)

    def full(fd: int, data: bytes) -> None:
        os.write(fd, data[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", full)
        patch.setattr(Wakeups, "sleep", lambda *_: None)
        world.cycle(3)
        assert os.path.getsize(path) == length
        assert world.running() == {}
    world.do("j/b")
    assert world.job("j").phase == "succeeded"
    assert len(world.begun) == 2


def test_rejected_run_whose_first_line_was_a_whole_job(world: World) -> None:
    """A rejected run's first line was a whole job: no trace of that job is left, now or after a restart."""
    world.submit("j", "a")
    world.cycle()
    child = {"job": {"id": "child", "tasks": [{"command": "x"}]}}
    world.exit("j/a", queue=[child, {"command": "x", "after": ["nobody"]}])
    world.cycle(2)
    assert reason(world, "j", "a") == "rejected"
    assert not os.path.exists(world.layout.job("child"))
    world.restart()
    assert world.jobs.ids() == ["j"]


def test_whole_job_of_another_uid_is_a_rejection(world: World) -> None:
    """A run submits two whole jobs and the second id is somebody else's: rejected, and the first is gone again."""
    world.submit("taken", "a")
    world.submit("j", "a")
    world.cycle()
    jobs = [{"job": {"id": name, "tasks": [{"command": "x"}]}} for name in ("mine", "taken")]
    world.exit("j/a", queue=jobs)
    world.cycle(2)
    assert reason(world, "j", "a") == "rejected"
    assert not os.path.exists(world.layout.job("mine"))
    assert world.job("taken").submitted_by is None


def test_crash_between_creating_and_releasing_whole_jobs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager dies after it made the pending jobs, before the commit: the next one commits, and they run once."""
    world.submit("j", "a")
    world.cycle()
    world.exit("j/a", queue=[{"job": {"id": "child", "tasks": [{"id": "x", "command": "x"}]}}])
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "flush", _die)
        with pytest.raises(KeyboardInterrupt):
            world.cycle()
    assert world.jobs.load("child").phase == "pending"
    world.restart()
    world.do("child/x")
    assert world.job("child").phase == "succeeded"
    assert world.job("j").phase == "succeeded"
    assert sum(launch.task == "x" for launch in world.begun.values()) == 1


def test_held_job_of_a_run_that_is_lost_after_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager dies after it made a pending job, and the run's outcome is gone at the next start: so is the job."""
    world.submit("j", "a")
    world.cycle()
    launch = world.exit("j/a", queue=[{"job": {"id": "child", "tasks": [{"id": "x", "command": "x"}]}}])
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "flush", _die)
        with pytest.raises(KeyboardInterrupt):
            world.cycle()
    assert world.jobs.load("child").phase == "pending"
    os.unlink(f"{launch.out_dir}/exit.json")
    world.restart()
    world.until(lambda: "j/a" in world.running())
    assert [attempt.reason for attempt in world.task("j", "a").attempts] == ["lost"]
    assert world.jobs.ids() == ["j"]
    world.exit("j/a", queue=[{"job": {"id": "child", "tasks": [{"id": "y", "command": "y"}]}}])
    world.do("child/y")
    assert world.job("child").phase == "succeeded"
    assert all(launch.task != "x" for launch in world.begun.values())


def _die(_: Journal) -> None:
    raise KeyboardInterrupt


def test_whole_job_waits_for_jobs(world: World) -> None:
    """A whole job that a run submits waits for the jobs in its `after`: siblings, and ones that exist."""
    world.submit("other", "o")
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    first = {"job": {"id": "first", "tasks": [{"id": "x", "command": "x"}]}}
    second = {"job": {"id": "second", "after": ["first", "other"], "tasks": [{"id": "y", "command": "y"}]}}
    world.exit("j/a", queue=[second, first])
    world.do("first/x")
    world.cycle(3)
    assert "second/y" not in world.running()
    world.restart()
    world.cycle(2)
    assert "second/y" not in world.running()
    world.do("other/o", "second/y")
    assert world.job("second").phase == "succeeded"


def test_whole_job_that_waits_for_nobody(world: World) -> None:
    """A whole job whose `after` names no job rejects the run that submits it."""
    world.submit("j", "a")
    world.cycle()
    world.exit("j/a", queue=[{"job": {"id": "child", "after": ["nobody"], "tasks": [{"command": "x"}]}}])
    world.cycle(2)
    assert reason(world, "j", "a") == "rejected"
    assert not os.path.exists(world.layout.job("child"))


def test_pending_job_stays_while_what_submitted_it_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pending job is not deleted because the state of the job that submitted it is unreadable today."""
    world.submit("j", "a")
    world.cycle()
    world.exit("j/a", queue=[{"job": {"id": "child", "tasks": [{"id": "x", "command": "x"}]}}])
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "flush", _die)
        with pytest.raises(KeyboardInterrupt):
            world.cycle()
    world.crash()
    state = Path(world.layout.state("j"))
    good = state.read_bytes()
    state.write_bytes(b"<<<<<<< HEAD\n")
    world.start()
    world.cycle(2)
    assert world.jobs.load("child").phase == "pending"
    world.stop()
    state.write_bytes(good)
    world.start()
    world.do("child/x")
    assert world.job("j").phase == "succeeded"


def test_cycle_closed_through_a_tree(world: World) -> None:
    """A run queues a child that waits for a task which waits for the run's tree: rejected, with the cycle named."""
    world.submit("j", "a", {"id": "merge", "after": ["a"]}, on_failure="continue")
    world.cycle()
    world.exit("j/a", queue=[{"id": "child", "command": "x", "after": ["merge"]}])
    world.until(lambda: world.job("j").ended)
    status = world.task("j", "a").status
    assert isinstance(status, Done)
    assert status.reason == "rejected"
    assert "merge" in (status.message or "")
    assert "child" in (status.message or "")
    assert world.phases("j") == {"a": "failed", "merge": "skipped"}


def test_replaced_manager_leaves_the_new_ones_runners_alone(world: World) -> None:
    """A manager is paused, its lock removed, another takes over: continued, it touches no runner and leaves."""
    world.submit("j", "a", "b")
    world.cycle()
    old = world.manager
    os.unlink(world.layout.lock)
    world.let_go()
    world.start()
    world.exit("j/a")
    world.until(lambda: "j/b" in world.running())
    run = world.launch("j/b").run
    world.clock.pass_time(120)
    version = world.job("j").version
    for _ in range(3):
        with pytest.raises(ManagerHeldError):
            old.cycle()
    assert world.launch("j/b").run == run
    assert world.job("j").version == version
    world.do("j/b")
    assert world.job("j").phase == "succeeded"


def test_replaced_manager_answers_nobody(world: World) -> None:
    """A manager that was replaced takes no request away from its successor, not even to refuse it."""
    world.submit("j", "a")
    world.cycle()
    old = world.manager
    os.unlink(world.layout.lock)
    world.let_go()
    world.start()
    world.do("j/a", code=1)
    names = [world.ask("retry", "j", "a"), world.ask("wake", "j")]
    with pytest.raises(ManagerHeldError):
        old.cycle()
    assert world.inbox.pending() == names
    world.cycle()
    assert world.inbox.refusal(names[0]) is None
    assert "j/a" in world.running()


def test_one_broken_volume_answer_is_no_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The volume refuses a listing once: nothing is lost, and the next cycle goes on."""
    world.submit("j", "a")

    def broken(path: str) -> list[str]:
        raise StoreError(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "list_dir", broken)
        with pytest.raises(StoreError):
            world.cycle()
    world.do("j/a")
    assert world.job("j").phase == "succeeded"


def test_added_task_that_is_not_needed(world: World) -> None:
    """A task that ends at once is added to a finished job, then another: both are kept, also through a crash."""
    world.submit("j", "a")
    world.do("j/a")
    assert world.asked("add", "j", tasks=[{"id": "cleanup", "command": "x", "when": "failure"}]) is None
    assert world.asked("add", "j", tasks=[{"id": "b", "command": "x"}]) is None
    world.restart()
    world.do("j/b")
    assert world.phases("j") == {"a": "succeeded", "cleanup": "skipped", "b": "succeeded"}


def test_confirm_gone_of_a_finished_job(world: World) -> None:
    """`confirm-gone` on a finished job, then `retry`: the retry happens, also after a crash."""
    world.submit("j", "a")
    world.do("j/a", code=1)
    world.asked("confirm-gone", "j")
    assert world.asked("retry", "j") is None
    world.restart()
    world.do("j/a")
    assert world.job("j").phase == "succeeded"


def test_inputs_after_the_job_was_indexed_again(world: World) -> None:
    """Results that came in another order than that of the tasks are all in AIR_INPUTS, also after a clock step."""
    late = {"id": "late", "delay": 99_999}
    world.submit("j", "c", "a", "b", {"id": "d", "after": ["a", "b"]}, late, max_runners=3)
    world.until(lambda: len(world.running()) == 3)
    world.exit("j/b", result="B")
    world.cycle()
    world.exit("j/a", result="A")
    world.do("j/d")
    world.exit("j/c", result="C")
    world.cycle(2)
    world.clock.set_wall(7200)
    world.ask("add", "j", tasks=[{"id": "e", "command": "x"}])
    world.until(lambda: "j/e" in world.running())
    inputs = json.loads(Path(world.launch("j/e").out_dir, "inputs.json").read_text(encoding="utf-8"))
    assert inputs == {"a": "A", "b": "B", "c": "C"}


def test_platforms_own_reason(world: World) -> None:
    """A runner dies without an outcome and the platform says why: that is the reason, not `lost`."""
    world.submit("j", {"id": "a", "retries": 1})
    world.cycle()
    world.platform.end(world.slot("j/a"), 137, reason="oom", lingers=True)
    world.until(lambda: len(world.task("j", "a").attempts) == 1)
    assert world.task("j", "a").attempts[0].reason == "oom"
    world.do("j/a")
    assert world.job("j").phase == "succeeded"


def test_retried_job_still_waits_for_its_upstream(world: World) -> None:
    """A job that failed with its upstream is retried while that runs again: it waits for it again."""
    world.submit("up", "u")
    world.submit("down", "d", after=["up"])
    world.do("up/u", code=1)
    assert world.job("down").reason == "upstream"
    assert world.asked("retry", "down") is None
    world.cycle()
    assert world.job("down").reason == "upstream", "the one it waits for has still failed"
    assert world.asked("retry", "up") is None
    assert world.asked("retry", "down") is None
    world.cycle(2)
    assert set(world.running()) == {"up/u"}
    world.do("up/u", "down/d")
    assert world.job("down").phase == "succeeded"


def test_started_job_does_not_wait_again(world: World) -> None:
    """A job has started, then its upstream is reopened and the manager restarts: the job goes on."""
    world.submit("up", "u")
    world.submit("down", "d", "e", "f", after=["up"])
    world.do("up/u", "down/d")
    assert world.asked("add", "up", tasks=[{"id": "v", "command": "x"}]) is None
    world.restart()
    world.do("down/e", "down/f")
    assert world.job("down").phase == "succeeded"


def test_state_checked_out_again_is_not_moved_away(world: World) -> None:
    """A directory without a state waits to be moved away, its state comes back first: the job is kept."""
    world.submit("j", "a")
    world.cycle()
    assert world.asked("pause", "j") is None
    world.stop()
    state = Path(world.layout.state("j"))
    kept = state.read_bytes()
    state.unlink()
    world.start()
    world.cycle()
    assert "j" in world.manager.request_handler.stateless, "its runner still lives"
    state.write_bytes(kept)
    world.clock.pass_time(100)
    world.cycle(3)
    assert os.path.exists(world.layout.state("j"))
    assert world.manager.request_handler.stateless == []


def test_clone_while_a_task_was_running(world: World) -> None:
    """A fresh clone has no run directories: a running task is queued again at no charge."""
    world.submit("j", "a")
    world.cycle(2)
    world.stop()
    world.platform.runners.clear()
    trees.remove_tree(world.layout.runs("j"))
    world.start()
    world.do("j/a")
    assert world.task("j", "a").runs == 1
    assert [a.reason for a in world.task("j", "a").attempts] == ["requeue", "ok"]


def test_clock_set_back_while_a_delayed_task_is_due(world: World) -> None:
    """A delay is over, its task waits for a slot, the clock is set back: a restart does not make it wait again."""
    world.submit("j", "a", {"id": "b", "delay": 5})
    world.cycle()
    world.clock.pass_time(10)
    world.cycle()
    world.clock.set_wall(-3600)
    world.cycle()
    world.restart()
    world.exit("j/a")
    world.cycle(2)
    assert set(world.running()) == {"j/b"}


def test_orphan_that_may_run_the_very_task(world: World) -> None:
    """A runner that the state does not know holds one of two slots: its job starts nothing beside it."""
    world.submit("j", "a", "b", max_runners=2)
    world.cycle()
    world.stop()
    old = world.platform.runners.pop(Slot("j", 1))
    assert old.launch.task == "b"
    state = Path(world.layout.state("j"))
    text = state.read_text(encoding="utf-8")
    for name in ("a", "b"):
        running = f'{{"id":"{name}","phase":"running"'
        assert running in text
        text = text.replace(running, running.replace("running", "queued"))
    state.write_text(text, encoding="utf-8")
    world.platform.slow_removal = True
    world.start()
    world.cycle(3)
    assert set(world.running()) == {"j/a"}
    assert world.phases("j") == {"a": "queued", "b": "queued"}
    world.platform.settle()
    world.until(lambda: set(world.running()) == {"j/a", "j/b"})
    assert world.overlaps == []


def test_a_state_that_cannot_be_read_now_costs_only_its_job_and_nothing_of_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error on one state file at a start: the others go on, and the job's decisions wait in the journal."""
    world.submit("sick", "a", "b")
    world.submit("well", "a", "b")
    world.cycle(2)
    world.delay_checkpoints(monkeypatch)
    world.exit("sick/a", queue=[{"id": "c", "command": "x"}])
    world.cycle(2)
    assert world.jobs.load("sick").tasks["a"].phase == "running", "the checkpoint is to be behind"
    world.crash()
    real = files.read

    def read(path: str, *args: object) -> object:
        if path == world.layout.state("sick"):
            msg = f"cannot open {path}: Input/output error"
            raise StoreError(msg)
        return real(path, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(files, "read", read)
        world.start()
        assert world.is_quarantined("sick")
        world.do("well/a", "well/b")
        assert world.job("well").phase == "succeeded"
        world.stop()
    world.start()
    assert world.phases("sick")["a"] == "succeeded"
    assert "c" in world.phases("sick")


def test_upstream_that_cannot_be_read_is_waited_for(world: World) -> None:
    """A job whose upstream has an unreadable state waits for it; unknown is not failed."""
    world.submit("first", "a")
    world.submit("later", "a", after=["first"])
    Path(world.layout.state("first")).write_text("{", encoding="utf-8")
    world.cycle(3)
    assert world.job("later").phase == "queued"
    assert not world.running()

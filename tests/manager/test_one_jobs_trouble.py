"""An error that nobody expected, in whatever step: it costs the job that shows it, is reported; others go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest

from air_executor.backends.base import RunnerStatus
from air_executor.core import request_decision
from air_executor.core.transitions import LiveJob
from air_executor.errors import StoreError
from air_executor.manager import commit, recovery, request_handler, supervisor
from air_executor.manager.scheduler import Scheduler
from air_executor.model.names import Slot
from air_executor.store import journal_files
from air_executor.store.jobs import Jobs
from tests.fake_backend import FakeBackend
from tests.manager.rig import World


def fails_for(what: Callable[..., Any], is_bad: Callable[..., bool], error: type[Exception]) -> Callable[..., Any]:
    """Return a function that raises for the job `bad` and is `what` for others."""

    def wrapped(*args: Any, **named: Any) -> Any:  # noqa: ANN401 - any function
        if is_bad(*args):
            raise error("as no test foresaw")
        return what(*args, **named)

    return wrapped


def names_bad(*args: Any) -> bool:  # noqa: ANN401 - arguments of any function
    """Tell whether one of the arguments is about the job `bad`."""
    found = [getattr(arg, "state", None) or getattr(arg, "job", None) or arg for arg in args]
    return any(getattr(getattr(one, "state", one), "id", one) == "bad" for one in found)


STEPS = [
    (LiveJob, "apply"),
    (Scheduler, "_start"),
    (supervisor, "reconcile"),
    (commit, "collect"),
    (Jobs, "checkpoint"),
]


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError, AssertionError])
@pytest.mark.parametrize(("owner", "step"), STEPS)
def test_a_bug_in_a_step_costs_one_job(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: type | ModuleType, step: str, error: type[Exception]
) -> None:
    """The job is quarantined with a reason; the other one runs to its end, and after a restart so does this one."""
    bad_runs: set[str] = set()

    def is_bad(*args: Any) -> bool:  # noqa: ANN401 - arguments of any function
        return names_bad(*args) or any(getattr(arg, "open_run", None) in bad_runs for arg in args)

    world.submit("bad", "a", "b")
    world.submit("good", "x", "y")
    world.until(lambda: {"bad/a", "good/x"} <= set(world.running()))
    bad_runs.add(world.launch("bad/a").run)
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fails_for(getattr(owner, step), is_bad, error))
        world.exit("bad/a")
        world.exit("good/x")
        world.do("good/y")
        world.until(lambda: world.is_quarantined("bad"))
    assert world.job("good").phase == "succeeded"
    assert any("job bad: quarantined" in problem for problem in world.problems())
    world.cycle(2)
    refused = world.asked("cancel", "bad")
    assert refused is not None
    assert "quarantined" in refused
    world.restart()
    world.do("bad/b")
    assert world.job("bad").phase == "succeeded"
    assert len([run for run in world.begun.values() if run.task == "a"]) == 1


@pytest.mark.parametrize(
    ("owner", "step"),
    [(journal_files, "replay_onto"), (recovery, "reconcile_run_dirs"), (Jobs, "load"), (Jobs, "checkpoint")],
)
def test_a_bug_in_recovery_costs_one_job(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: type | ModuleType, step: str
) -> None:
    """The manager starts without it, its journal is kept, and a later start takes it on where it was."""
    world.submit("bad", "a", "b")
    world.submit("good", "x", "y")
    world.delay_checkpoints(monkeypatch)
    world.do("bad/a", "good/x")
    version = world.job("bad").version
    world.crash()
    with monkeypatch.context() as patch:
        bad = names_bad if step != "reconcile_run_dirs" else (lambda _, state: state.id == "bad")
        patch.setattr(owner, step, fails_for(getattr(owner, step), bad, KeyError))
        world.start()
        assert world.is_quarantined("bad")
        world.do("good/y")
        assert world.job("good").phase == "succeeded"
        world.stop()
    world.start()
    assert world.job("bad").version >= version
    world.until(lambda: "bad/b" in world.running())
    world.do("bad/b")
    assert world.job("bad").phase == "succeeded"
    assert len([run for run in world.begun.values() if run.task == "a"]) == 1


def test_only_the_journals_of_a_quarantined_job_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of others go at each start, however long it stays quarantined."""
    world.submit("bad", "a", "b")
    world.submit("good", "x", "y")
    world.delay_checkpoints(monkeypatch)
    world.do("bad/a")
    world.crash()
    kept = os.listdir(world.layout.journal)
    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "load", fails_for(Jobs.load, names_bad, StoreError))
        for task in ("x", "y"):
            world.start()
            world.do(f"good/{task}")
            world.crash()
        world.start()
        assert sorted(os.listdir(world.layout.journal)) == sorted([*kept, f"{world.manager.epoch}-0.jsonl"])
        assert world.job("good").phase == "succeeded"
        world.crash()
    world.start()
    world.do("bad/b")
    assert [run.task for run in world.begun.values() if run.task in {"a", "b"}] == ["a", "b"]


def test_a_bug_that_no_job_shows_does_not_end_the_manager(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cycle breaks off in a step that belongs to no job: it is tried again, and once it works all goes on."""
    world.submit("j", "a")
    left = [3]
    observe = FakeBackend.observe

    def broken(backend: FakeBackend) -> Mapping[Slot, RunnerStatus]:
        if left[0]:
            left[0] -= 1
            raise ZeroDivisionError
        return observe(backend)

    monkeypatch.setattr(FakeBackend, "observe", broken)
    monkeypatch.setattr(world.manager, "sleep", lambda: None)
    monkeypatch.setattr(world.manager.wakeups, "sleep", lambda _: None)
    world.manager.run(until=lambda: "j/a" in world.running())
    world.let_go()
    assert left == [0]


def test_a_bug_in_a_request_refuses_that_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked learns of it, and the next request is taken."""
    world.submit("j", "a")
    world.cycle()
    with monkeypatch.context() as patch:
        failing = fails_for(request_decision.decision_on, lambda *_: True, KeyError)
        patch.setattr(request_handler, "decision_on", failing)
        refused = world.asked("pause", "j")
    assert refused is not None
    assert "bug" in refused
    assert world.asked("pause", "j") is None
    assert world.job("j").phase == "paused"

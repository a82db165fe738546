"""What tasks report as used counts once, however their runs end; a job whose budget is used up is paused or stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from air_executor.core.budget import budget_lines, raise_hint, reported_so_far, spending, used_up
from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.core.job_cost import sum_costs
from air_executor.core.ledger import read
from air_executor.errors import BadInputError
from air_executor.manager.act_queue import ActQueue
from air_executor.model.job import JobSpec
from air_executor.model.parsing import read as parse
from air_executor.model.problems import InvalidError
from air_executor.model.reports import MAX_NAMES
from air_executor.model.state import Running
from tests.decisions.test_progress import look, report
from tests.manager import rig
from tests.manager.rig import World
from tests.records import make_job, make_task


def used(**amounts: float) -> dict[str, Any]:
    """Return the line by which a task reports what it used."""
    return {"usage": amounts}


def explained(world: World) -> str:
    """Return why job j is where it is."""
    return explain_job(world.job("j"), ExplainContext(now=world.clock.wall()))


@pytest.mark.parametrize(("code", "phase"), [(0, "succeeded"), (1, "failed")])
def test_usage_counts_however_a_run_ends(world: World, code: int, phase: str) -> None:
    """Money spent is spent: in the job's sums, in its runs, and in the report."""
    world.submit("j", "a")
    world.do("j/a", code=code, queue=[used(usd=0.1, tokens=1200), used(usd=0.2)])
    assert world.job("j").phase == phase
    assert world.job("j").usage.reported == {"usd": 0.3, "tokens": 1200}
    assert world.task("j", "a").attempts[0].reported == {"usd": 0.3, "tokens": 1200}
    assert sum_costs(read([world.job("j")])).reported == {"usd": 0.3, "tokens": 1200}
    values = world.manager.state.counters.counts().values
    assert values["reported_usage_total", "default", "usd"] == pytest.approx(0.3)


def test_a_wrong_amount_is_named_with_its_column(world: World) -> None:
    """As in any other line that is wrong."""
    world.submit("j", "a")
    world.do("j/a", queue=[used(tokens=1, usd=-1)])
    line = json.dumps(used(tokens=1, usd=-1))
    said = f"line 1: usage.usd: must be a number between 0 and 1e+12, got -1 (column {line.index('-1') + 1})"
    assert said in (world.task("j", "a").message or "")


def test_usage_of_lost_runs_counts(world: World) -> None:
    """Also of a run that left no outcome, and of one whose task is retried; each run counts for itself."""
    world.submit("j", {"id": "a", "retries": 1})
    world.cycle()
    report(world, "j/a", used(usd=1))
    world.platform.end(world.slot("j/a"), 137)
    world.until(lambda: world.task("j", "a").runs == 2)
    world.do("j/a", code=1, queue=[used(usd=2)])
    world.until(lambda: world.task("j", "a").runs == 3)
    world.do("j/a", queue=[used(usd=4)])
    assert world.job("j").usage.reported == {"usd": 7}


def test_what_is_used_of_a_budget() -> None:
    """Without a time that of ended runs alone; with one, open runs too, which have used nothing before they start."""
    job = make_job("j", "00000001", {"budget": {"usd": 4, "runner_seconds": 100, "tokens": 9}})
    job.usage.reported = {"usd": 3.0}
    job.usage.start_seconds = 60.0
    since = {"a": 200.0, "b": 220.0, "c": 500.0}
    runs = {name: Running(n, n, at, reported={"usd": 0.5}) for n, (name, at) in enumerate(since.items())}
    job.tasks = {name: make_task(name, status=run) for name, run in runs.items()}
    job.tasks["d"] = make_task("d")
    assert spending(job) == [("usd", 3.0, 4), ("runner_seconds", 60.0, 100), ("tokens", 0.0, 9)]
    assert spending(job, 230.0) == [("usd", 4.5, 4), ("runner_seconds", 100.0, 100), ("tokens", 0.0, 9)]
    assert (used_up(job), used_up(job, 230.0)) == (None, ("usd", 4.5, 4))
    assert used_up(job, 250.0) == ("runner_seconds", 140.0, 100), "the most exceeded"
    assert budget_lines(job, 230.0) == (
        ["4.5 of 4 usd (112 %)", "100 of 100 runner_seconds (100 %)"],
        ["0 of 9 tokens (0 %)"],
    )
    job.usage.reported = {"tokens": 7.2}
    job.tasks = {"c": make_task("c", status=Running(1, 0, 200.0, reported={"usd": 1}))}
    job.phase = "failed"
    assert budget_lines(job, 900.0) == (
        ["7.2 of 9 tokens (80 %)"],
        ["0 of 4 usd (0 %)", "60 of 100 runner_seconds (60 %)"],
    )


def test_how_to_give_a_job_more() -> None:
    """The amount that is used up, else the first of its budget, and the verb that takes it."""
    job = make_job("j", "00000001", {"budget": {"tokens": 9, "eur": 4}}, phase="running")
    assert raise_hint(job) == "`air-executor resume j --budget tokens=AMOUNT`"
    job.over_budget, job.phase = "eur", "failed"
    assert raise_hint(job) == "`air-executor retry j --budget eur=AMOUNT`"
    assert raise_hint(make_job("j", "00000001")) == "`air-executor resume j --budget usd=AMOUNT`"


@pytest.mark.parametrize("where", ["before the journal", "after the journal"])
def test_a_crash_counts_it_once(world: World, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """The manager is killed around the commit: the sums are the same."""
    world.submit("j", "a", "b")
    world.cycle()
    report(world, "j/a", used(usd=1))
    look(world)
    world.delay_checkpoints(monkeypatch)
    report(world, "j/a", used(usd=2))
    world.exit("j/a")
    if where == "before the journal":
        monkeypatch.setattr(ActQueue, "write_journal", lambda _: False)
    world.cycle()
    monkeypatch.undo()
    world.restart()
    world.cycle(2)
    assert world.job("j").usage.reported == {"usd": 3}
    assert world.task("j", "a").attempts[0].reported == {"usd": 3}


def test_names_are_bounded(world: World) -> None:
    """A task cannot fill the state, nor the metrics, with names."""
    world.submit("j", "a")
    world.do("j/a", queue=[used(**{f"n{line}-{n}": 1 for n in range(20)}) for line in range(50)])
    assert len(world.job("j").usage.reported) == MAX_NAMES
    values = world.manager.state.counters.counts().values
    assert len([one for one in values if one[0] == "reported_usage_total"]) <= 21


def test_a_budget_pauses(world: World) -> None:
    """What runs ends, nothing starts; `explain` says why, and how to go on; then it does."""
    world.submit("j", "a", "b", "c", max_runners=2, budget={"usd": 5})
    world.cycle()
    report(world, "j/a", used(usd=3))
    report(world, "j/b", used(usd=2))
    look(world)
    assert world.job("j").phase == "paused"
    assert "it has used 5 of 5 usd (100 %) of its budget" in explained(world)
    assert "`air-executor resume j --budget usd=AMOUNT`" in explained(world)
    assert set(world.running()) == {"j/a", "j/b"}
    world.exit("j/a")
    world.exit("j/b")
    look(world)
    assert world.phases("j") == {"a": "succeeded", "b": "succeeded", "c": "queued"}
    assert not world.running()
    refusal = world.asked("resume", "j")
    assert refusal is not None
    assert "raise it: `air-executor resume j --budget usd=AMOUNT`" in refusal
    assert world.asked("resume", "j", budget={"usd": 5}) is not None
    assert world.asked("resume", "j", budget={"usd": 10}) is None
    assert world.job("j").spec.budget == {"usd": 10}
    world.restart()
    world.do("j/c")
    assert world.job("j").phase == "succeeded"


def test_the_budget_of_a_running_job_is_raised(world: World) -> None:
    """Before it is used up, so that the job need not be paused; a plain `resume` has nothing to do."""
    world.submit("j", "a", "b", budget={"usd": 5})
    world.until(lambda: "j/a" in world.running())
    assert world.asked("resume", "j") is None
    assert world.asked("resume", "j", budget={"usd": 50}) is None
    assert world.job("j").spec.budget == {"usd": 50}
    world.do("j/a", "j/b", queue=[used(usd=6)])
    assert world.job("j").phase == "succeeded"


def test_a_commit_pauses_before_the_next_start(world: World) -> None:
    """A run that reports at its end is followed by no other, in the same cycle."""
    world.submit("j", "a", "b", budget={"usd": 5})
    world.do("j/a", queue=[used(usd=6)])
    assert world.job("j").phase == "paused"
    look(world)
    assert not world.running()


def test_the_last_run_ends_the_job(world: World) -> None:
    """Where nothing is left to start, a budget that is used up changes nothing."""
    world.submit("j", "a", budget={"usd": 5})
    world.do("j/a", queue=[used(usd=6)])
    assert world.job("j").phase == "succeeded"


def test_a_budget_stops(world: World) -> None:
    """`on_budget: stop` ends what runs, skips the rest, and fails the job with reason `budget`."""
    world.submit("j", "a", "b", budget={"usd": 5}, on_budget="stop")
    world.cycle()
    report(world, "j/a", used(usd=5.5))
    look(world)
    world.until(lambda: world.job("j").phase == "failed")
    assert world.job("j").reason == "budget"
    assert "it has used 5.5 of 5 usd (110 %) of its budget" in explained(world)
    job, context = world.job("j"), ExplainContext(world.clock.wall())
    cause = "its job was stopped: it has used 5.5 of 5 usd (110 %) of its budget"
    assert explain_task(job, job.tasks["a"], context).endswith(f": {cause}")
    assert explain_task(job, job.tasks["b"], context) == f"task b was skipped: {cause}"
    assert world.job("j").usage.reported == {"usd": 5.5}
    assert world.asked("retry", "j") is not None
    assert world.asked("add", "j", tasks=[{"command": "x"}]) is not None
    assert world.asked("retry", "j", budget={"usd": 20}) is None
    world.do("j/a", "j/b")
    assert world.job("j").phase == "succeeded"


def test_runner_seconds_are_a_budget(world: World) -> None:
    """They need no report, and count while a run is open."""
    world.submit("j", "a", "b", budget={"runner_seconds": 100})
    world.cycle()
    world.clock.pass_time(85)
    world.cycle()
    assert world.job("j").phase == "running"
    assert "it has used 85 of 100 runner_seconds" in explained(world).replace("85.", "85 ").replace("  ", " ")
    world.clock.pass_time(20)
    world.cycle()
    assert world.job("j").phase == "paused"


def test_runner_seconds_act_on_time(quick_path: Path) -> None:
    """Not at the next poll, which may be far: the manager knows when open runs will have used them up."""
    with rig.world(quick_path, poll_interval=100.0) as world:
        world.submit("j", "a", "b", max_runners=2, budget={"runner_seconds": 20})
        world.cycle()
        keeper, now = world.manager.budget_keeper, world.clock.wall()
        assert keeper.next_time(now) == pytest.approx(now + 10, abs=0.1)
        world.do("j/a")
        assert keeper.next_time(now) == pytest.approx(now + 20, abs=0.1)
        world.clock.pass_time(19.8)
        world.cycle()
        assert world.job("j").phase == "running"
        world.clock.pass_time(0.3)
        world.cycle()
        assert world.job("j").phase == "paused"
        assert keeper.next_time(world.clock.wall()) is None


def test_it_is_warned_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """At 80 %, once."""
    world.submit("j", "a", budget={"usd": 5, "tokens": 100})
    world.cycle()
    report(world, "j/a", used(usd=3.9))
    look(world)
    assert "of its budget" not in caplog.text
    assert reported_so_far(world.job("j")) == {"usd": 3.9}
    report(world, "j/a", used(usd=0.2))
    look(world)
    look(world)
    assert caplog.text.count("job=j has used 4.1 of 5 usd (82 %) of its budget") == 1
    assert "it has used 4.1 of 5 usd (82 %) of its budget" in explained(world)


def test_a_crash_keeps_the_pause(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decision is in the journal: a manager that is killed before the checkpoint has paused the job for good."""
    world.submit("j", "a", "b", budget={"usd": 5})
    world.cycle()
    world.delay_checkpoints(monkeypatch)
    report(world, "j/a", used(usd=6))
    look(world)
    assert world.job("j").phase == "paused"
    monkeypatch.undo()
    world.restart()
    assert (world.job("j").phase, world.job("j").over_budget) == ("paused", "usd")


@pytest.mark.parametrize(
    "budget", [{"usd": 0}, {"usd": -1}, {"usd": float("nan")}, {"usd": 1e13}, {"us d": 1}, {"usd": "5"}, [5], 5]
)
def test_a_budget_that_is_refused(budget: object) -> None:
    """It has names and amounts above 0."""
    with pytest.raises((InvalidError, BadInputError)):
        parse(JobSpec, {"budget": budget})

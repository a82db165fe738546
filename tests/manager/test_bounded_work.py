"""What a run queues or a request adds costs a bounded share of each cycle, and never more than can be read back."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest

from air_executor.core import job_checks
from air_executor.errors import BadInputError
from air_executor.manager import commit, loop, request_handler
from air_executor.model import checks, parsing
from air_executor.store import inbox, jobs, journal
from tests.manager.rig import World
from tests.manager.test_interleavings import reason


@pytest.fixture
def in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each cycle do one piece of what runs queued."""
    monkeypatch.setattr(commit, "SLICE", -1)
    monkeypatch.setattr(commit, "LINES", 1)
    monkeypatch.setattr(loop, "CLEAN_UP_SLICE", -1)


def child(name: str, **fields: object) -> dict[str, object]:
    """Return the line that submits a job."""
    return {"job": {"id": name, "tasks": [{"command": "x"}], **fields}}


@pytest.mark.usefixtures("in_slices")
def test_others_go_on_while_a_run_queues(world: World) -> None:
    """A run queues tasks and jobs that take many cycles: another job's run meanwhile; nothing is half done."""
    world.submit("many", "a")
    world.submit("other", *[f"x{number}" for number in range(5)])
    world.until(lambda: {"many/a", "other/x0"} <= set(world.running()))
    world.exit("many/a", queue=[*({"command": "y"} for _ in range(10)), *(child(f"c{number}") for number in range(10))])
    world.cycle()
    assert world.manager.supervisor.busy
    for number in range(5):
        world.do(f"other/x{number}")
        assert world.job("many").tasks.keys() == {"a"}, "what is queued is committed as a whole"
    assert world.job("other").phase == "succeeded"
    world.until(lambda: len(world.job("many").tasks) == 11)
    assert {f"c{number}" for number in range(10)} <= set(world.jobs.ids())
    world.until(lambda: not world.manager.supervisor.busy)
    assert all(world.job(f"c{number}").phase != "pending" for number in range(10))


@pytest.mark.usefixtures("in_slices")
def test_a_crash_between_the_pieces(world: World) -> None:
    """The manager is killed while it creates a run's jobs: the next one creates the rest, each of them once."""
    world.submit("many", "a")
    world.until(lambda: "many/a" in world.running())
    world.exit("many/a", queue=[child(f"c{number}") for number in range(6)])
    world.until(lambda: "c2" in world.jobs.ids())
    assert "c5" not in world.jobs.ids()
    world.restart()
    world.until(lambda: world.job("many").phase == "succeeded")
    world.until(lambda: len(world.running()) == 4)
    assert set(world.jobs.ids()) == {"many", *(f"c{number}" for number in range(6))}


@pytest.mark.usefixtures("in_slices")
def test_jobs_of_a_rejected_run_go_piece_by_piece(world: World) -> None:
    """The last of a run's jobs has a taken id: all of them go, and a repeated run may use their ids."""
    world.submit("taken", "x")
    world.submit("many", "a")
    world.until(lambda: "many/a" in world.running())
    world.exit("many/a", queue=[*(child(f"c{number}") for number in range(4)), child("taken")])
    world.until(lambda: world.job("many").ended)
    assert reason(world, "many", "a") == "rejected"
    assert world.asked("retry", "many") is None
    world.until(lambda: "many/a" in world.running())
    world.exit("many/a", queue=[child(f"c{number}") for number in range(4)])
    world.until(lambda: world.job("many").phase == "succeeded")
    assert {f"c{number}" for number in range(4)} <= set(world.jobs.ids())


def test_defaults_count_in_each_task(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short lines in a job with large defaults: refused before anything is committed, with the reason."""
    monkeypatch.setattr(commit, "MAX_COST", 100_000)
    world.submit("j", "a", on_failure="continue", defaults={"env": {"BIG": "x" * 10_000}})
    world.until(lambda: "j/a" in world.running())
    world.exit("j/a", queue=[{"command": "y"}] * 20)
    world.until(lambda: world.job("j").ended)
    assert reason(world, "j", "a") == "budget"
    assert "with the defaults of the job in each task" in (world.task("j", "a").message or "")
    assert len(world.job("j").tasks) == 1


def test_a_job_grows_no_further_than_it_can_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run queues little, all of them too much: the one that would make the state too large is refused."""
    monkeypatch.setattr(commit, "MAX_GROWN", 60_000)
    world.submit("j", "a", "b", max_runners=1, on_failure="continue")
    for name in ("a", "b"):
        world.until(lambda name=name: f"j/{name}" in world.running())  # type: ignore[misc]
        world.exit(
            f"j/{name}", queue=[{"command": "y" * 15_000, "delay": 1000}, {"command": "z" * 15_000, "delay": 1000}]
        )
        world.cycle(2)
    assert reason(world, "j", "b") == "budget"
    assert "more than" in (world.task("j", "b").message or "")
    assert len(world.job("j").tasks) == 4
    refused = world.asked("add", "j", tasks=[{"command": "y" * 50_000}])
    assert refused is not None
    assert os.path.getsize(world.layout.state("j")) < 60_000


def test_a_long_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not even parsed."""
    monkeypatch.setattr(commit, "MAX_LINE", 1000)
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    world.exit("j/a", queue=["[" * 1001])
    world.until(lambda: world.job("j").ended)
    assert reason(world, "j", "a") == "rejected"
    assert "queue.jsonl line 1: has 1002 bytes, more than 1000" in (world.task("j", "a").message or "")


def test_requests_are_taken_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many requests each cycle takes a few and answers a few, in order; in between, tasks start and end."""
    monkeypatch.setattr(request_handler, "SLICE", -1)
    world.submit("other", "x")
    world.submit("j", "a", max_tasks=100)
    names = [world.ask("add", "j", tasks=[{"id": f"n{number}", "command": "y"}]) for number in range(5)]
    world.until(lambda: "other/x" in world.running(), limit=10)
    world.exit("other/x")
    world.until(lambda: world.job("other").phase == "succeeded", limit=3)
    assert world.manager.request_handler.busy
    world.until(lambda: not any(world.inbox.waiting(name) for name in names))
    assert list(world.job("j").tasks) == ["a", *(f"n{number}" for number in range(5))]
    world.cycle()
    assert not world.manager.request_handler.busy


def test_added_tasks_are_counted_before_they_are_checked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request with more tasks than the job may have is refused without a look at each."""
    world.submit("j", "a", max_tasks=10)
    world.cycle()
    refused = world.asked("add", "j", tasks=[{"no such field": 1}] * 10)
    assert refused == "job j has 1 tasks, and max_tasks = 10"


def test_a_request_too_large_to_be_read_is_not_posted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client learns it at once: the limit is the same on both sides."""
    monkeypatch.setattr(inbox, "MAX_REQUEST", 1000)
    with pytest.raises(BadInputError, match="more than the 1000 of a request"):
        world.ask("add", "j", tasks=[{"command": "x" * 1000}])


def test_a_job_too_large_to_be_read_is_not_created(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a client nor by a run."""
    monkeypatch.setattr(jobs, "MAX_GROWN", 3000)
    with pytest.raises(BadInputError, match="comes to 0 MB"):
        world.submit("j", {"command": "x" * 3000})
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    world.exit("j/a", queue=[child("ok"), {"job": {"id": "big", "tasks": [{"command": "x" * 3000}]}}])
    world.until(lambda: world.job("j").ended)
    assert reason(world, "j", "a") == "rejected"
    world.cycle()
    assert world.jobs.ids() == ["j"]


def test_defaults_of_a_job_file_count_in_each_task(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is checked before they are merged."""
    monkeypatch.setattr(parsing, "MOST_MERGED", 10_000)
    with pytest.raises(BadInputError, match="defaults: come to 0 MB in 20 tasks"):
        world.submit("j", *[f"a{number}" for number in range(20)], defaults={"env": {"BIG": "x" * 1000}})


def test_names_in_after_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than can be searched for cycles in reasonable time are refused, in a file and from a run."""
    monkeypatch.setattr(job_checks, "MOST_NEEDS", 10)
    names = [f"a{number}" for number in range(6)]
    tasks = [*names, *({"id": f"b{number}", "after": names} for number in range(2))]
    with pytest.raises(BadInputError, match="name 12 tasks in after, more than 10"):
        world.submit("j", *tasks)
    world.submit("j", *names, max_runners=6)
    world.until(lambda: "j/a0" in world.running())
    world.exit("j/a0", queue=[{"command": "x", "after": names}] * 2)
    world.until(lambda: world.task("j", "a0").phase == "failed")
    assert reason(world, "j", "a0") == "rejected"


def test_decisions_that_are_written_together_are_split(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flush goes into as many files as it takes, each of which stands alone, and all of it is read back."""
    monkeypatch.setattr(journal, "SPLIT_AT", 2000)
    for number in range(4):
        world.submit(f"j{number}", "a", "b")
    world.until(lambda: len(world.running()) == 4)
    world.delay_checkpoints(monkeypatch)
    for number in range(4):
        world.exit(f"j{number}/a", queue=[{"command": "x" * 500}] * 3)
    world.cycle()
    versions = {number: world.job(f"j{number}").version for number in range(4)}
    assert len(os.listdir(world.layout.journal)) > 2
    assert max(os.path.getsize(path) for path in Path(world.layout.journal).iterdir()) < 6000
    world.restart()
    assert {number: world.job(f"j{number}").version for number in range(4)} == versions


def test_a_decision_too_large_for_the_journal_costs_one_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step lets one through; if a bug did, it would be found before it is written."""
    world.submit("bad", "a")
    world.submit("good", "x")
    world.until(lambda: {"bad/a", "good/x"} <= set(world.running()))
    monkeypatch.setattr(journal, "MAX_LINE", 2000)
    world.exit("bad/a", queue=[{"command": "x" * 3000}])
    world.exit("good/x")
    world.until(lambda: world.job("good").ended)
    assert world.is_set_aside("bad")


def test_a_key_that_appears_twice_among_many(world: World) -> None:
    """The search for it takes one pass."""
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    names = ",".join(f'"A{number}":1' for number in range(60_000))
    world.exit("j/a", queue=[f'{{"command":"x","env":{{{names},"A59999":2}}}}'])
    world.until(lambda: world.job("j").ended)
    assert 'the key "A59999" appears twice' in (world.task("j", "a").message or "")


def test_large_inputs_are_written_once(world: World) -> None:
    """Runs that start between two results share one file; it goes when the run has ended, and with the job."""
    world.submit(
        "j", *[f"a{number}" for number in range(6)], {"id": "b", "after": ["a5"]}, {"id": "c", "after": ["a5"]}
    )
    for number in range(6):
        world.do(f"j/a{number}", result="x" * 16_000)
    world.cycle()
    first = Path(world.launch("j/b").out_dir, "inputs.json")
    assert {name: len(text) for name, text in json.loads(first.read_bytes()).items()} == {
        f"a{number}": 16_000 for number in range(6)
    }
    assert first.stat().st_mode & 0o222 == 0, "no run can change what another one reads"
    inode = first.stat().st_ino
    world.do("j/b")
    assert not first.exists()
    world.until(lambda: "j/c" in world.running())
    second = Path(world.launch("j/c").out_dir, "inputs.json")
    assert second.stat().st_ino == inode, "no result was added"
    world.do("j/c")
    gc.collect()
    assert not [name for name in os.listdir(world.manager.state.staging) if name.startswith("inputs-")]


def test_large_inputs_on_a_volume_without_links(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run gets a copy."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    world.submit("j", *[f"a{number}" for number in range(6)], "b")
    for number in range(6):
        world.do(f"j/a{number}", result="x" * 16_000)
    world.until(lambda: "j/b" in world.running())
    assert len(json.loads(Path(world.launch("j/b").out_dir, "inputs.json").read_bytes())) == 6


def test_defaults_are_checked_and_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks without an environment of their own share that of their job; one with its own has both."""
    names = {f"A{number}": "x" for number in range(1000)}
    defaults = {"command": ["x"], "env": names, "labels": {"team": "a"}, "secrets": ["TOKEN"], "retries": 2}
    checked: list[object] = []
    whole = checks._text

    def counted(value: object, *args: Any, **named: Any) -> str:  # noqa: ANN401 - passed on
        checked.append(value)
        return whole(value, *args, **named)

    monkeypatch.setattr(checks, "_text", counted)
    first, second = (parsing.read_task({"id": name}, defaults) for name in ("a", "b"))
    assert len(checked) == 2, "the place of the command alone"
    assert first.env is second.env
    assert parsing.dump(first) == {"id": "a", **defaults}
    own = parsing.read_task({"command": "y", "env": {"A0": "own"}, "labels": {}}, defaults)
    assert (own.command, own.env["A0"], own.env["A1"]) == ("y", "own", "x")
    assert own.labels == {"team": "a"}

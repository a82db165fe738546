"""What a run queues or a request adds costs a bounded share of each cycle, and never more than can be read back."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest

from air_executor.core import job_checks
from air_executor.core.new_task import new_task
from air_executor.errors import BadInputError
from air_executor.manager import addition, commit, pending_jobs, queued_work, request_handler
from air_executor.model import parsing
from air_executor.model.defaults import Defaults
from air_executor.model.job import TaskDefaults
from air_executor.model.written import text_of
from air_executor.store import files, inbox, jobs, journal
from tests.manager.rig import World
from tests.manager.test_interleavings import reason
from tests.records import make_job


@pytest.fixture
def in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each cycle do one piece of what runs queued."""
    monkeypatch.setattr(commit, "SLICE", -1)
    monkeypatch.setattr(queued_work, "LINES", 1)
    monkeypatch.setattr(request_handler, "SLICE", -1)
    for module in (addition, parsing, job_checks):
        monkeypatch.setattr(module, "STEP", 2)
    monkeypatch.setattr(pending_jobs, "REMOVAL_SLICE", -1)


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
def test_others_go_on_while_blank_lines_are_read(world: World) -> None:
    """Lines that say nothing take time, too: 64 MiB of them took seconds."""
    world.submit("many", "a")
    world.submit("other", *[f"x{number}" for number in range(5)])
    world.until(lambda: {"many/a", "other/x0"} <= set(world.running()))
    world.exit("many/a", queue=[""] * 20)
    world.cycle()
    for number in range(5):
        assert world.manager.supervisor.busy
        world.do(f"other/x{number}")
    world.until(lambda: world.job("many").ended)
    assert world.job("many").phase == "succeeded"


def test_others_go_on_while_many_results_are_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be large, and only the last one counts."""
    monkeypatch.setattr(commit, "SLICE", -1)
    monkeypatch.setattr(queued_work, "LONG", 16 * 1024)
    world.submit("many", "a")
    world.until(lambda: "many/a" in world.running())
    world.exit("many/a", queue=[{"result": "x" * 10_000}] * 20)
    for _ in range(5):
        world.cycle()
        assert world.manager.supervisor.busy
    world.until(lambda: world.job("many").phase == "succeeded")


@pytest.mark.usefixtures("in_slices")
def test_others_go_on_while_a_job_of_many_tasks_is_read(world: World) -> None:
    """One line submits a job of many tasks, which takes many cycles: another job's runs start and end meanwhile."""
    world.submit("many", "a")
    world.submit("other", *[f"x{number}" for number in range(5)])
    world.until(lambda: {"many/a", "other/x0"} <= set(world.running()))
    world.exit("many/a", queue=[{"job": {"id": "large", "tasks": [{"command": "x"}] * 40}}])
    world.cycle()
    for number in range(5):
        assert world.manager.supervisor.busy
        world.do(f"other/x{number}")
    assert world.job("other").phase == "succeeded"
    world.until(lambda: "large" in world.jobs.ids())
    assert len(world.job("large").tasks) == 40


@pytest.mark.usefixtures("in_slices")
def test_others_go_on_while_tasks_are_added(world: World) -> None:
    """A request adds many tasks: others' requests and runs go first, its own job's requests keep their order."""
    world.submit("many", "a", max_runners=1)
    world.submit("other", *[f"x{number}" for number in range(5)])
    world.until(lambda: {"many/a", "other/x0"} <= set(world.running()))
    add = world.ask("add", "many", tasks=[{"command": "y"}] * 40)
    world.cycle()
    world.clock.pass_time(0.01)  # requests are named by their time
    cancel = world.ask("cancel", "many")
    for number in range(5):
        world.do(f"other/x{number}")
    assert world.asked("add", "other", tasks=[{"command": "z"}]) is None
    assert world.manager.request_handler.busy
    assert world.job("other").tasks.keys() == {*(f"x{number}" for number in range(5)), "_6"}
    assert {add, cancel} <= set(world.inbox.pending())
    assert world.job("many").tasks.keys() == {"a"}, "what is added is decided as a whole"
    world.until(lambda: not world.inbox.waiting(cancel))
    assert len(world.job("many").tasks) == 41
    assert world.phases("many")["_41"] == "cancelled"


@pytest.mark.usefixtures("in_slices")
def test_additions_that_come_to_nothing(world: World) -> None:
    """A wrong task late in a request, a request that is taken back, and a job that is submitted again meanwhile."""
    world.submit("many", "a")
    wrong = world.ask("add", "many", tasks=[*[{"command": "y"}] * 20, {"command": ""}])
    world.until(lambda: not world.inbox.waiting(wrong))
    assert "command" in str(world.inbox.refusal(wrong))
    back = world.ask("add", "many", tasks=[{"command": "y"}] * 20)
    world.cycle(3)
    world.inbox.done(back)
    world.cycle(3)
    assert not world.manager.request_handler.busy
    assert world.asked("add", "many", tasks=[{"command": "z"}]) is None
    assert world.job("many").tasks.keys() == {"a", "_2"}


def test_tasks_are_counted_before_they_are_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a job may have cost no more than their count, in a file, from a run and in a request."""
    world.submit("j", "a", max_tasks=3)
    world.until(lambda: "j/a" in world.running())
    monkeypatch.setattr(addition, "task_from_request", None)
    assert "max_tasks = 3" in (world.asked("add", "j", tasks=[{"command": "y"}] * 50) or "")
    monkeypatch.setattr(parsing, "read_task", None)
    with pytest.raises(BadInputError, match="tasks: are 50, more than max_tasks = 4"):
        world.submit("k", *[f"a{number}" for number in range(50)], max_tasks=4)
    world.exit("j/a", queue=[{"job": {"id": "k", "max_tasks": 4, "tasks": [{"command": "x"}] * 50}}])
    world.until(lambda: world.job("j").ended)
    assert "more than max_tasks = 4" in (world.task("j", "a").message or "")


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


def test_defaults_are_stored_once(world: World) -> None:
    """Thousands of queued tasks in a job with large defaults: the state and the journal have these once."""
    world.submit("j", "a", "b", on_failure="continue", defaults={"env": {"BIG": "x" * 100_000}, "retries": 2})
    world.until(lambda: "j/a" in world.running())
    world.exit("j/a", queue=[{"command": "y"}] * 2000)
    world.until(lambda: len(world.job("j").tasks) == 2002)
    world.until(lambda: "j/b" in world.running())
    written = os.path.getsize(world.layout.state("j")) + sum(
        os.path.getsize(f"{world.layout.journal}/{name}") for name in os.listdir(world.layout.journal)
    )
    assert written < 1_000_000
    world.restart()
    job = world.job("j")
    task = list(job.tasks.values())[-1]
    assert (task.retries, len(job.env_of(task)["BIG"])) == (2, 100_000)


def test_a_job_grows_no_further_than_it_can_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run queues little, all of them too much: the one that would make the state too large is refused."""
    for module in (commit, addition):
        monkeypatch.setattr(module, "MAX_GROWN", 60_000)
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
    monkeypatch.setattr(queued_work, "MAX_LINE", 1000)
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


def test_defaults_of_a_job_file_are_stored_once(world: World) -> None:
    """As many tasks as a job may have do not multiply them."""
    world.submit("j", *[f"a{number}" for number in range(2000)], defaults={"env": {"BIG": "x" * 100_000}})
    assert os.path.getsize(world.layout.state("j")) < 500_000


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
    assert world.is_quarantined("bad")


def test_a_key_that_appears_twice_among_many(world: World) -> None:
    """The search for it takes one pass."""
    world.submit("j", "a")
    world.until(lambda: "j/a" in world.running())
    names = ",".join(f'"A{number}":1' for number in range(60_000))
    world.exit("j/a", queue=[f'{{"command":"x","env":{{{names},"A59999":2}}}}'])
    world.until(lambda: world.job("j").ended)
    assert 'the key "A59999" appears twice' in (world.task("j", "a").message or "")


def test_inputs_are_written_once(world: World) -> None:
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


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all writes of files with inputs."""
    sizes: list[int] = []
    whole = files.write_all

    def counted(fd: int, data: bytes) -> None:
        if "/inputs" in os.readlink(f"/proc/self/fd/{fd}"):
            sizes.append(len(data))
        whole(fd, data)

    monkeypatch.setattr(files, "write_all", counted)
    return sizes


def inputs_of(world: World, run: str) -> dict[str, Any]:
    """Return what a run reads."""
    found: dict[str, Any] = json.loads(Path(world.launch(run).out_dir, "inputs.json").read_bytes())
    return found


def test_a_long_sequence_writes_each_large_result_once(world: World, written: list[int]) -> None:
    """What runs before have read is appended to, so that n tasks do not write n copies of all results."""
    count, size = 60, 16_000
    world.submit("j", *[f"a{number}" for number in range(count)])
    for number in range(count):
        world.until(lambda number=number: f"j/a{number}" in world.running())  # type: ignore[misc]
        assert inputs_of(world, f"j/a{number}") == {f"a{n}": f"{n}".zfill(size) for n in range(number)}
        world.do(f"j/a{number}", result=f"{number}".zfill(size))
    assert sum(written) < 1.3 * count * size
    assert world.job("j").phase == "succeeded"
    gc.collect()
    assert not [name for name in os.listdir(world.manager.state.staging) if name.startswith("inputs-")]


def test_runs_at_a_time_have_files_that_do_not_change(world: World, written: list[int]) -> None:
    """A long run beside a sequence reads to its end what it was given; the others append to another file."""
    count, size = 60, 16_000
    first = [f"a{number}" for number in range(6)]
    world.submit("j", *first, "long", *[f"b{number}" for number in range(count)], max_runners=2)
    for name in first:
        world.do(f"j/{name}", result="x" * size)
    world.until(lambda: "j/long" in world.running())
    path = Path(world.launch("j/long").out_dir, "inputs.json")
    before = path.read_bytes()
    for number in range(count):
        world.until(lambda number=number: f"j/b{number}" in world.running())  # type: ignore[misc]
        assert len(inputs_of(world, f"j/b{number}")) >= number
        world.do(f"j/b{number}", result="y" * size)
    assert path.read_bytes() == before
    assert sum(written) < 3 * (count + len(first)) * size


def test_a_shared_file_that_a_task_changed_is_not_gone_on_with(world: World) -> None:
    """Whatever a run did to the file that it read, the next one reads results."""
    world.submit("j", *[f"a{number}" for number in range(8)])
    for number in range(7):
        world.do(f"j/a{number}", result="x" * 16_000)
        world.until(lambda number=number: f"j/a{number + 1}" in world.running())  # type: ignore[misc]
        path = Path(world.launch(f"j/a{number + 1}").out_dir, "inputs.json")
        assert len(json.loads(path.read_bytes())) == number + 1
        path.chmod(0o644)
        path.write_bytes(b"")


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

    def counted(value: object) -> str | None:
        checked.append(value)
        return text_of(value)

    shared = Defaults(parsing.read(TaskDefaults, defaults))
    monkeypatch.setattr("air_executor.model.checks.text_of", counted)
    first, second = (parsing.read_task({"id": name}, shared) for name in ("a", "b"))
    assert not checked, "they were, once"
    assert first.secrets is second.secrets is shared.record.secrets
    assert parsing.dump(first) == {"id": "a", "command": ["x"], "secrets": ["TOKEN"], "retries": 2}
    own = parsing.read_task({"command": "y", "env": {"A0": "own"}, "labels": {}}, shared)
    assert (own.command, own.env) == ("y", {"A0": "own"})
    job = make_job("j", "0badcafe", {"defaults": defaults})
    job.tasks = {"own": new_task(own, queued_by=None, at=0.0), "first": new_task(first, queued_by=None, at=0.0)}
    assert (job.env_of(job.tasks["own"])["A0"], job.env_of(job.tasks["own"])["A1"]) == ("own", "x")
    assert job.env_of(job.tasks["first"]) is job.spec.defaults.env
    assert job.labels_of(job.tasks["own"]) == {"team": "a"}

"""A task reports how far it is: the newest report is shown while it runs, and costs no line of the journal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from air_executor.core.explanation import ExplainContext, explain_task
from air_executor.core.run_reports import LONGEST_LINE, RunReports
from air_executor.core.short_reason import ShortReasons
from air_executor.manager import report_reader
from air_executor.model.reports import ProgressReport, progress_bar
from air_executor.store.run_dirs import RunDirs
from air_executor.web.views import outcome_of
from tests.manager.rig import World

if TYPE_CHECKING:
    from collections.abc import Iterator


def report(world: World, name: str, *lines: Any, end: str = "\n") -> Path:  # noqa: ANN401 - JSON
    """Append lines to the queue file of a running task. A text is a raw line."""
    path = Path(world.launch(name).out_dir, "queue.jsonl")
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(texts) + end)
    return path


def look(world: World) -> None:
    """Let the next poll come."""
    world.clock.pass_time(1.1)
    world.cycle()


def shown(world: World, task: str = "a") -> ProgressReport | None:
    """Return the progress of a running task of job j, as the volume has it."""
    look(world)  # the checkpoint comes after a moment
    run = world.jobs.load("j").tasks[task].run
    assert run is not None
    return run.progress


def test_the_newest_report_is_shown(world: World) -> None:
    """In `status`, `explain` and on the page; what the task queues is not touched by it."""
    world.submit("j", "a")
    world.cycle()
    report(world, "j/a", {"progress": {"done": 1, "of": 10}}, {"id": "b", "command": "x"})
    look(world)
    report(world, "j/a", {"progress": {"done": 3, "of": 10, "note": "Lyon"}})
    look(world)
    assert shown(world) == ProgressReport(3, 10, "Lyon")
    state = world.job("j")
    context = ExplainContext(now=world.clock.wall())
    assert "███░░░░░░░ 3/10 Lyon" in ShortReasons(state, context).of_task(state.tasks["a"])
    assert "progress 3/10 Lyon" in explain_task(state, state.tasks["a"], context)
    assert outcome_of(state.tasks["a"], ShortReasons(state, context)) == "3/10 Lyon"
    assert world.manager.open_runs.snapshot().progress == {"default": pytest.approx(0.3)}
    world.do("j/a", "j/b")
    assert world.job("j").phase == "succeeded"
    assert world.manager.open_runs.snapshot().progress == {}


def test_it_costs_no_line_of_the_journal(world: World) -> None:
    """However often a task reports: version and journal stay as they are."""
    world.submit("j", "a")
    world.cycle()
    look(world)
    version, size = world.job("j").version, os.path.getsize(world.manager.state.journal.path)
    for number in range(20):
        report(world, "j/a", *({"progress": {"done": number + n / 100}} for n in range(100)))
        look(world)
    assert world.job("j").version == version
    assert os.path.getsize(world.manager.state.journal.path) == size
    assert shown(world) == ProgressReport(19.99)


def test_a_new_manager_shows_it_again(world: World) -> None:
    """Also after a crash: the file is the truth."""
    world.submit("j", "a")
    world.cycle()
    report(world, "j/a", {"progress": {"done": 3, "of": 10}})
    look(world)
    world.restart()
    look(world)
    assert shown(world) == ProgressReport(3, 10)


def test_only_what_is_new_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file costs its bytes once, and no poll more than a piece of each file."""
    pieces: list[int] = []
    read = RunDirs.appended

    def counted(self: RunDirs, *args: Any) -> bytes | None:  # noqa: ANN401 - passed on
        data = read(self, *args)
        pieces.append(len(data or b""))
        return data

    monkeypatch.setattr(RunDirs, "appended", counted)
    world.submit("j", "a")
    world.cycle()
    line = json.dumps({"id": "x", "command": "y" * 1000})
    path = report(world, "j/a", *[line] * 200, {"progress": {"done": 1}})
    for _ in range(10):
        look(world)
    assert sum(pieces) == path.stat().st_size
    assert max(pieces) == report_reader.PIECE
    assert shown(world) == ProgressReport(1)


def test_all_runs_have_their_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a poll has time for one file only, the others come first next time."""
    monkeypatch.setattr(report_reader, "SLICE", 0.0)
    world.submit("j", "a", "b", "c", max_runners=3)
    world.cycle()
    for task in "abc":
        report(world, f"j/{task}", {"progress": {"done": 1}})
    for _ in range(3):
        look(world)
    assert [shown(world, task) for task in "abc"] == [ProgressReport(1)] * 3


@pytest.mark.parametrize(
    "line",
    [
        '{"progress": 3}',
        '{"progress": {"done": -1}}',
        '{"progress": {"done": 1e400}}',
        '{"progress": {"done": NaN}}',
        '{"progress": {"done": true}}',
        '{"progress": {"done": "3"}}',
        '{"progress": {"done": 3, "more": 1}}',
        '{"progress": {"done": 3}, "command": "x"}',
        '{"progress": {"of": 3}}',
        '{"progress": ' + "[" * 5000,
        '{"usage": {"usd": -1}}',
        '{"usage": {"usd": 1e400}}',
        '{"usage": {"usd": true}}',
        '{"usage": {"us d": 1}}',
        '{"usage": {"": 1}}',
        '{"usage": []}',
        '{"usage": ' + json.dumps({f"n{n}": 1 for n in range(21)}) + "}",
    ],
)
def test_a_wrong_report_shows_nothing(world: World, line: str) -> None:
    """It fails a run that succeeds otherwise, as any wrong line does, and says which; others are read on."""
    world.submit("j", "a")
    world.cycle()
    report(world, "j/a", line, {"progress": {"done": 2}})
    look(world)
    assert shown(world) == ProgressReport(2)
    world.exit("j/a")
    world.cycle(2)
    task = world.task("j", "a")
    assert (task.phase, task.reason) == ("failed", "rejected")
    assert "queue.jsonl line 1" in (task.message or "")


def test_a_hostile_file_costs_nothing(world: World, tmp_path: Path) -> None:
    """A link, a fifo, a folder in its place are no reports; others go on."""
    secret = tmp_path / "secret"
    secret.write_text('{"progress": {"done": 9}}\n')
    world.submit("j", "a", "b", "c", "d", max_runners=4)
    world.cycle()
    paths = {task: Path(world.launch(f"j/{task}").out_dir, "queue.jsonl") for task in "abcd"}
    for path in paths.values():
        path.unlink(missing_ok=True)
    paths["a"].symlink_to(secret)
    os.mkfifo(paths["b"])
    paths["c"].mkdir()
    report(world, "j/d", {"progress": {"done": 1}})
    look(world)
    assert [shown(world, task) for task in "abcd"] == [None, None, None, ProgressReport(1)]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Cut data."""
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_lines_arrive_in_pieces(size: int) -> None:
    """However a file is cut by the polls, each line counts once; one too long for a report is none."""
    long = json.dumps({"progress": {"done": 5, "note": "x" * LONGEST_LINE}})
    data = (
        f'{{"usage":{{"usd":1}}}}\n{long}\n{{"usage":{{"usd":2,"tokens":7}}}}\n\n{{"progress":{{"done":3}}}}'.encode()
    )
    reports = RunReports()
    for piece in pieces(data, size):
        reports.take(piece)
    assert (reports.progress, reports.offset) == (None, len(data))
    reports.finish()
    assert reports.progress == ProgressReport(3)
    assert reports.reported == {"usd": 3, "tokens": 7}


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (ProgressReport(0, 10), "░░░░░░░░░░ 0/10"),
        (ProgressReport(20, 10), "██████████ 20/10"),
        (ProgressReport(1500.5), "1,500 done"),
        (ProgressReport(0, 0, "x"), "0 done x"),
    ],
)
def test_bars(progress: ProgressReport, text: str) -> None:
    """More than all is full; without a whole there is no bar."""
    assert progress_bar(progress) == text


def test_a_note_is_one_line_of_text(world: World) -> None:
    """Whatever a task writes: no control characters, and not endless."""
    world.submit("j", "a")
    world.cycle()
    report(world, "j/a", {"progress": {"done": 1, "note": "a\nb\x1b[31m" + "x" * 5000}})
    look(world)
    found = shown(world)
    assert found is not None
    assert found.note is not None
    assert found.note.startswith("a b?[31mxx")
    assert len(found.note) == 200

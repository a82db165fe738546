"""The journal: what is flushed is read back wherever the file is cut, and files go when nothing needs them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor.core.queue_lines import task_from_request
from air_executor.core.submission import initial_state, parse_job
from air_executor.core.transitions import LiveJob
from air_executor.errors import DirectoryLostError, StoreError
from air_executor.model import events as ev
from air_executor.model.defaults import Defaults
from air_executor.model.job import Task, TaskDefaults
from air_executor.model.records import CountersRecord
from air_executor.model.usage import Moments
from air_executor.store import codec, files, journal_files
from air_executor.store import journal as journal_module
from air_executor.store.journal import Journal
from air_executor.store.layout import Layout
from tests.records import make_job, make_task
from tests.store.conftest import state


@pytest.fixture
def journal(layout: Layout) -> Iterator[Journal]:
    """The journal of epoch 3."""
    made = Journal(layout, 3)
    yield made
    made.close()


def decide(journal: Journal, job: LiveJob, event: ev.Event) -> None:
    """Apply a decision to a job, and note its line."""
    before = (job.state.epoch, job.state.version)
    job.apply(event, journal.epoch)
    journal.append(job.state, event, before)


def run(journal: Journal, job: LiveJob, task: str) -> None:
    """Note the start and the end of one run."""
    seq = job.state.seq + 1
    decide(journal, job, ev.Started(1.0, task, seq, 0))
    decide(journal, job, ev.Ended(2.0, seq, "ok", Moments(1.0, 1.1, 1.9, 2.0)))


def names(layout: Layout) -> list[str]:
    """Return the journal files, in order."""
    return sorted(os.listdir(layout.journal))


def replayed(layout: Layout, job: LiveJob) -> bool | None:
    """Apply to a job what the journals hold of it."""
    return journal_files.replay_onto(job, journal_files.read(layout).jobs.get((job.state.id, job.state.uid), []), [])


def test_replay_ends_where_memory_was(layout: Layout, journal: Journal) -> None:
    """Checkpoint plus lines is the job as it was in memory."""
    job = LiveJob(state())
    run(journal, job, "x0")
    decide(journal, job, ev.Requested(3.0, "r1", "pause"))
    journal.flush()
    again = LiveJob(state())
    assert replayed(layout, again) is True
    assert codec.dump_job(again.state) == codec.dump_job(job.state)
    assert journal_files.read(layout).requests == {"r1"}


def test_tasks_are_written_without_the_defaults_of_their_job(layout: Layout, journal: Journal) -> None:
    """They have them again after a replay, but for those that a task set to something else."""
    defaults = {"command": "x", "env": {"BIG": "x" * 10_000}, "retries": 3, "timeout": 60, "delay": 5}
    job, again = (
        LiveJob(
            initial_state(parse_job({"id": "j", "defaults": defaults, "tasks": [{"id": "a"}]}), uid="0badcafe", now=1.0)
        )
        for _ in range(2)
    )
    lines = ["{}", '{"retries": 0, "timeout": null, "env": {"OWN": "1"}}', '{"not_before": "2026-01-31T12:00:00Z"}']
    added = [task_from_request(json.loads(line), Defaults(job.state.spec.defaults)) for line in lines]
    for number, task in enumerate(added):
        task.id = f"b{number}"
    decide(journal, job, ev.Started(1.0, "a", 1, 0))
    decide(journal, job, ev.Ended(2.0, 1, "ok", Moments(1.0, 1.1, 1.9, 2.0), queued=added[:2]))
    decide(journal, job, ev.Requested(3.0, "r1", "add", tasks=added[2:]))
    journal.flush()
    assert sum(os.path.getsize(f"{layout.journal}/{name}") for name in names(layout)) < 2000
    assert replayed(layout, again) is True
    assert codec.dump_job(again.state) == codec.dump_job(job.state)
    tasks = again.state.tasks
    assert [(task.command, task.retries, task.timeout, task.delay) for task in tasks.values()] == [
        ("x", 3, 60, 5),
        ("x", 3, 60, 5),
        ("x", 0, None, 5),
        ("x", 3, 60, None),
    ]
    assert again.state.env_of(tasks["b1"]) == {"BIG": "x" * 10_000, "OWN": "1"}
    assert again.state.env_of(tasks["b0"]) is again.state.spec.defaults.env


def test_lines_of_format_2_have_complete_tasks(layout: Layout, journal: Journal) -> None:
    """What a version before wrote into the journal is what its tasks are, whatever the job's defaults say."""
    spec = {"defaults": {"retries": 3, "env": {"A": "0"}}}
    job = LiveJob(make_job("j", "0badcafe", spec))
    job.state.tasks["a"] = make_task("a", queued_by=None)
    line = ev.journal_line(
        ev.Requested(3.0, "r1", "add", tasks=[Task(id="b", command="x", env={"A": "0", "B": "1"})]),
        job="j",
        uid="0badcafe",
        version=1,
        before=(0, 0),
    )
    Path(layout.journal_file(1, 0)).write_bytes(codec.seal(line, TaskDefaults()))
    assert replayed(layout, job) is True
    again = codec.load_job(codec.dump_job(job.state), "")
    assert again.tasks["b"].retries == 0
    assert again.env_of(again.tasks["b"]) == {"A": "0", "B": "1"}


def test_a_checkpoint_after_the_first_of_many_lines(layout: Layout, journal: Journal) -> None:
    """All that follow are applied."""
    job = LiveJob(state())
    decide(journal, job, ev.Started(1.0, "x0", 1, 0))
    first = codec.dump_job(job.state)
    decide(journal, job, ev.Ended(2.0, 1, "ok", Moments(1.0, 1.1, 1.9, 2.0)))
    run(journal, job, "x1")
    journal.flush()
    again = LiveJob(codec.load_job(first, ""))
    assert replayed(layout, again) is True
    assert codec.dump_job(again.state) == codec.dump_job(job.state)


def test_a_sync_is_one_of_the_file_being_written(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of no other descriptor."""
    synced: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append((os.fstat(fd).st_dev, os.fstat(fd).st_ino)))
    journal.sync()
    there = os.stat(journal.path)
    assert (there.st_dev, there.st_ino) in synced


def test_replay_goes_on_from_any_checkpoint(layout: Layout, journal: Journal) -> None:
    """A checkpoint from the middle of the journal takes only the lines beyond it; across epochs too."""
    job = LiveJob(state())
    checkpoints = [codec.dump_job(job.state)]
    decide(journal, job, ev.Started(1.0, "x0", 1, 0))
    checkpoints.append(codec.dump_job(job.state))
    journal.flush()
    newer = Journal(layout, 4)
    decide(newer, job, ev.Ended(2.0, 1, "ok", Moments(1.0, 1.1, 1.9, 2.0)))
    checkpoints.append(codec.dump_job(job.state))
    decide(newer, job, ev.Started(3.0, "x1", 2, 0))
    newer.flush()
    newer.close()
    lines = Path(newer.path).read_bytes().splitlines()
    assert [b'"before"' in line for line in lines] == [True, False], "the file before may be gone"
    for text in [*checkpoints, codec.dump_job(job.state)]:
        again = LiveJob(codec.load_job(text, ""))
        assert replayed(layout, again) is True
        assert codec.dump_job(again.state) == codec.dump_job(job.state)


def test_checkpoint_that_the_journals_do_not_know_wins(layout: Layout, journal: Journal) -> None:
    """A state that somebody checked out is left as it is."""
    job = LiveJob(state())
    job.state.epoch, job.state.version = 2, 9
    run(journal, job, "x0")
    journal.flush()
    older = LiveJob(state())
    older.state.epoch, older.state.version = 2, 5
    assert replayed(layout, older) is None
    assert (older.state.epoch, older.state.version) == (2, 5)


def test_every_cut_of_the_file_is_a_prefix_of_what_was_decided(layout: Layout, journal: Journal) -> None:
    """Wherever a crash cuts the file, replay ends at a version that was, and calls nothing damaged."""
    job = LiveJob(state())
    run(journal, job, "x0")
    run(journal, job, "x1")
    journal.flush()
    path = Path(layout.journal, "3-0.jsonl")
    whole = path.read_bytes()
    seen = set()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        again = LiveJob(state())
        replayed(layout, again)
        assert journal_files.read(layout).damaged == []
        seen.add(again.state.version)
    assert seen == {0, 1, 2, 3, 4}


def test_damaged_line_costs_only_the_job_with_the_gap(layout: Layout, journal: Journal) -> None:
    """A bad line before good ones: its job stops before the gap, others are whole, and the file is reported."""
    one, two = LiveJob(state("one", "00000001")), LiveJob(state("two", "00000002"))
    for job in (one, two, one, two):
        run(journal, job, f"x{job.state.seq}")
    journal.flush()
    path = Path(layout.journal, "3-0.jsonl")
    lines = path.read_bytes().split(b"\n")
    lines[4] = lines[4].replace(b'"start"', b'"sTart"')
    path.write_bytes(b"\n".join(lines))
    again, other = LiveJob(state("one", "00000001")), LiveJob(state("two", "00000002"))
    assert journal_files.read(layout).damaged == [str(path)]
    assert replayed(layout, again) is False
    assert replayed(layout, other) is True
    assert (again.state.version, other.state.version) == (2, 4)


def test_damage_before_counters_is_reported(layout: Layout, journal: Journal) -> None:
    """What managers have counted stands in lines of its own: the newest values count, and damage before them shows."""
    run(journal, LiveJob(state()), "x0")
    journal.note_counters(CountersRecord({"runs": 1.0}, {}))
    journal.note_counters(CountersRecord({"runs": 2.0, "ends": 1.0}, {"seconds": 0.5}))
    journal.flush()
    path = Path(layout.journal, "3-0.jsonl")
    whole = journal_files.read(layout)
    assert (whole.counters, whole.damaged) == (CountersRecord({"runs": 2.0, "ends": 1.0}, {"seconds": 0.5}), [])
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([b"garbage", *lines[2:]]))
    assert journal_files.read(layout).damaged == [str(path)]


def test_a_line_that_stands_twice_is_applied_once(layout: Layout, journal: Journal) -> None:
    """A network volume may append again what it has appended: what follows is no gap."""
    job = LiveJob(state())
    run(journal, job, "x0")
    journal.flush()
    path = Path(layout.journal, "3-0.jsonl")
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, first, second, b""]))
    again = LiveJob(state())
    assert replayed(layout, again) is True
    assert codec.dump_job(again.state) == codec.dump_job(job.state)


def test_a_file_begins_with_what_was_counted(layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before it may be gone when it is read."""
    monkeypatch.setattr(journal_module, "ROTATE_AT", 1)
    journal.note_counters(CountersRecord({"runs": 1.0}, {}))
    journal.flush()
    run(journal, LiveJob(state()), "x0")
    journal.note_counters(CountersRecord({"ends": 2.0}, {"runs": 1.5}))
    journal.flush()
    assert names(layout) == ["3-0.jsonl", "3-1.jsonl"]
    Path(layout.journal, "3-0.jsonl").unlink()
    counted = CountersRecord({"runs": 1.0, "ends": 2.0}, {"runs": 1.5})
    assert journal_files.read(layout).counters == counted


def test_a_sync_that_fails_names_the_file(layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what could not be done, and where."""

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(StoreError, match=f"cannot sync {layout.journal}/3-0.jsonl"):
        journal.sync()
    monkeypatch.undo()


def test_full_volume_cuts_the_file_back(layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed append leaves the file as it was; the lines are kept, and written by the next flush that works."""
    job = LiveJob(state())
    decide(journal, job, ev.Started(1.0, "x0", 1, 0))
    journal.flush()
    path = Path(layout.journal, "3-0.jsonl")
    before = path.read_bytes()

    def full(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    decide(journal, job, ev.Ended(2.0, 1, "ok", Moments(1.0, 1.1, 1.9, 2.0)))
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", full)
        for _ in range(2):
            with pytest.raises(StoreError, match="the volume is full"):
                journal.flush()
            assert path.read_bytes() == before
            assert journal.pending
    journal.flush()
    assert not journal.pending
    again = LiveJob(state())
    assert replayed(layout, again) is True
    assert again.state.version == 2


def test_cut_back_that_fails_is_made_up_for(layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where even the cut fails, the next flush cuts before it writes."""
    job = LiveJob(state())

    def torn(fd: int, data: bytes) -> None:
        os.write(fd, data[:20])
        raise OSError(5, "Input/output error")

    def broken(fd: int, length: int) -> None:
        raise OSError(5, "Input/output error")

    run(journal, job, "x0")
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", torn)
        patch.setattr(os, "ftruncate", broken)
        with pytest.raises(StoreError):
            journal.flush()
    assert os.path.getsize(f"{layout.journal}/3-0.jsonl") == 20
    journal.flush()
    again = LiveJob(state())
    assert replayed(layout, again) is True
    assert again.state.version == 2


def test_rotation(layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the stated size on the next file begins; files go when checkpoints hold their lines."""
    monkeypatch.setattr(journal_module, "ROTATE_AT", 150)
    one, two = LiveJob(state("one", "00000001", 9)), LiveJob(state("two", "00000002"))
    run(journal, two, "x0")
    decide(journal, one, ev.Requested(3.0, "r1", "pause"))
    journal.flush()
    for number in range(2):
        run(journal, one, f"x{number}")
        journal.flush()
    assert names(layout) == ["3-0.jsonl", "3-1.jsonl", "3-2.jsonl"]
    journal.checkpointed("one", one.state.version)
    assert names(layout) == ["3-0.jsonl", "3-2.jsonl"], (
        "the first has lines of the other job, the last is being written"
    )
    journal.checkpointed("two", two.state.version - 1)
    journal.answered(["r1"])
    assert names(layout) == ["3-0.jsonl", "3-2.jsonl"], "that checkpoint is older than its last line"
    journal.checkpointed("two", two.state.version)
    assert names(layout) == ["3-2.jsonl"]
    again = LiveJob(codec.load_job(codec.dump_job(one.state), ""))
    assert replayed(layout, again) is True


def test_file_with_an_unanswered_request_stays(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a request file that a line names may still be there, the line stays, so that it is not applied again."""
    monkeypatch.setattr(journal_module, "ROTATE_AT", 1)
    job = LiveJob(state())
    decide(journal, job, ev.Requested(3.0, "r1", "pause"))
    journal.flush()
    run(journal, job, "x0")
    journal.flush()
    journal.checkpointed("j", job.state.version)
    assert names(layout) == ["3-0.jsonl", "3-1.jsonl"]
    journal.answered(["r1"])
    assert names(layout) == ["3-1.jsonl"]


def test_clean_stop_leaves_no_journal(layout: Layout, journal: Journal) -> None:
    """After everything is checkpointed and answered, closing removes the file; otherwise it stays."""
    job = LiveJob(state())
    run(journal, job, "x0")
    journal.flush()
    journal.close()
    assert names(layout) == ["3-0.jsonl"]
    other = Journal(layout, 4)
    run(other, job, "x1")
    other.flush()
    other.checkpointed("j", job.state.version)
    other.close()
    assert names(layout) == ["3-0.jsonl"]


def test_epoch_is_taken_once(layout: Layout, journal: Journal) -> None:
    """Two managers cannot write the same journal."""
    with pytest.raises(FileExistsError):
        Journal(layout, 3)


@pytest.mark.parametrize("replaced", [True, False])
def test_removed_journal_is_noticed(layout: Layout, journal: Journal, *, replaced: bool) -> None:
    """Nothing is written to a journal that is not at its path any more."""
    path = Path(layout.journal, "3-0.jsonl")
    path.unlink()
    if replaced:
        path.touch()
    run(journal, LiveJob(state()), "x0")
    with pytest.raises(DirectoryLostError, match=f"^{path} is gone or was replaced$"):
        journal.flush()
    assert journal.pending


def test_other_names_are_no_journals(layout: Layout) -> None:
    """Copies of damaged files and other files are not read."""
    for name in ("3-0.jsonl.corrupt", "notes.txt", "x-1.jsonl", "3.jsonl"):
        Path(layout.journal, name).write_text("not ours")
    replay = journal_files.read(layout)
    assert (replay.files, replay.damaged, journal_files.highest_epoch(layout, 0)) == ({}, [], 0)

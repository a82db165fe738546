"""Files of journals: several appends to one of them, files that cannot be read, and a volume that refuses."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor.core.transitions import LiveJob
from air_executor.errors import StoreError
from air_executor.model import events as ev
from air_executor.model.notice import Notice
from air_executor.store import codec, files, journal_files
from air_executor.store import journal as journal_module
from air_executor.store.journal import Journal
from air_executor.store.layout import Layout
from tests.store.conftest import state


@pytest.fixture
def journal(layout: Layout) -> Iterator[Journal]:
    """The journal of epoch 3."""
    made = Journal(layout, 3)
    yield made
    made.close()


def note(journal: Journal, job: LiveJob, request: str = "") -> None:
    """Decide something about a job and append it."""
    before = (job.state.epoch, job.state.version)
    event = ev.Requested(3.0, request, "resume" if job.state.phase == "paused" else "pause")
    job.apply(event, journal.epoch)
    journal.append(job.state, event, before)
    journal.flush()


def broken(*_: object) -> None:
    """Stand in for a call of the kernel."""
    raise OSError(5, "Input/output error")


def test_what_is_appended_is_durable_soon(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has to ask for it, and a sync that fails is tried again; the log says so once."""
    real, synced, failures = os.fdatasync, threading.Event(), iter([True, True, True, False, True])

    def sync(fd: int) -> None:
        if next(failures, False):
            broken()
        real(fd)
        synced.set()

    monkeypatch.setattr(os, "fdatasync", sync)
    note(journal, LiveJob(state()))
    assert synced.wait(120)
    said = "the journal cannot be synced: [Errno 5] Input/output error"
    assert [record.getMessage() for record in caplog.records] == [said]
    synced.clear()
    note(journal, LiveJob(state()))
    assert synced.wait(120)
    assert [record.getMessage() for record in caplog.records] == [said, said], "once for each time that it begins"


def test_a_failed_append_costs_no_earlier_one(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is cut back to all that was appended before, not to the last of it."""
    job = LiveJob(state())
    note(journal, job)
    note(journal, job)
    whole = Path(journal.path).read_bytes()

    def torn(fd: int, data: bytes) -> None:
        os.write(fd, data[:10])
        broken()

    monkeypatch.setattr(files, "write_all", torn)
    with pytest.raises(StoreError, match=f"cannot write {journal.path}: "):
        note(journal, job)
    assert Path(journal.path).read_bytes() == whole


def test_a_file_stays_for_every_append_to_it(layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints and answers of what was appended last let go of nothing that was appended before."""
    one, two = LiveJob(state("one", "00000001")), LiveJob(state("two", "00000002"))
    note(journal, one, "r1")
    note(journal, two, "r2")
    first = Path(journal.path)
    monkeypatch.setattr(journal_module, "ROTATE_AT", 1)
    note(journal, two)
    journal.checkpointed("two", two.state.version)
    journal.answered(["r1", "r2"])
    assert first.exists(), "no checkpoint holds what it says of job one"
    journal.checkpointed("one", one.state.version)
    assert not first.exists()


def test_a_request_of_an_earlier_append_keeps_the_file(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file may still be there, and would be applied again."""
    job = LiveJob(state())
    note(journal, job, "r1")
    note(journal, job, "r2")
    first = Path(journal.path)
    monkeypatch.setattr(journal_module, "ROTATE_AT", 1)
    note(journal, job)
    journal.checkpointed("j", job.state.version)
    journal.answered(["r2"])
    assert first.exists()
    journal.answered(["r1"])
    assert not first.exists()


def test_files_are_readable_for_others(journal: Journal) -> None:
    """For whoever looks at a state directory that is not theirs; nobody else writes."""
    assert os.stat(journal.path).st_mode & 0o7777 == 0o644


def sync_before_the_next_file(journal: Journal, patch: pytest.MonkeyPatch) -> None:
    """Begin a file after one that cannot be synced."""
    job = LiveJob(state())
    note(journal, job)
    patch.setattr(journal_module, "ROTATE_AT", 1)
    patch.setattr(os, "fdatasync", broken)
    note(journal, job)


def cut_back(journal: Journal, patch: pytest.MonkeyPatch) -> None:
    """Fail to write and to undo that."""
    patch.setattr(files, "write_all", broken)
    patch.setattr(os, "ftruncate", broken)
    note(journal, LiveJob(state()))


def remove(journal: Journal, patch: pytest.MonkeyPatch) -> None:
    """Fail to remove what is superfluous."""
    patch.setattr(os, "unlink", broken)
    journal_files.drop([journal.path], Layout(Path(journal.path).parents[1]))


@pytest.mark.parametrize(
    ("verb", "fails"), [("sync", sync_before_the_next_file), ("cut back", cut_back), ("remove", remove)]
)
def test_what_fails_is_named(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, verb: str, fails: Callable[[Journal, pytest.MonkeyPatch], None]
) -> None:
    """The message says what could not be done to which file."""
    with monkeypatch.context() as patch, pytest.raises(StoreError, match=f"cannot {verb} {journal.path}: "):
        fails(journal, patch)


def test_a_file_that_cannot_be_created_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, before there is any journal."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", broken)
        with pytest.raises(StoreError, match=f"cannot create {layout.journal}/4-0.jsonl: "):
            Journal(layout, 4)


def test_what_cannot_be_read_hides_nothing_behind_it(layout: Layout, journal: Journal) -> None:
    """A folder in the place of a file is moved away, and later files are read; those of a later epoch are not ours."""
    os.mkdir(f"{layout.journal}/2-0.jsonl")
    os.symlink("/nowhere", f"{layout.journal}/2-1.jsonl")
    note(journal, LiveJob(state()))
    Path(layout.journal, "7-2.jsonl").touch()
    found = journal_files.read(layout, below=7)
    assert [message.partition(": ")[0] for message in found.unreadable] == [
        f"{layout.journal}/2-0.jsonl",
        f"{layout.journal}/2-1.jsonl",
    ]
    assert found.files == {journal.path: {"j"}}
    assert journal_files.highest_epoch(layout, 0) == 7


def test_files_that_are_gone_already_are_no_error(layout: Layout, journal: Journal) -> None:
    """Somebody has removed one: the others go, too."""
    other = Path(layout.journal, "1-0.jsonl")
    other.touch()
    with pytest.MonkeyPatch.context() as patch:
        listed = ["0-0.jsonl", *files.list_dir(layout.journal)]  # gone between the two looks
        patch.setattr(files, "list_dir", lambda _: listed)
        assert sorted(journal_files.read(layout).files) == [str(other), journal.path]
    journal_files.drop([f"{layout.journal}/0-0.jsonl", str(other)], layout)
    assert not other.exists()


def test_what_a_decision_queues_is_in_its_line(journal: Journal) -> None:
    """Notices that are to be sent because of it."""
    job = LiveJob(state())
    event = ev.Requested(3.0, "r1", "pause")
    job.apply(event, journal.epoch)
    notice = Notice(3.0, 1, "paused", "ops")
    size = journal.append(job.state, event, (0, 0), [notice])
    journal.flush()
    line = codec.unseal(Path(journal.path).read_bytes()[:-1])
    assert line is not None
    assert (list(line.notices), os.path.getsize(journal.path)) == ([notice], size)


def test_a_line_that_could_not_be_read_back_is_refused(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the job and both sizes; one that just fits is taken."""
    job = LiveJob(state())
    event = ev.Requested(3.0, "r1", "pause")
    job.apply(event, journal.epoch)
    other = Journal(layout, 4)
    size = other.append(job.state, event, (0, 0))
    other.close()
    monkeypatch.setattr(journal_module, "MAX_LINE", size - 1)
    said = f"^job j: a decision of {size} bytes, more than the {size - 1} of a journal line$"
    with pytest.raises(ValueError, match=said):
        journal.append(job.state, event, (0, 0))
    journal.flush()
    assert os.path.getsize(journal.path) == 0
    monkeypatch.setattr(journal_module, "MAX_LINE", size)
    assert journal.append(job.state, event, (0, 0)) == size


@pytest.mark.parametrize("limit", ["ROTATE_AT", "SPLIT_AT"])
@pytest.mark.parametrize(("more", "files_then"), [(0, 2), (1, 1)])
def test_a_full_file_takes_no_more(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, limit: str, more: int, files_then: int
) -> None:
    """One that is almost full does: of lines written one after another, and of those that are written together."""
    job = LiveJob(state())
    for number, op in enumerate(["pause", "resume"]):
        event, before = ev.Requested(3.0, f"r{number}", op), (job.state.epoch, job.state.version)
        job.apply(event, journal.epoch)
        size = journal.append(job.state, event, before)
        if number == 0:
            monkeypatch.setattr(journal_module, limit, size + more)
            if limit == "ROTATE_AT":
                journal.flush()
    journal.flush()
    found = journal_files.read(Layout(Path(journal.path).parents[1]))
    assert (len(found.files), found.requests) == (files_then, {"r0", "r1"})


def test_the_thread_that_syncs_ends_with_the_journal(layout: Layout) -> None:
    """And keeps no process alive that has not closed its journal."""
    before = set(threading.enumerate())
    made = Journal(layout, 4)
    (thread,) = set(threading.enumerate()) - before
    assert (thread.name, thread.daemon) == ("journal-sync", True)
    made.close()
    thread.join(60)
    assert not thread.is_alive()

"""`prune`: archives or deletes ended jobs, but none that is still needed or has a live runner."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

from air_executor.client import Client
from air_executor.core.submission import parse_job
from tests.cli.conftest import Outcome
from tests.cli.made_jobs import THEN, create, ended, write_log

Air = Callable[..., Outcome]


def test_ended_jobs_are_archived_and_their_ids_free(air: Air, client: Client) -> None:
    """The archive keeps everything, and `status` still finds the job by its id."""
    create(client, "old", ended("a"))
    assert air("prune", "--older-than", "1d").out == "old archived\n"
    assert list(client.all()) == []
    assert "succeeded" in air("status", "old").out
    assert air("submit", "old", "--", "true").code == 0


def test_only_what_is_old_enough(air: Air, client: Client) -> None:
    """No job younger than the age, and no unfinished job."""
    create(client, "old", ended("a"))
    air("submit", "new", "--", "true")
    assert "no job ended" in air("prune", "--older-than", "36500d").out
    assert air("prune", "--older-than", "0s").out == "old archived\n"
    assert client.status("new").phase == "queued"


def test_what_an_unfinished_job_waits_for_is_spared(air: Air, client: Client) -> None:
    """Its `after` needs the outcome of the other job."""
    create(client, "first", ended("a"))
    air("submit", "second", "--after", "first", "--", "true")
    assert air("prune", "--older-than", "0s").out == "first spared: job second waits for it\n"
    assert Path(client.layout.job("first")).is_dir()


def test_a_job_whose_slot_is_held_is_spared(air: Air, client: Client) -> None:
    """A process of the job is alive, whatever its state says."""
    create(client, "busy", ended("a"))
    with Path(client.layout.job("busy"), "runner.pid").open("a") as slot:
        fcntl.flock(slot, fcntl.LOCK_EX)
        done = air("prune", "--older-than", "0s")
    assert done.out.startswith("busy spared: ")
    assert Path(client.layout.job("busy")).is_dir()


def test_old_run_directories_of_living_jobs_are_removed(air: Air, client: Client) -> None:
    """The newest ones stay, and why a task has failed; `logs` says what has become of the others."""
    tasks = [ended(f"t{seq}", seq=seq, phase="failed" if seq == 2 else "succeeded") for seq in range(1, 7)]
    create(client, "living", *tasks, phase="running")
    for task in tasks:
        write_log(client, "living", task.id, task.attempts[0].seq, b"hello\n")
    folder = Path(client.layout.runs("living"))
    assert "living: 3 run directories would be removed\n" in air("prune", "--keep-runs", "2", "--dry-run").out
    assert len(list(folder.iterdir())) == 6
    assert air("prune", "--keep-runs", "2").out.startswith("living: 3 run directories removed\n")
    assert sorted(path.name for path in folder.iterdir()) == ["2-t2", "5-t5", "6-t6"]
    assert "living" not in air("prune", "--keep-runs", "2").out
    gone = air("logs", "living", "t1")
    assert gone.code == 0
    assert air("logs", "living", "t1", "--run", "1").code == 3
    assert "run 1, does not exist any more: retention has removed it" in gone.err
    assert air("logs", "living", "t5").out == "hello\n"


def test_run_directories_have_an_age(air: Air, client: Client) -> None:
    """Those that are younger stay, however many there are; without a limit all do."""
    tasks = [ended(f"t{seq}", seq=seq) for seq in range(1, 4)]
    create(client, "living", *tasks, phase="running")
    for task in tasks:
        write_log(client, "living", task.id, task.attempts[0].seq, b"hello\n")
        if task.id != "t2":
            os.utime(client.layout.run("living", task.attempts[0].seq, task.id), (THEN, THEN))
    assert "living" not in air("prune").out
    assert air("prune", "--keep-runs-for", "1d").out.startswith("living: 1 run directory removed\n")
    assert sorted(path.name for path in Path(client.layout.runs("living")).iterdir()) == ["2-t2", "3-t3"]


def test_a_folder_of_runs_that_is_a_link_is_not_followed(air: Air, client: Client, tmp_path: Path) -> None:
    """A task has put a link in its place: what lies behind it is nobody's run."""
    create(client, "odd", ended("a"), phase="running")
    mine = tmp_path / "mine"
    for name in ("1-a", "2-b", "3-c"):
        (mine / name).mkdir(parents=True)
    Path(client.layout.runs("odd")).symlink_to(mine)
    air("prune", "--keep-runs", "1")
    assert len(list(mine.iterdir())) == 3


def test_a_job_with_a_pending_request_is_spared(air: Air, client: Client) -> None:
    """A pending retry must find its job."""
    create(client, "asked", ended("a", phase="failed"), phase="failed")
    air("retry", "asked")
    assert "spared: a request for it waits" in air("prune", "--older-than", "0s").out


def test_a_dry_run_changes_nothing(air: Air, client: Client) -> None:
    """It prints the actions only."""
    create(client, "old", ended("a"))
    record = json.loads(air("prune", "--older-than", "0s", "--dry-run", "--json").out)
    jobs = [{"id": "old", "uid": "0badcafe", "action": "archived", "reason": None}]
    assert record == {"dry_run": True, "jobs": jobs, "runs_removed": {}}
    assert Path(client.layout.job("old")).is_dir()


def test_delete_removes_the_archive_too(air: Air, client: Client) -> None:
    """Archived jobs are deleted too; an unreadable one stays."""
    create(client, "archived", ended("a"))
    air("prune", "--older-than", "0s")
    create(client, "old", ended("a"))
    unreadable = Path(client.layout.archive, "broken-0badcafe")
    unreadable.mkdir()
    (unreadable / "state.json").write_text("{")
    assert sorted(air("prune", "--older-than", "0s", "--delete").out.splitlines()) == [
        "archived deleted",
        "old deleted",
    ]
    assert list(client.all()) == []
    assert [entry.name for entry in Path(client.layout.archive).iterdir()] == ["broken-0badcafe"]


def test_notes_are_deleted_with_their_job(air: Air, client: Client) -> None:
    """Notes about a job stay while the job exists, in the archive too. Then old notes are deleted."""
    Path(client.layout.notes).mkdir(parents=True)
    create(client, "task-1", ended("a"))
    create(client, "other", ended("a"))
    uid = client.status("task-1").uid
    notes = {name: Path(client.layout.note(*name)) for name in ((f"task-1-{uid}", "shown"), ("task", "generation"))}
    for note in notes.values():
        note.write_text("1")
    air("prune", "--older-than", "0s")
    assert all(note.exists() for note in notes.values())
    air("prune", "--older-than", "0s", "--delete", "--dry-run")
    assert all(note.exists() for note in notes.values())
    air("prune", "--older-than", "1d", "--delete")
    assert all(note.exists() for note in notes.values())
    live = client.submit(parse_job({"id": "task-2", "tasks": [{"command": "true"}]}, "job"))
    live_note = Path(client.layout.note(f"task-2-{live.uid}", "shown"))
    live_note.write_text("1")
    air("prune", "--older-than", "0s", "--delete")
    assert [name for name, note in notes.items() if note.exists()] == [("task", "generation")]
    assert live_note.exists()


def test_young_notes_stay(air: Air, client: Client) -> None:
    """The writer of a recent note may be about to submit the job."""
    Path(client.layout.notes).mkdir(parents=True)
    note = Path(client.layout.note("task", "generation"))
    note.write_text("2")
    air("prune", "--older-than", "1h", "--delete")
    assert note.exists()
    air("prune", "--older-than", "0s", "--delete")
    assert not note.exists()

"""Job directories: an id is taken once, whatever the volume says about it, and nothing that was there is lost."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from air_executor.errors import AlreadyExistsError, CorruptFileError, NotFoundError, StoreError
from air_executor.store import files, trees
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from tests.store.conftest import state


@pytest.fixture
def jobs(layout: Layout) -> Jobs:
    """The jobs of an empty state directory."""
    return Jobs(layout)


def test_id_is_taken_once(jobs: Jobs) -> None:
    """A second job of an id is refused; the first stays as it was, and nothing is left in staging."""
    jobs.create(state(uid="00000001"))
    with pytest.raises(AlreadyExistsError, match="j already exists"):
        jobs.create(state(uid="00000002"))
    assert jobs.load("j").uid == "00000001"
    assert os.listdir(jobs.layout.tmp) == []


def test_many_submitters_at_once(jobs: Jobs) -> None:
    """Of many submitters of one id exactly one succeeds."""
    won: list[str] = []

    def submit(uid: str) -> None:
        try:
            jobs.create(state(uid=uid))
        except AlreadyExistsError:
            return
        won.append(uid)

    threads = [threading.Thread(target=submit, args=(f"{number:08x}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [jobs.load("j").uid]


def test_rename_that_failed_but_happened(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network volume may report a rename as failed that happened: the uid tells that the job is ours."""
    whole = os.rename

    def rename(source: str, target: str) -> None:
        whole(source, target)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        jobs.create(state())
    assert jobs.load("j").uid == "00000001"


def test_rename_that_failed(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename that failed and did not happen means that nothing was submitted."""

    def rename(source: str, target: str) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises((StoreError, NotFoundError)):
            jobs.create(state())
    assert jobs.ids() == []
    assert os.listdir(jobs.layout.tmp) == []


def test_directory_without_a_state_is_not_taken_over(jobs: Jobs) -> None:
    """A directory that holds something but no state is nobody's to take."""
    os.makedirs(f"{jobs.layout.job('j')}/workspace")
    with pytest.raises(AlreadyExistsError, match=r"without a state\.json"):
        jobs.create(state())


def test_unreadable_state_keeps_its_id(jobs: Jobs) -> None:
    """An id whose state cannot be read is taken all the same."""
    os.makedirs(jobs.layout.job("j"))
    Path(jobs.layout.state("j")).write_bytes(b"garbage")
    with pytest.raises(AlreadyExistsError, match="unreadable"):
        jobs.create(state())
    assert Path(jobs.layout.state("j")).read_bytes() == b"garbage"


def test_state_of_another_job_is_refused(jobs: Jobs) -> None:
    """A state that lies in another job's directory is not believed."""
    jobs.create(state())
    os.makedirs(jobs.layout.job("k"))
    Path(jobs.layout.state("k")).write_bytes(Path(jobs.layout.state("j")).read_bytes())
    with pytest.raises(CorruptFileError, match="holds job 'j', not 'k'"):
        jobs.load("k")


def test_checkpoint_of_a_replaced_manager_fails(jobs: Jobs) -> None:
    """Where its place to build is gone, a manager cannot write a state any more."""
    jobs.create(state())
    files.make_dir(jobs.layout.epoch_tmp(1))
    job = jobs.load("j")
    jobs.checkpoint(job, jobs.layout.epoch_tmp(1))
    trees.remove_tree(jobs.layout.epoch_tmp(1))
    before = Path(jobs.layout.state("j")).read_bytes()
    job.version += 1
    with pytest.raises(NotFoundError):
        jobs.checkpoint(job, jobs.layout.epoch_tmp(1))
    assert Path(jobs.layout.state("j")).read_bytes() == before


def test_archive_frees_the_id(jobs: Jobs) -> None:
    """An archived job is found by id and uid, and its id is free again."""
    jobs.create(state(uid="00000001"))
    jobs.archive(jobs.load("j"))
    jobs.create(state(uid="00000002"))
    old = jobs.archived("j", "00000001")
    assert old is not None
    assert old.uid == "00000001"
    assert jobs.archived("j", "00000002") is None
    assert jobs.load("j").uid == "00000002"


def test_names_that_are_no_ids_are_passed_over(jobs: Jobs) -> None:
    """What cannot be a job id is not a job, whoever made it."""
    for name in ("-x", "x" * 65, ".hidden", "a b", "a.", "caf\u00e9"):
        os.makedirs(f"{jobs.layout.jobs}/{name}")
    jobs.create(state())
    assert jobs.ids() == ["j"]


def test_git_takes_the_states_alone(jobs: Jobs) -> None:
    """The state directory's own .gitignore is written once and left alone after that."""
    path = Path(jobs.layout.gitignore)
    assert "!jobs/*/state.json" in path.read_text()
    path.write_text("# mine\n")
    jobs.prepare()
    assert path.read_text() == "# mine\n"


def test_an_id_that_differs_only_in_case(layout: Layout) -> None:
    """A file system that takes both for one name keeps the first job, and the second is refused with the reason."""

    class Folding(Layout):
        def job(self, job: str) -> str:
            return super().job(job.lower())

        def state(self, job: str) -> str:
            return super().state(job.lower())

    jobs = Jobs(Folding(layout.root))
    jobs.create(state(name="nightly", uid="00000001"))
    with pytest.raises(AlreadyExistsError, match="job Nightly already exists as nightly, which is the same name"):
        jobs.create(state(name="Nightly", uid="00000002"))
    assert jobs.load("nightly").uid == "00000001"
    with pytest.raises(NotFoundError, match="there is a job nightly"):  # no damage, which would be quarantined
        jobs.load("Nightly")


def test_ids_that_differ_only_in_case_are_two_jobs(jobs: Jobs) -> None:
    """Where the file system tells them apart."""
    for name in ("nightly", "Nightly"):
        jobs.create(state(name=name))
    assert jobs.ids() == ["Nightly", "nightly"]

"""Job directories: an id is taken once, whatever the volume says about it, and nothing that was there is lost."""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from air_executor.errors import AlreadyExistsError, BadInputError, CorruptFileError, NotFoundError, StoreError
from air_executor.model.state import JobPhase, JobState
from air_executor.store import codec, files, trees
from air_executor.store import jobs as jobs_module
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


@pytest.mark.parametrize("empty", [False, True])
def test_rename_that_failed(jobs: Jobs, monkeypatch: pytest.MonkeyPatch, *, empty: bool) -> None:
    """A rename that failed and did not happen means that nothing was submitted; an empty folder there is no job."""

    def rename(source: str, target: str) -> None:
        raise OSError(5, "Input/output error")

    if empty:
        os.mkdir(jobs.layout.job("j"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(StoreError, match=rf"^cannot create {jobs.layout.state('j')}: Input/output error$"):
            jobs.create(state())
    assert jobs.ids() == ["j"] * empty
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


def test_why_an_id_is_taken(jobs: Jobs) -> None:
    """What became of the job that has it, and what to do; a job of the same uid is the one that was asked for."""
    job = state()
    jobs.create(job)
    ended = "already exists and has already ended"
    again = "run it again with --replace, or choose another id"
    said: dict[JobPhase, str] = {
        "running": "job j already exists (running); choose another id, or use `air-executor add`",
        "succeeded": f"job j {ended} (succeeded); {again}",
        "failed": f"job j {ended} (failed); continue it by `air-executor retry j`, {again}",
    }
    for phase, why in said.items():
        job.phase = phase
        jobs.recreate(job, jobs.layout.tmp)
        with pytest.raises(AlreadyExistsError, match=f"^{re.escape(why)}$"):
            jobs.create(state(uid="00000002"))
        with pytest.raises(AlreadyExistsError, match=f"^{re.escape(why)}$") as caught:
            jobs.ensure_free("j")
        assert str(caught.value.__cause__) == "[Errno 17] File exists"
        jobs.ensure_free("j", job.uid)
    jobs.ensure_free("other")


def test_an_id_that_a_dead_link_has_is_not_free(jobs: Jobs) -> None:
    """There is no job at all, and none can be put there."""
    os.symlink("/nowhere", jobs.layout.job("j"))
    with pytest.raises(StoreError, match=rf"^cannot create {jobs.layout.state('j')}: File exists$"):
        jobs.ensure_free("j")


def test_a_link_to_a_folder_is_not_taken_over(jobs: Jobs, tmp_path: Path) -> None:
    """Whatever is in there; it is no other job of the same name either."""
    (tmp_path / "other" / "workspace").mkdir(parents=True)
    os.symlink(tmp_path / "other", jobs.layout.job("j"))
    said = f"job j already exists at {jobs.layout.job('j')}, without a state.json; choose another id"
    with pytest.raises(AlreadyExistsError, match=f"^{re.escape(said)}$"):
        jobs.ensure_free("j")


def test_a_job_that_is_too_large_is_refused(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its size in megabytes, and with what to do; one that just fits is not."""
    job = state()
    job.extra["later"] = ""
    job.extra["later"] = "x" * (3_500_001 - len(codec.dump_job(job)))
    monkeypatch.setattr(jobs_module, "MAX_GROWN", 2_500_001)
    with pytest.raises(BadInputError, match=r"^job j comes to 4 MB, more than 3 MB; split it$"):
        jobs.create(job)
    assert jobs.ids() == []
    monkeypatch.setattr(jobs_module, "MAX_GROWN", 3_500_001)
    jobs.create(job)
    assert jobs.size("j") == 3_500_001
    assert jobs.size("nobody") == 0


@pytest.fixture(params=["ours", "somebody's"])
def owner(request: pytest.FixtureRequest, jobs: Jobs) -> int:
    """The owner of the state directory."""
    if request.param == "somebody's":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(jobs.layout.jobs, 4321, 4321)
    return os.stat(jobs.layout.jobs).st_uid


def test_what_a_job_brings_along(jobs: Jobs, owner: int) -> None:
    """Is in its workspace, which is its owner's alone; of root, who runs tasks as others do, it is the folder alone."""
    jobs.create(state(), {"a": b"1", "b": b"2"})
    workspace = Path(jobs.layout.workspace("j"))
    assert {path.name: path.read_bytes() for path in workspace.iterdir()} == {"a": b"1", "b": b"2"}
    assert workspace.stat().st_mode & 0o777 == 0o700
    modes = {path.stat().st_mode & 0o777 for path in workspace.iterdir()}
    assert modes == ({0o600} if owner else {0o644})
    everything = [workspace, *workspace.iterdir(), Path(jobs.layout.state("j")), Path(jobs.layout.job("j"))]
    assert {path.stat().st_uid for path in everything} == {owner}


def test_a_workspace_that_cannot_be_written_is_named(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is submitted."""
    whole = os.mkdir

    def mkdir(path: str, *more: int) -> None:
        if path.endswith("/workspace"):
            raise OSError(28, "No space left on device")
        whole(path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", mkdir)
        with pytest.raises(StoreError, match=r"^cannot write .*/workspace: the volume is full"):
            jobs.create(state(), {"a": b"1"})
    assert (jobs.ids(), os.listdir(jobs.layout.tmp)) == ([], [])


def test_what_was_submitted_survives_a_power_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that was written, and every folder in which a name is new, is synced."""
    synced: set[tuple[int, int]] = set()
    whole = os.fsync

    def fsync(fd: int) -> None:
        there = os.fstat(fd)
        synced.add((there.st_dev, there.st_ino))
        whole(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    layout = Layout(tmp_path / "state")
    jobs = Jobs(layout)
    jobs.prepare()
    jobs.create(state(), {"a": b"1"})
    workspace = layout.workspace("j")
    ours = [layout.root, layout.gitignore, layout.jobs, layout.job("j"), layout.state("j"), workspace, f"{workspace}/a"]
    missing = [path for path in ours if (os.stat(path).st_dev, os.stat(path).st_ino) not in synced]
    assert missing == []


def test_a_job_that_does_not_exist(jobs: Jobs) -> None:
    """Is named by the path at which its state would be; there may be one again, and none once more."""
    for read in (jobs.load, jobs.summary):
        with pytest.raises(NotFoundError, match=rf"^{jobs.layout.state('j')}: not found$"):
            read("j")
    jobs.remove("j")
    jobs.recreate(state(), jobs.layout.tmp)
    assert jobs.load("j").uid == "00000001"
    jobs.remove("j")
    assert (jobs.ids(), os.listdir(jobs.layout.tmp)) == ([], [])


def test_a_summary_of_a_state_that_no_manager_has_written(jobs: Jobs) -> None:
    """Is made from the whole of it; one that cannot be read is named by its path."""
    jobs.create(state())
    jobs.create(state(name="k"))
    path = Path(jobs.layout.state("j"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "load", None)  # too slow for a list of jobs
        quick = jobs.summary("j")
    path.write_text(json.dumps(json.loads(path.read_bytes())))
    assert (jobs.summary("j"), jobs.summary("k").id) == (quick, "k")
    path.write_bytes(b"garbage")
    with pytest.raises(CorruptFileError, match=rf"^{path}: not a readable state file"):
        jobs.summary("j")


def test_a_folder_without_a_state_is_moved_aside(jobs: Jobs) -> None:
    """With all that is in it, into the archive, under a name that no job has and any file system takes."""
    os.makedirs(jobs.layout.workspace("j"))
    target = Path(jobs.quarantine("j"))
    assert re.fullmatch(r"\.set-aside-j-\d{4}-\d\d-\d\dT\d{6}\.\d{3}Z", target.name)
    assert (str(target.parent), os.listdir(target), jobs.ids()) == (jobs.layout.archive, ["workspace"], [])


def archive(jobs: Jobs, *made: JobState) -> None:
    """Submit jobs and archive them."""
    for job in made:
        jobs.create(job)
        jobs.archive(job)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("j",), "00000003"),
        (("j", "00000003"), "00000003"),
        (("j", "00000001"), "00000001"),
        (("j", "00000009"), None),
        (("old-1",), "00000005"),
        (("old-1", "00000004"), "00000004"),
        (("old-1", "00000009"), None),
        (("nobody",), None),
    ],
)
def test_a_job_is_found_wherever_it_is(jobs: Jobs, asked: tuple[str, ...], found: str | None) -> None:
    """By its uid, if that is given; otherwise the one that has the id now, else the newest that had it."""
    ages = {"00000004": 2.0, "00000005": 9.0, "00000006": 5.0}
    old = [replace(state("old-1", uid), submitted_at=at) for uid, at in ages.items()]
    archive(jobs, state(uid="00000001"), state("k", "00000002"), *old)
    jobs.create(state(uid="00000003"))
    here = jobs.find(*asked)
    assert (None if here is None else here.uid) == found


def test_what_is_no_archived_job_hides_none(jobs: Jobs) -> None:
    """A state that cannot be read, one that is gone, and another job's are passed over."""
    archive(jobs, *(state(uid=f"0000000{number}") for number in (1, 2, 3, 4)), state("k", "00000009"))
    folder = Path(jobs.layout.archive)
    (folder / "j-00000001" / "state.json").write_bytes(b"garbage")
    (folder / "j-00000002" / "state.json").unlink()
    (folder / "j-00000004" / "state.json").write_bytes((folder / "k-00000009" / "state.json").read_bytes())
    found = jobs.archived("j")
    assert found is not None
    assert found.uid == "00000003"
    problem = "not a readable state file (is not JSON: line 1, column 1: Expecting value)"
    assert [one if isinstance(one, tuple) else one.uid for one in jobs.all_archived()] == [
        ("j-00000001", f"{folder}/j-00000001/state.json: {problem}"),
        "00000003",
        "00000009",
        "00000009",
    ]


def test_archived_jobs_since_a_time(jobs: Jobs) -> None:
    """Are those whose states were written at that moment or later, whatever their names."""
    archive(jobs, *(state(uid=f"0000000{number}") for number in (1, 2, 3)))
    for number, at in ((1, 7.0), (2, 5.0), (3, 6.0)):
        os.utime(f"{jobs.layout.archive}/j-0000000{number}/state.json", (at, at))
    found = {since: [job.uid for job in jobs.all_archived(since) if not isinstance(job, tuple)] for since in (0, 6, 8)}
    assert found == {0: ["00000001", "00000002", "00000003"], 6: ["00000001", "00000003"], 8: []}


def test_an_archive_that_cannot_be_listed(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is one problem, under a name that no job has."""

    def scandir(path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", scandir)
    assert list(jobs.all_archived()) == [("archive/", f"cannot list {jobs.layout.archive}: Input/output error")]

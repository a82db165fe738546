"""Check an older state out, start, and it goes on from exactly there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.conftest import wait_for
from tests.crash import processes
from tests.gitflow.conftest import Repository
from tests.managers.rig import PATIENCE, gated


def test_git_add_takes_the_states_alone(project: Repository) -> None:
    """After runs with output, results and workspaces, `git add` of the whole directory adds nothing but states."""
    project.open("a")
    with project.managed():
        project.submit({"id": "job", "tasks": [gated("a"), {"command": "echo 1 > $AIR_WORKSPACE/x; echo out"}]})
        project.await_phases("job", job="succeeded")
        project.commit()
    project.commit()
    assert project.git("ls-files").split() == [".air-executor/.gitignore", ".air-executor/jobs/job/state.json"]


def test_one_task_is_one_line_of_the_difference(project: Repository) -> None:
    """What a task did between two commits is one changed line, beside the job's own."""
    project.open("a")
    with project.managed():
        project.submit({"id": "job", "tasks": [gated("a"), gated("b"), gated("c")]})
        project.await_phases("job", a="succeeded", b="running")
        project.ask("pause", "job")
    project.commit()
    project.open("b")
    with project.managed():
        project.await_phases("job", b="succeeded")
    project.commit()
    changed = project.git("diff", "--unified=0", "HEAD~1").splitlines()
    tasks = [json.loads(line[1:].strip().rstrip(","))["id"] for line in changed if line.startswith('+    {"id"')]
    assert tasks == ["b"]


def paused_after_a(project: Repository) -> str:
    """Bring a job of `a` and `b` to where `a` has succeeded and `b` is queued, and commit that."""
    with project.managed():
        project.submit({"id": "job", "tasks": [gated("a"), gated("b")]})
        wait_for(lambda: project.runs("a"), PATIENCE, "a to begin")
        project.ask("pause", "job")
        project.open("a")
        project.await_phases("job", job="paused", a="succeeded", b="queued")
    return project.commit()


def test_resumes_from_exactly_the_old_state_and_again(project: Repository) -> None:
    """Rewound twice: what had succeeded then stays, what came later runs again under numbers never used before."""
    then = paused_after_a(project)
    project.open("b")
    for again in range(3):
        if again:
            project.rewind(then)
        with project.managed():
            assert project.phases("job") == {"": "paused", "a": "succeeded", "b": "queued"}
            project.ask("resume", "job")
            project.await_phases("job", job="succeeded")
    assert project.run_dirs("job") == ["1-a", "4-b"]
    assert project.superseded("job") == ["2-b", "3-b"]
    assert len(project.runs("a")) == 1
    assert len(set(project.runs("b"))) == len(project.runs("b")) == 3


def test_a_run_that_ended_since_is_booked_from_the_old_state(project: Repository) -> None:
    """The old state has a running task: its outcome on the volume stands, and what came after it is done again."""
    project.open("a")
    with project.managed():
        project.submit({"id": "job", "tasks": [gated("a"), gated("b"), gated("c")]})
        project.await_phases("job", b="running")
        wait_for(lambda: len(project.runs("b")) == 1, PATIENCE)
        then = project.commit()
        project.open("b", "c")
        project.await_phases("job", job="succeeded")
    project.rewind(then)
    assert project.phases("job")["b"] == "running"
    with project.managed():
        project.await_phases("job", job="succeeded")
    assert [len(project.runs(task)) for task in "abc"] == [1, 1, 2]
    assert project.run_dirs("job") == ["1-a", "2-b", "4-c"]
    assert project.superseded("job") == ["3-c"]


def test_the_runner_of_the_newer_state_is_removed(project: Repository) -> None:
    """A task that lives when the state is rewound to before its start is stopped; the next run of it is alone."""
    then = paused_after_a(project)
    with project.managed():
        project.ask("resume", "job")
        wait_for(lambda: project.runs("b"), PATIENCE, "b to begin")
    assert processes.below(project.state_dir)
    project.rewind(then)
    with project.managed():
        wait_for(lambda: not processes.below(project.state_dir), PATIENCE, "the newer runner to go")
        project.open("b")
        project.ask("resume", "job")
        project.await_phases("job", job="succeeded")
    assert project.run_dirs("job") == ["1-a", "3-b"]
    assert project.superseded("job") == ["2-b"]


def test_without_from_files_the_journal_of_a_crash_stands(project: Repository) -> None:
    """A checkout between a crash and the restart of a state that the journal knows is brought up to date again."""
    project.open("a")
    manager = project.start()
    project.submit({"id": "job", "tasks": [gated("a"), gated("b"), gated("c")]})
    project.await_phases("job", b="running")
    then = project.commit()
    project.open("b")
    wait_for(lambda: project.runs("c"), PATIENCE, "c to begin")
    project.crash(manager)
    project.rewind(then)
    with project.managed():
        project.await_phases("job", b="succeeded", c="running")
        project.open("c")
        project.await_phases("job", job="succeeded")
    assert [len(project.runs(task)) for task in "abc"] == [1, 1, 1]


def test_rewind_after_a_crash_with_from_files(project: Repository) -> None:
    """With the journal of the crash still there, `--from-files` resumes from the state that was checked out."""
    project.open("a")
    manager = project.start()
    project.submit({"id": "job", "tasks": [gated("a"), gated("b"), gated("c")]})
    project.await_phases("job", b="running")
    then = project.commit()
    project.open("b")
    project.await_phases("job", c="running")
    wait_for(lambda: len(project.runs("c")) == 1, PATIENCE)
    project.crash(manager)
    assert list(Path(project.client.layout.journal).iterdir())
    project.rewind(then)
    project.open("c")
    with project.managed("--from-files"):
        project.await_phases("job", job="succeeded")
    assert len(project.runs("b")) == 1
    assert len(project.runs("c")) == 2
    assert project.superseded("job") == ["3-c"]


def test_a_checkout_from_before_the_job(project: Repository) -> None:
    """The job's directory, now without a state, is quarantined, its runner removed, and the id is free again."""
    with project.managed():
        pass
    before = project.commit()
    with project.managed():
        project.submit({"id": "job", "tasks": [gated("a")]})
        wait_for(lambda: project.runs("a"), PATIENCE)
    project.commit()
    assert processes.below(project.state_dir)
    project.rewind(before)
    with project.managed():
        wait_for(lambda: not processes.below(project.state_dir), PATIENCE, "its runner to go")
        wait_for(lambda: not Path(project.client.layout.job("job")).exists(), PATIENCE, "its directory to go")
        kept = list(Path(project.client.layout.archive).glob(".set-aside-job-*"))
        assert [path.name for path in kept[0].iterdir() if path.name == "runs"] == ["runs"]
        project.open("a")
        project.submit({"id": "job", "tasks": [gated("a")]})
        project.await_phases("job", job="succeeded")
    assert len(project.runs("a")) == 2


def test_an_ended_job_that_was_rewound_and_reopened(project: Repository) -> None:
    """A task added under an id that a later life of the job used does not get that life's outcome."""
    project.open("a", "b")
    with project.managed():
        project.submit({"id": "job", "tasks": [gated("a")]})
        project.await_phases("job", job="succeeded")
    then = project.commit()
    with project.managed():
        project.ask("add", "job", [gated("b")])
        project.await_phases("job", b="succeeded", job="succeeded")
    project.rewind(then)
    with project.managed():
        project.ask("add", "job", [gated("b")])
        project.await_phases("job", b="succeeded", job="succeeded")
    assert len(project.runs("b")) == 2
    assert len(set(project.runs("b"))) == 2
    assert project.superseded("job") == ["2-b"]


def test_a_fresh_clone_resumes(project: Repository, new_project: Callable[[str], Repository]) -> None:
    """In a clone there are states and nothing else: what ran there is queued again at no charge."""
    project.open("a")
    with project.managed():
        project.submit({"id": "job", "tasks": [gated("a"), gated("b"), gated("c")]})
        project.await_phases("job", b="running")
    project.commit()
    project.git("clone", "--quiet", ".", str(project.root.parent / "clone"))
    clone = new_project("clone")
    assert clone.phases("job") == {"": "running", "a": "succeeded", "b": "running", "c": "queued"}
    clone.open("b", "c")
    with clone.managed():
        clone.await_phases("job", job="succeeded")
    task = clone.client.jobs.load("job").tasks["b"]
    assert (task.runs, task.charged, task.faults) == (1, 0, 0)
    assert [len(clone.runs(name)) for name in "abc"] == [0, 1, 1]

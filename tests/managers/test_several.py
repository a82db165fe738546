"""Several managers in one state directory: one works, the others leave with 5 and say who it is."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from air_executor.errors import ManagerHeldError
from air_executor.store.run_dirs import RunDirs
from tests.conftest import wait_for
from tests.forked import Program
from tests.managers.rig import PATIENCE, Project, gated

HELD = ManagerHeldError.exit_code
TASKS = 100


def losers(managers: list[Program]) -> list[Program]:
    """Return those that have left."""
    return [manager for manager in managers if manager.poll() is not None]


@pytest.mark.parametrize("number", [2, 3])
def test_started_at_once_one_works_and_the_others_leave(project: Project, number: int) -> None:
    """A hundred tasks start exactly a hundred times, whoever wins."""
    command = "set -C; true > $AIR_WORKSPACE/began.$AIR_TASK_ID.$AIR_RUN_ID || touch twice"
    project.submit(
        {"id": "job", "max_runners": 4, "tasks": [{"id": f"n{n}", "command": command} for n in range(TASKS)]}
    )
    managers = [project.start("--no-events") for _ in range(number)]
    wait_for(lambda: len(losers(managers)) == number - 1, PATIENCE, "all but one to leave")
    assert [manager.returncode for manager in losers(managers)] == [HELD] * (number - 1)
    (winner,) = [manager for manager in managers if manager.poll() is None]
    project.await_phases("job", job="succeeded")
    assert project.record()["pid"] == winner.pid
    assert f"pid {winner.pid} on " in project.log() or "another process" in project.log()
    assert project.stop(winner) == 0
    began = [path.name for path in Path(project.client.layout.workspace("job")).iterdir()]
    assert len(began) == TASKS
    assert len({name.split(".")[1] for name in began}) == TASKS
    assert not (project.root / "twice").exists()
    assert project.client.jobs.load("job").usage.runs == TASKS


def test_the_next_one_takes_over_and_adopts(project: Project) -> None:
    """Killed and replaced in the middle of a task: the runner lives on, and its end is committed by the second."""
    first = project.start()
    project.submit({"id": "job", "tasks": [gated("a"), gated("b")]})
    wait_for(lambda: project.runs("a"), PATIENCE, "a to begin")
    project.crash(first)
    project.open("a", "b")
    with project.managed():
        project.await_phases("job", job="succeeded")
    assert [len(project.runs(task)) for task in "ab"] == [1, 1]
    assert [task.runs for task in project.client.jobs.load("job").tasks.values()] == [1, 1]


def test_an_end_while_no_manager_lives_keeps_its_exit_code(project: Project) -> None:
    """Killed in the middle of a task, which then fails: the next manager commits that exit code, nothing else runs."""
    first = project.start()
    task = gated("a")
    project.submit({"id": "job", "tasks": [{**task, "command": f"{task['command']}; exit 3"}, gated("b")]})
    wait_for(lambda: project.runs("a"), PATIENCE, "a to begin")
    project.crash(first)
    project.open("a", "b")
    wait_for(lambda: RunDirs(project.client.layout).exit("job", 1, "a") is not None, PATIENCE, "a to end")
    with project.managed():
        project.await_phases("job", job="failed")
    state = project.client.jobs.load("job")
    assert project.phases("job") == {"": "failed", "a": "failed", "b": "skipped"}
    assert [attempt.exit_code for attempt in state.tasks["a"].attempts] == [3]
    assert not project.runs("b")


def test_a_stopped_manager_that_is_continued_does_no_harm(project: Project) -> None:
    """Stopped, its lock and journal removed, and replaced: continued, it leaves with 5 and changes nothing."""
    first = project.start("--no-events")
    project.submit({"id": "job", "tasks": [gated("a"), gated("b")]})
    wait_for(lambda: project.runs("a"), PATIENCE, "a to begin")
    project.await_phases("job", a="running")  # in its file: without the journal nothing else tells of it
    first.send_signal(signal.SIGSTOP)
    Path(project.client.layout.lock).unlink()
    for path in Path(project.client.layout.journal).iterdir():
        path.unlink()
    with project.managed("--no-events") as second:
        project.await_work(second)
        first.send_signal(signal.SIGCONT)
        project.open("a", "b")
        project.await_phases("job", job="succeeded")
        assert first.wait(PATIENCE) == HELD
        assert project.record()["pid"] == second.pid
    assert [len(project.runs(task)) for task in "ab"] == [1, 1]


def test_an_idle_manager_that_was_replaced_leaves(project: Project) -> None:
    """With nothing to write it still notices that another manager works in its place: it must not answer requests."""
    first = project.start("--no-events")
    project.await_work(first)
    first.send_signal(signal.SIGSTOP)
    Path(project.client.layout.lock).unlink()
    with project.managed("--no-events") as second:
        project.await_work(second)
        first.send_signal(signal.SIGCONT)
        assert first.wait(PATIENCE) == HELD
        wait_for(lambda: project.record().get("pid") == second.pid, PATIENCE, "the second's record")

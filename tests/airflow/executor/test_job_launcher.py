"""The executor's part on the volume: one job per workload, its token in one file, outcomes with their reasons."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from air_executor.airflow.job_launcher import Launcher, LaunchSettings, Workload
from air_executor.client import Client
from air_executor.errors import BadInputError, StoreError
from air_executor.model.attempt import Attempt
from air_executor.model.parsing import dump
from air_executor.model.state import FAILED, SUCCEEDED, JobState, Running
from tests.records import make_attempt, make_done

NAME = "5f58ddf9-ebb1-4a7d-9d6f-55be3ff34752"
JOB = f"af-{NAME}"
TOKEN = "eyJhbGciOiJIUzUxMiJ9"  # noqa: S105 - looks like one, opens nothing


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    """Return a launcher with a state directory without a manager."""
    return make(tmp_path)


def make(tmp_path: Path, **settings: Any) -> Launcher:
    """Return a launcher with some settings."""
    client = Client(tmp_path / "state")
    client.jobs.prepare()
    return Launcher(client, LaunchSettings(**{"options": {}, **settings}))


def workload(options: Mapping[str, Any] | None = None, **more: Any) -> Workload:
    """Return a workload."""
    fields = {"labels": {"airflow-task": "t"}, "pool": "default", "priority": 1, **more}
    return Workload(name=NAME, text=f'{{"token": "{TOKEN}"}}', options=options or {}, **fields)


def file_of(launcher: Launcher) -> Path:
    """Return the path of the workload."""
    return Path(launcher.client.layout.workspace(JOB)) / "workload.json"


def task_of(launcher: Launcher) -> Mapping[str, Any]:
    """Return the fields of the job's task."""
    return dump(launcher.client.status(JOB).tasks["task"])


def test_token_in_one_file(launcher: Launcher) -> None:
    """The token is in one file, in a folder that only its owner may enter, and nowhere else."""
    before = os.umask(0)
    try:
        assert launcher.launch(workload()) == JOB
    finally:
        os.umask(before)
    file = file_of(launcher)
    assert file.parent.stat().st_mode & 0o777 == 0o700
    if file.stat().st_uid != 0:
        assert file.stat().st_mode & 0o777 == 0o600
    written = [path for path in Path(launcher.client.layout.root).rglob("*") if path.is_file()]
    assert [path for path in written if TOKEN in path.read_text()] == [file]


def test_launched_once(launcher: Launcher) -> None:
    """A job that exists was submitted before a crash: its runner may have the workload, so no other is written."""
    launcher.launch(workload())
    uid = launcher.client.status(JOB).uid
    file_of(launcher).unlink()
    launcher.launch(workload())
    assert launcher.client.status(JOB).uid == uid
    assert not file_of(launcher).exists()


def test_volume_refuses(launcher: Launcher) -> None:
    """If the workload cannot be written no job is submitted."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(StoreError):
            launcher.launch(workload())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert launcher.client.jobs.find(JOB) is None


def test_job(launcher: Launcher) -> None:
    """Pool, priority and labels come from Airflow; the job has no retries, because Airflow has its own."""
    launcher.launch(workload(pool="slow", priority=2**31, labels={"airflow-dag": "a\nb" + "c" * 300}))
    state = launcher.client.status(JOB)
    assert (state.pool, state.priority) == ("slow", 1_000_000)
    assert state.spec.labels["airflow-dag"] == "a?b" + "c" * 253
    assert "retries" not in task_of(launcher)


def test_programs(tmp_path: Path) -> None:
    """The fork server's client runs it on the local backend; elsewhere a program that needs no server."""
    made = {}
    cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("here", {}, {}),
        ("alone", {"fork_server_idle": 0}, {}),
        ("named", {"python": "/opt/python"}, {}),
        ("image", {}, {"image": "some/image"}),
        ("own", {"python": "/opt/python"}, {"image": "some/image"}),
    ]
    for name, settings, options in cases:
        launcher = make(tmp_path / name, **settings)
        launcher.launch(workload(options))
        made[name] = task_of(launcher)
    assert [made[name]["command"][0] for name in made] == [
        sys.executable,
        sys.executable,
        "/opt/python",
        "python",
        "/opt/python",
    ]
    assert made["here"]["command"][1:3] == ["-I", "-S"]
    assert made["here"]["command"][-2:] == ["workload.json", "600"]
    assert made["alone"]["command"][1:] == ["-m", "air_executor.airflow.workload", "workload.json"]
    assert made["image"]["command"] == ["python", *made["alone"]["command"][1:]]


def test_options_merge(tmp_path: Path) -> None:
    """A task's options take precedence over those of all tasks, and its variables are added to theirs."""
    launcher = make(tmp_path, options={"env": {"A": "1", "B": "1"}, "network": "none", "grace": "5s"})
    launcher.launch(workload({"env": {"B": "2"}, "network": "default"}))
    task = task_of(launcher)
    assert (task["env"], task["network"], task["grace"]) == ({"A": "1", "B": "2"}, "default", 5)


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({"command": "true"}, {}, "cannot set command of a task; there are image"),
        ({"retries": 3}, {}, "cannot set retries"),
        ({"image": 5}, {}, "image"),
        ({"env": "A=1"}, {}, "env"),
        ({"image": "some/image", "mounts": "/logs"}, {}, "mounts"),
        ({}, {"pool": "High Mem"}, "pool"),
    ],
)
def test_refused(launcher: Launcher, options: Mapping[str, Any], more: Mapping[str, Any], message: str) -> None:
    """Invalid options are refused before anything is written."""
    with pytest.raises(BadInputError, match=message):
        launcher.launch(workload(options, **more))
    assert not file_of(launcher).exists()
    assert launcher.client.jobs.find(JOB) is None


def test_cancel(launcher: Launcher) -> None:
    """A job that is cancelled before its start never starts: its workload is removed, its manager gets a request."""
    launcher.launch(workload())
    launcher.cancel(JOB)
    assert not file_of(launcher).exists()
    asked = [path.read_text() for path in Path(launcher.client.layout.inbox).glob("*.json")]
    assert any('"cancel"' in text for text in asked)


def test_sweep(launcher: Launcher) -> None:
    """A workload that a crash has left is removed once its token has expired, and not before."""
    launcher.launch(workload())
    launcher.sweep(older_than=3600)
    assert file_of(launcher).exists()
    os.utime(file_of(launcher), (1, 1))
    launcher.sweep(older_than=3600)
    assert not file_of(launcher).exists()


def ended(launcher: Launcher, phase: Any, reason: str, code: int | None, *attempts: Attempt) -> JobState:
    """Return the job of a workload as it is after its end."""
    launcher.launch(workload())
    state = launcher.client.status(JOB)
    state.phase, state.reason = phase, reason
    state.tasks["task"].status = make_done(phase, reason, 1.0, exit_code=code)
    state.tasks["task"].attempts = list(attempts)
    state.seq = len(attempts)
    return state


def attempt(seq: int, reason: str, code: int | None = None, message: str | None = None) -> Attempt:
    """Return one ended run."""
    return make_attempt(seq, 0, 1.0, 0.0, 1.0, 0.0, reason, exit_code=code, message=message)


def test_outcomes(launcher: Launcher) -> None:
    """While a job runs there is no outcome; if its program exited with 0, Airflow knows how the task ended."""
    launcher.launch(workload())
    state = launcher.client.status(JOB)
    assert launcher.outcome(state) is None
    state.tasks["task"].status = Running(1, 0, 1.0)
    assert launcher.outcome(state) is None
    assert launcher.outcome(ended(launcher, SUCCEEDED, "ok", 0)) == (True, None)


def test_failure_lost(launcher: Launcher) -> None:
    """After the loss of a runner the reason is the loss, not that the task was not started twice."""
    lost, again = attempt(1, "lost", message="the node is gone"), attempt(2, "error", 75)
    outcome = launcher.outcome(ended(launcher, FAILED, "error", 75, lost, again))
    assert outcome is not None
    assert not outcome.ran
    assert "run 1 lost: the node is gone; it had been started before, and is not started twice" in str(outcome.failure)


def test_failure_never_started(launcher: Launcher) -> None:
    """If no runner ever started, each attempt is named with its reason."""
    attempts = [attempt(n, "start-failed", message=f"no such image {n}") for n in (1, 2, 3)]
    outcome = launcher.outcome(ended(launcher, FAILED, "start-failed", None, *attempts))
    assert outcome is not None
    for number in (1, 2):
        assert f"run {number} start-failed: no such image {number}" in str(outcome.failure)
    assert "failed (start-failed)" in str(outcome.failure)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ModuleNotFoundError: \x1b[31mairflow\x1b[0m", "ModuleNotFoundError: airflow"),
        (
            '{"event": "oh", "error_detail": [{"exc_type": "OSError", "exc_value": "no\\u0007 API"}]}',
            "oh OSError: no\\x07 API",
        ),
        ('{"event": "oh", "error_detail": 5}', '{"event": "oh", "error_detail": 5}'),
        ("[1]", "[1]"),
        ('{"a": 1}', '{"a": 1}'),
        ("y" * 600, "y" * 500),
    ],
)
def test_failure_last_line(launcher: Launcher, line: str, message: str) -> None:
    """The last line of a runner's output is part of the reason, without control characters."""
    state = ended(launcher, FAILED, "error", 1, attempt(1, "error", 1))
    log = launcher.client.log(JOB, "task", 1)
    log.parent.mkdir(parents=True)
    log.write_text("x" * 5000 + f"\n{line}\n")
    outcome = launcher.outcome(state)
    assert outcome is not None
    assert str(outcome.failure).endswith(f"last line of its output: {message}")

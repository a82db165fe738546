"""A real volume that fills up: a tmpfs of a megabyte. Needs the right to mount, so most machines skip it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.crash import processes
from tests.managers.rig import PATIENCE, Project


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """Mount a tmpfs of one megabyte."""
    folder = tmp_path / "volume"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs Linux and root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "air-test", folder], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_volume_stops_nothing_for_good(volume: Path, tmp_path: Path) -> None:
    """A task ends while there is no byte left; with space again the job ends, and what it queued succeeds once.

    If it is started before there is space, its runner cannot write how it ended, and it is run again.
    """
    project = Project(tmp_path / "project")
    project.root.rmdir()
    project.root.symlink_to(volume)
    notes, gate = tmp_path / "b.log", tmp_path / "gate"
    queue = f'{{"id": "b", "command": "echo $AIR_RUN_ID >> {notes}"}}'
    command = f"while [ ! -e {gate} ]; do sleep 0.02; done; cat {tmp_path}/queue >> $AIR_QUEUE"
    (tmp_path / "queue").write_text(queue + "\n", encoding="utf-8")
    try:
        with project.managed("--no-events") as manager:
            # A full volume fails the task itself too, so it must be allowed to.
            project.submit(
                {"id": "job", "tasks": [{"id": "a", "command": command, "retries": 1000, "retry_delay": 0.1}]}
            )
            wait_for(lambda: any(p.is_runner for p in processes.below(project.state_dir)), PATIENCE, "a to begin")
            fill(volume / "ballast")
            assert free(volume) == 0
            gate.touch()
            wait_for(lambda: "the volume is full" in project.log(), PATIENCE, "the manager to notice")
            assert manager.poll() is None, project.log()
            (volume / "ballast").unlink()
            project.await_phases("job", job="succeeded")
        follow_up = project.client.jobs.load("job").tasks["b"]
        assert follow_up.phase == "succeeded"
        *lost, last = follow_up.attempts
        assert (last.reason, {attempt.reason for attempt in lost} <= {"lost", "start-failed"}) == ("ok", True)
        began = notes.read_text(encoding="utf-8").split()
        assert (began.count(began[-1]), began[-1].rpartition("-")[2]) == (1, str(last.seq))
    finally:
        project.clear()


def fill(path: Path) -> None:
    """Write until the volume takes no more."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def free(path: Path) -> int:
    """Return the bytes left."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize

"""`git clean -fdx` under a running manager: memory wins, and no run is doubled."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.crash import processes
from tests.gitflow.conftest import Repository
from tests.managers.rig import PATIENCE, gated


@pytest.mark.parametrize("committed", [True, False])
def test_the_manager_writes_its_jobs_anew(project: Repository, *, committed: bool) -> None:
    """Lock, journal, runs and states vanish: the manager re-acquires the directory and completes the job."""
    # Outside of the work tree, so that what the tasks note survives.
    notes = project.root.parent
    body = f"echo $AIR_RUN_ID >> {notes}/b.log; while [ ! -e {notes}/b.gate ]; do sleep 0.02; done"
    project.open("a")
    with project.managed() as manager:
        project.submit({"id": "job", "tasks": [gated("a"), {"id": "b", "command": body, "grace": 1}]})
        wait_for((notes / "b.log").exists, PATIENCE, "b to begin")
        if committed:
            project.commit()
        epoch = project.record()["epoch"]
        manager.send_signal(signal.SIGSTOP)  # else git may remove what the manager has just put back
        try:
            project.git("clean", "--quiet", "-ffdx", check=False)
        finally:
            manager.send_signal(signal.SIGCONT)
        wait_for(lambda: project.record().get("epoch", 0) > epoch, PATIENCE, "the directory to be re-acquired")
        assert Path(project.client.layout.state("job")).exists()
        assert Path(project.client.layout.lock).exists()
        assert len([p for p in processes.below(project.state_dir) if p.is_runner]) <= 1
        (notes / "b.gate").touch()
        project.await_phases("job", a="succeeded", b="succeeded", job="succeeded")
        project.open("c")
        project.submit({"id": "later", "tasks": [gated("c")]})
        project.await_phases("later", job="succeeded")
    runs = (notes / "b.log").read_text(encoding="utf-8").split()
    assert len(runs) == len(set(runs))
    assert not processes.below(project.state_dir)
    assert os.listdir(project.client.layout.journal) == []

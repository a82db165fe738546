"""A pod that stays after a failure: the job ends meanwhile, the next manager knows it, and removes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.core.submission import parse_job
from tests.cluster import Namespace
from tests.conftest import wait_for
from tests.kubernetes.managers import PATIENCE, Start

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]


def test_a_failed_pod_is_kept_for_people(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """A killed manager is no matter: the next one explains it, a shell gets in, and a cancel removes it."""
    client = Client(tmp_path / "state")
    job = {
        "id": "j",
        "tasks": [
            {"id": "bad", "command": "echo found >/tmp/left; exit 3", "keep": {"on_failure": "1h"}},
            {"id": "tidy", "command": 'echo "slot $AIR_SLOT"', "when": "always"},
        ],
    }
    first = start("first")
    client.submit(parse_job(job))
    ended = client.wait("j", PATIENCE)
    assert (ended.phase, ended.tasks["bad"].exit_code, ended.tasks["tidy"].phase) == ("failed", 3, "succeeded")
    kept = ended.kept["bad"]
    assert (kept.slot, kept.backend) == (0, "kubernetes")
    first.send_signal(signal.SIGKILL)
    first.wait()
    start("second")

    settings = {"AIR_BACKEND": "kubernetes", "AIR_KUBERNETES_NAMESPACE": namespace.name}
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")} | settings

    def air(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "air_executor", "--state-dir", str(tmp_path / "state"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)

    wait_for(lambda: client.presence().running, PATIENCE, "the second manager")
    done = air("shell", "j", "--", "sh", "-c", "cat /tmp/left; exit 7")
    assert (done.returncode, done.stdout) == (7, "found\n"), done.stderr
    said = air("explain", "j", "bad").stdout
    assert f"its pod of Job {kept.runner} is kept until " in said
    assert f"kubectl exec -it job/{kept.runner} -- sh" in said
    assert air("cancel", "j", "bad").returncode == 0
    wait_for(lambda: not client.status("j").kept, PATIENCE, "the pod to be gone")
    after = client.status("j")
    assert after.usage.runs == 2
    assert after.usage.finish_seconds > ended.usage.finish_seconds

"""What keeps a pod from starting is what people are told, and it is no run that they are told of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.core.ledger import read
from air_executor.core.submission import parse_job
from tests.cluster import Namespace
from tests.conftest import wait_for
from tests.kubernetes.managers import PATIENCE, Start

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]


def explained(folder: Path, *words: str) -> str:
    """Return what `explain` says of a job or a task."""
    command = [sys.executable, "-m", "air_executor", "--state-dir", str(folder / "state"), "explain", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_pods_that_do_not_start(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """An image that cannot be pulled, and a request that no node has room for: `explain` has the cluster's words."""
    client = Client(tmp_path / "state")
    start("one")
    never: dict[str, dict[str, object]] = {
        "image": {"image": "localhost:1/none:1"},
        "room": {"resources": {"memory": "900Gi"}},
    }
    for name, more in never.items():
        client.submit(parse_job({"id": name, "tasks": [{"id": "t", "command": "true", **more}]}))
    wait_for(lambda: "cannot be pulled" in explained(tmp_path, "image", "t"), PATIENCE, "the pull to be explained")
    assert explained(tmp_path, "image", "t").startswith("task t has been starting for ")
    wait_for(lambda: "no node takes it" in explained(tmp_path, "room"), PATIENCE, "the node to be explained")
    starting = "1 of the running not started yet"
    wait_for(lambda: starting in explained(tmp_path, "room"), PATIENCE, "it to be tried, perhaps once more")
    assert "timeout" not in explained(tmp_path, "room", "t")


def test_a_full_quota_of_jobs(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """The server refuses the Job: nothing of it exists, `explain` has the server's words, and no retry is charged."""
    client = Client(tmp_path / "state")
    quotas = f"{namespace.core}/resourcequotas"
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    namespace.ask("POST", quotas, quota)
    try:
        wait_for(lambda: namespace.ask("GET", f"{quotas}/few").get("status", {}).get("used"), PATIENCE, "the quota")
        start("one")
        client.submit(parse_job({"id": "full", "tasks": [{"id": "t", "command": "true"}]}))
        wait_for(lambda: "exceeded quota" in explained(tmp_path, "full", "t"), PATIENCE, "the quota to be explained")
        assert explained(tmp_path, "full", "t").startswith("task t has been starting for ")
        assert "exceeded quota" in explained(tmp_path, "full")
        wait_for(lambda: not read([client.status("full")]).open[0].exists, PATIENCE, "the run to cost nothing")
    finally:
        namespace.ask("DELETE", f"{quotas}/few", {})
    state = client.wait("full", PATIENCE)
    assert (state.phase, state.tasks["t"].runs, state.tasks["t"].faults) == ("succeeded", 1, 0)

"""Pods that see no volume, on a real cluster: part of the contract, and ends that only a real cluster brings about.

The whole contract with this rig runs in the lane `nightly`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.model.state import JobState
from tests.backends.over_http import OverHttpRig
from tests.backends.test_contract import (
    test_a_run_is_listed_until_it_ends,
    test_exited_is_not_absent,
    test_of_many_creators_one_wins,
)
from tests.cluster import Namespace, address_for_pods, free_port, require_runner_image
from tests.conftest import wait_for
from tests.crash import processes
from tests.kubernetes.managers import Start
from tests.nginx import Nginx
from tests.workspace_store.s3 import BUCKET, S3Server

__all__ = ["test_a_run_is_listed_until_it_ends", "test_exited_is_not_absent", "test_of_many_creators_one_wins"]
pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]
PATIENCE = 300.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[OverHttpRig]:
    """A cluster, and pods without a volume."""
    ready = OverHttpRig(tmp_path)
    yield ready
    ready.close()


@pytest.fixture
def begin(start: Start, namespace: Namespace) -> Callable[..., Any]:
    """Return what starts a manager that pods reach, at the node's address unless settings say otherwise."""
    host = address_for_pods(namespace)
    port = free_port(host)
    usual = {
        "AIR_KUBERNETES_TRANSPORT": "http",
        "AIR_KUBERNETES_TRANSPORT_URL": f"http://{host}:{port}",
        "AIR_HTTP_HOST": host,
        "AIR_HTTP_PORT": str(port),
        "AIR_KUBERNETES_PULL": "never",
        "AIR_RUNNER_IMAGE": require_runner_image(),
        "AIR_KUBERNETES_LEASE": "false",
    }
    return lambda **settings: start("manager", **{**usual, **settings})


def ended(client: Client, job: str) -> JobState:
    """Wait for a job's end."""
    state = client.wait(job, PATIENCE)
    assert state.ended, state.phase
    return state


def states(pod: dict[str, Any]) -> dict[str, str]:
    """Return the state of each container of a pod."""
    found = pod["status"].get("containerStatuses") or ()
    return {one["name"]: next(iter(one["state"]), "") for one in found}


def test_ends_of_runs(begin: Callable[..., Any], namespace: Namespace, tmp_path: Path) -> None:
    """Out of memory is told as such; a pod that others delete while it waits for the manager is repeated, and once."""
    client = Client(str(tmp_path / "state"))
    manager = begin()
    python = ["python", "-c", "print('begun', flush=True); large = b'1' * (1 << 30)"]
    large = {"id": "large", "command": python, "resources": {"memory": "64Mi"}}
    script = 'echo $AIR_ATTEMPT >>file; echo begun; [ "$AIR_ATTEMPT" = 2 ] || sleep 2; echo $AIR_ATTEMPT >$AIR_RESULT'
    tasks = [large, {"id": "waits", "command": script}, {"id": "next", "command": "cat file", "after": ["waits"]}]
    client.submit(parse_job({"id": "job", "max_runners": 2, "on_failure": "continue", "tasks": tasks}))
    runs = Path(client.layout.runs("job"))

    def printed(task: str) -> list[str]:
        return [path.read_text() for path in sorted(runs.glob(f"*-{task}/**/output.log"))]

    wait_for(lambda: printed("waits") == ["begun\n"], PATIENCE, "the task to begin")
    manager.kill()
    manager.wait()

    def delivering() -> list[dict[str, str]]:
        mine = [pod for pod in namespace.pods() if "waits" in str(pod["metadata"].get("annotations"))]
        return [
            pod["metadata"]
            for pod in mine
            if (found := states(pod)).get("task") == "terminated" and found.get("carrier") == "running"
        ]

    (gone,) = wait_for(delivering, PATIENCE, "the pod to deliver")
    namespace.ask("DELETE", f"{namespace.core}/pods/{gone['name']}", {"gracePeriodSeconds": 0})
    wait_for(lambda: not processes.of_pod(gone["uid"]), PATIENCE, "its node to end it")
    begin()
    state = ended(client, "job")
    waits = state.tasks["waits"]
    assert (waits.phase, waits.result) == ("succeeded", 2), waits
    first, second = (one.reason for one in waits.attempts)
    assert (first in {"evicted", "lost"}, second) == (True, "ok"), waits.attempts  # lost: nobody saw how it went
    assert printed("next") == ["2\n"]  # what was not delivered is not there
    big = state.tasks["large"]
    assert (big.phase, big.reason) == ("failed", "oom"), big
    assert printed("large") == ["begun\n"]
    wait_for(lambda: not left(namespace), PATIENCE, "the cluster to clear up")


def test_a_runner_that_is_killed_before_its_claim(begin: Callable[..., Any], tmp_path: Path) -> None:
    """Its slot is free again in moments, not hours, and the task is repeated."""
    client = Client(str(tmp_path / "state"))
    begin()
    client.submit(parse_job({"id": "job", "tasks": [{"id": "a", "command": "echo begun"}]}))
    wait_for(lambda: list(Path(client.layout.runs("job")).glob("1-a")), PATIENCE, "its start", pause=0.005)
    # In place of a kernel that kills the runner at its first instruction: one that ends itself there. The manager
    # writes the right one again before the next start.
    for path in Path(client.layout.bin).rglob("air-runner"):
        path.write_text("#!/bin/sh\nkill -9 $$\n", encoding="ascii")
    begun = time.monotonic()
    state = ended(client, "job")
    assert [one.reason for one in state.tasks["a"].attempts] == ["lost", "ok"]
    assert time.monotonic() - begun < 120


def test_pods_behind_a_proxy(begin: Callable[..., Any], namespace: Namespace, tmp_path: Path) -> None:
    """Between them and a manager that listens on loopback is one with TLS, a path and its own defaults."""
    port = free_port("127.0.0.1")
    target = f"proxy_pass http://127.0.0.1:{port}/; proxy_set_header Host $host;"
    proxy = Nginx(tmp_path / "nginx", f"location /jobs/ {{ {target} }}", address_for_pods(namespace))
    try:
        (tmp_path / "ca.pem").write_text(proxy.authority, encoding="ascii")
        begin(
            AIR_KUBERNETES_TRANSPORT_URL=f"{proxy.url}/jobs/",
            AIR_KUBERNETES_TRANSPORT_CA=str(tmp_path / "ca.pem"),
            AIR_HTTP_HOST="127.0.0.1",
            AIR_HTTP_PORT=str(port),
        )
        client = Client(str(tmp_path / "state"))
        show = """python -c 'import zlib; print(zlib.crc32(open("file", "rb").read()))'"""
        first = {"id": "a", "command": f"head -c 3000000 /dev/urandom >file; {show}"}
        tasks = [first, {"id": "b", "command": show, "after": ["a"]}]
        client.submit(parse_job({"id": "job", "tasks": tasks}))
        state = ended(client, "job")
    finally:
        proxy.close()
    assert state.phase == "succeeded", state
    logs = [text for path in Path(client.layout.runs("job")).rglob("output.log") if (text := path.read_text())]
    assert len(logs) == 2  # without the empty one of a start that an old server loses, and that is repeated
    assert logs[0] == logs[1]


def test_workspaces_in_an_object_store(begin: Callable[..., Any], tmp_path: Path, quick_path: Path) -> None:
    """What one pod leaves, small and large, the next one finds, from a real S3 server that no pod reaches."""
    client = Client(str(tmp_path / "state"))
    server = S3Server(quick_path)
    try:
        url = f"s3://{BUCKET}/cluster"
        begin(AIR_WORKSPACE_STORE=url, **server.env)
        first = "mkdir d; echo small >d/small; head -c 20000000 /dev/urandom >large; sha256sum <large; ln -s large link"
        second = "sha256sum <link; cat d/small; rm -r d; echo more >more"
        tasks = [{"id": "a", "command": first}, {"id": "b", "command": second}, {"id": "c", "command": "ls"}]
        client.submit(parse_job({"id": "job", "tasks": tasks}))
        state = ended(client, "job")
        assert state.phase == "succeeded", state.tasks
        printed = [path.read_text() for path in sorted(Path(client.layout.runs("job")).glob("*/**/output.log"))]
        printed = [text for text in printed if text]  # a start that an old server loses is repeated
        assert printed == [printed[0], f"{printed[0]}small\n", "large\nlink\nmore\n"]
        assert list(Path(client.layout.workspace("job")).iterdir()) == []
        assert Path(client.layout.workspace_index("job")).stat().st_size < 2000
    finally:
        server.stop()


def left(namespace: Namespace) -> list[str]:
    """Return what is there of runs: Jobs, pods and Secrets."""
    time.sleep(0.2)  # each look costs the server three lists
    return [one["metadata"]["name"] for one in (*namespace.jobs(), *namespace.pods(), *namespace.secrets())]

"""Managers that lead by a Lease of a real API server: one at a time, quickly replaced, harmless when it wakes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor.backends.kubernetes.api import Api
from air_executor.backends.kubernetes.lease_object import LeaseObject
from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.manager.leader import LEASE, LeaderLease
from air_executor.model.names import Host
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.presence import read_record
from tests.backends.rig import open_to_tasks
from tests.cluster import CLAIM, Namespace, require_image, shared_namespace
from tests.conftest import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

PATIENCE = 240.0
TASKS = 12


@pytest.fixture
def namespace(tmp_path: Path) -> Namespace:
    """Return a namespace whose claim holds the state directory of the test, which is on this machine."""
    os.makedirs(tmp_path / "state")
    open_to_tasks(tmp_path)
    return shared_namespace(str(tmp_path.parent))


@pytest.fixture
def lease(namespace: Namespace) -> Iterator[LeaseObject]:
    """Return a Lease object that does not exist yet."""
    api = Api(namespace.name, 5, 100)
    yield LeaseObject(api, f"lease-{os.urandom(4).hex()}")
    api.close()


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path, namespace: Namespace) -> Iterator[Start]:
    """Start managers of the state directory; what each says is in a file, and none is left."""
    started = []

    def one(name: str, *words: str, **settings: str) -> subprocess.Popen[bytes]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("AIR_")} | {
            "AIR_BACKEND": "kubernetes",
            "AIR_KUBERNETES_CLAIM": CLAIM,
            "AIR_KUBERNETES_SUB_PATH": f"{tmp_path.name}/state",
            "AIR_KUBERNETES_NAMESPACE": namespace.name,
            "AIR_KUBERNETES_LEASE": "true",
            "AIR_KUBERNETES_VISIBILITY": "10ms",
            "AIR_RUNNER_IMAGE": require_image(),
            "AIR_MAX_RUNNERS": "3",
            "AIR_HTTP_PORT": "0",
            **settings,
        }
        command = [sys.executable, "-m", "air_executor", "--state-dir", str(tmp_path / "state"), "manager", *words]
        with open(tmp_path / f"{name}.log", "ab") as log:
            process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log)
        started.append(process)
        return process

    yield one
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
    namespace.clear()


def said(folder: Path, name: str) -> str:
    """Return what a manager said."""
    return (folder / f"{name}.log").read_text(encoding="utf-8")


def says(folder: Path, name: str, words: str) -> bool:
    """Tell whether a manager has said this; fails if it has left with an error instead."""
    text = said(folder, name)
    assert "error:" not in text, text
    return words in text


def test_the_server_lets_one_write_win(lease: LeaseObject, namespace: Namespace) -> None:
    """Of two who saw the same only the first writes; what it wrote is as people and other programs know Leases."""
    assert lease.read() is None
    first = lease.write("one", None, 15)
    assert first is not None
    assert lease.write("two", None, 15) is None
    renewed = lease.write("one", first, 15)
    assert renewed is not None
    assert renewed.version != first.version
    assert lease.write("two", first, 15) is None
    assert lease.read() == renewed
    taken = lease.write("two", renewed, 15)
    assert taken is not None
    assert (taken.holder, taken.transitions) == ("two", 1)
    spec = namespace.ask("GET", f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases/{lease._object}")[
        "spec"
    ]
    assert spec["holderIdentity"] == "two"
    assert spec["leaseDurationSeconds"] == 15
    assert spec["acquireTime"] == spec["renewTime"]


def test_two_leases(tmp_path: Path, lease: LeaseObject, namespace: Namespace) -> None:
    """One holds it, renews it, gives it back; only then the other has it."""
    layout = Layout(tmp_path / "elsewhere")
    Jobs(layout).prepare()
    other_api = Api(namespace.name, 5, 100)
    one = LeaderLease(layout, Host("one", "boot"), lease, stands_by=True)
    two = LeaderLease(layout, Host("two", "boot"), LeaseObject(other_api, lease._object), stands_by=True)
    assert one.acquire(lambda _: False)
    assert not two.acquire(lambda _: False)
    one.renew()
    one.check()
    one.release()
    assert two.acquire(lambda _: False)
    two.check()
    two.release()
    other_api.close()


def test_leader_is_paused_under_load(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """Another takes over and adopts what runs; the woken one leaves; no command runs twice."""
    client = Client(tmp_path / "state")
    script = 'mkdir "$AIR_WORKSPACE/$AIR_TASK_ID" || exit 9; sleep 2'
    tasks = [{"id": f"n{number}", "command": script} for number in range(TASKS)]
    old = start("old")
    wait_for(lambda: says(tmp_path, "old", "managing"), PATIENCE, "a leader")
    new = start("new")
    wait_for(lambda: says(tmp_path, "new", "standing by"), PATIENCE, "another to stand by")
    client.submit(parse_job({"id": "load", "max_runners": 3, "on_failure": "continue", "tasks": tasks}))
    workspace = Path(client.layout.workspace("load"))
    wait_for(lambda: workspace.is_dir() and len(list(workspace.iterdir())) >= 2, PATIENCE, "some tasks to begin")
    old.send_signal(signal.SIGSTOP)
    client.submit(parse_job({"id": "after", "tasks": [{"id": "t", "command": "true"}]}))
    wait_for(lambda: read_record(client.layout).get("pid") == new.pid, PATIENCE, "the other to take over")
    old.send_signal(signal.SIGCONT)
    assert old.wait(PATIENCE) == 5
    assert "no longer manages" in said(tmp_path, "old")
    state = client.wait("load", PATIENCE)
    # A second run of a task whose command had begun would find its folder, and fail.
    assert {name: task.phase for name, task in state.tasks.items()} == {
        f"n{number}": "succeeded" for number in range(TASKS)
    }
    assert client.wait("after", PATIENCE).phase == "succeeded"
    wait_for(lambda: not namespace.jobs(), PATIENCE, "the last Job to be gone")
    new.terminate()
    assert new.wait(PATIENCE) == 0


def test_clean_stop_hands_over_at_once(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """A leader that is told to stop gives the Lease back, so that the next one need not wait for it to run out."""
    one = start("one")
    wait_for(lambda: says(tmp_path, "one", "managing"), PATIENCE, "a leader")
    two = start("two")
    wait_for(lambda: says(tmp_path, "two", "standing by"), PATIENCE, "another to stand by")
    begun = time.monotonic()
    one.terminate()
    assert one.wait(PATIENCE) == 0
    wait_for(lambda: says(tmp_path, "two", "managing"), PATIENCE, "the other to lead")
    assert time.monotonic() - begun < LEASE
    labels = [job["metadata"]["labels"] for job in namespace.jobs()]
    assert labels == []
    two.terminate()
    assert two.wait(PATIENCE) == 0


def test_standby_stops_when_told(tmp_path: Path, start: Start) -> None:
    """Who has not led has nothing to put in order."""
    leader = start("leader")
    wait_for(lambda: says(tmp_path, "leader", "managing"), PATIENCE, "a leader")
    standby = start("standby")
    wait_for(lambda: says(tmp_path, "standby", "standing by"), PATIENCE, "another to stand by")
    standby.terminate()
    assert standby.wait(PATIENCE) == 0
    assert leader.poll() is None


def test_lock_file_and_lease_refuse_each_other(tmp_path: Path, start: Start) -> None:
    """Whichever came first, the other exits with 5 and says what to do; after a clean stop it may come."""
    leader = start("leader")
    wait_for(lambda: says(tmp_path, "leader", "managing"), PATIENCE, "a leader")
    assert start("file", AIR_KUBERNETES_LEASE="false").wait(PATIENCE) == 5
    assert "through a Lease, not through a lock file; stop that manager first" in said(tmp_path, "file")
    leader.terminate()
    assert leader.wait(PATIENCE) == 0
    other = start("other", AIR_KUBERNETES_LEASE="false")
    wait_for(lambda: says(tmp_path, "other", "managing"), PATIENCE, "a manager with a lock file")
    assert start("late").wait(PATIENCE) == 5
    assert "through a lock file, not through a Lease" in said(tmp_path, "late")
    assert other.poll() is None


def test_runners_carry_the_epoch(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """What the cluster shows of a runner says which manager began it."""
    client = Client(tmp_path / "state")
    client.submit(parse_job({"id": "j", "tasks": [{"id": "t", "command": "sleep 60"}]}))
    start("one")
    wait_for(namespace.jobs, PATIENCE, "a Job")
    wait_for(lambda: read_record(client.layout).get("epoch"), PATIENCE, "an epoch")
    (job,) = namespace.jobs()
    assert job["metadata"]["labels"]["air-executor/epoch"] == str(read_record(client.layout)["epoch"])

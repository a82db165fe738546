"""Managers that lead by a Lease of a real API server: one at a time, quickly replaced, harmless when it wakes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
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
from tests.cluster import Namespace
from tests.conftest import wait_for
from tests.kubernetes.managers import PATIENCE, Start, said, says

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

TASKS = 12


@pytest.fixture
def lease(namespace: Namespace) -> Iterator[LeaseObject]:
    """Return a Lease object that does not exist yet."""
    api = Api(namespace.name, 5, 100)
    yield LeaseObject(api, f"lease-{os.urandom(4).hex()}")
    api.close()


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
    spec = namespace.ask("GET", f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases/{lease.object_name}")[
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
    two = LeaderLease(layout, Host("two", "boot"), LeaseObject(other_api, lease.object_name), stands_by=True)
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


def test_another_lease_does_not_take_the_directory(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """As in two clusters with one volume: the second manager has its own Lease, refuses, and says what to do."""
    other = f"{namespace.name}-2"
    namespace.ask("POST", "/api/v1/namespaces", {"metadata": {"name": other}})
    client = Client(tmp_path / "state")
    client.submit(parse_job({"id": "j", "tasks": [{"id": "t", "command": "sleep 60"}]}))
    try:
        leader = start("leader")
        wait_for(namespace.jobs, PATIENCE, "a Job")
        assert client.presence().running is True
        assert start("far", AIR_KUBERNETES_NAMESPACE=other).wait(PATIENCE) == 5
        (refusal,) = [line for line in said(tmp_path, "far").splitlines() if line.startswith("error:")]
        assert "belongs to a manager with another Lease" in refusal
        leader.terminate()
        assert leader.wait(PATIENCE) == 0
        assert start("far", AIR_KUBERNETES_NAMESPACE=other).wait(PATIENCE) == 5  # its runner is still there
        leader = start("again", "--stop-runners")
        wait_for(lambda: says(tmp_path, "again", "managing"), PATIENCE, "the first again")
        leader.terminate()
        assert leader.wait(PATIENCE) == 0
        start("moved", AIR_KUBERNETES_NAMESPACE=other)
        wait_for(lambda: says(tmp_path, "moved", "managing"), PATIENCE, "the other, now that nothing runs")
    finally:
        namespace.ask("DELETE", f"/api/v1/namespaces/{other}", {})


def test_deleted_lease_is_created_again(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """The leader goes on, and the directory belongs to its new Lease."""
    client = Client(tmp_path / "state")
    leader = start("leader")
    wait_for(lambda: says(tmp_path, "leader", "managing"), PATIENCE, "a leader")
    bound = read_record(client.layout)["lease"]
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases"
    found = namespace.ask("GET", leases)["items"]
    (name,) = [one["metadata"]["name"] for one in found if one["metadata"]["uid"] == bound]
    namespace.ask("DELETE", f"{leases}/{name}", {})
    wait_for(lambda: read_record(client.layout)["lease"] not in (None, bound), PATIENCE, "another Lease")
    client.submit(parse_job({"id": "after", "tasks": [{"id": "t", "command": "true"}]}))
    assert client.wait("after", PATIENCE).phase == "succeeded"
    assert leader.poll() is None


def test_runners_carry_the_epoch(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """What the cluster shows of a runner says which manager began it."""
    client = Client(tmp_path / "state")
    client.submit(parse_job({"id": "j", "tasks": [{"id": "t", "command": "sleep 60"}]}))
    start("one")
    wait_for(namespace.jobs, PATIENCE, "a Job")
    wait_for(lambda: read_record(client.layout).get("epoch"), PATIENCE, "an epoch")
    (job,) = namespace.jobs()
    assert job["metadata"]["labels"]["air-executor/epoch"] == str(read_record(client.layout)["epoch"])

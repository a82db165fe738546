"""Jobs that a real server suspends: what a queue of the cluster, such as Kueue, does to them, done by hand.

Needs Kubernetes 1.21; to have a Job suspended as it is created takes an admission policy, which 1.36 has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.container.refusals import MissingError
from air_executor.client import Client
from air_executor.core.submission import parse_job
from tests.cluster import Namespace
from tests.conftest import wait_for
from tests.kubernetes.managers import PATIENCE, Start
from tests.kubernetes.test_waits import explained

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

POLICIES = "/apis/admissionregistration.k8s.io/v1"
QUEUE = "kueue.x-k8s.io/queue-name"
ALLOWED = {"AIR_KUBERNETES_ALLOW_LABELS": QUEUE}


def suspend(namespace: Namespace, *, on: bool) -> None:
    """Suspend or resume the only Job, as a queue does."""
    [job] = namespace.jobs()
    path = f"/apis/batch/v1/namespaces/{namespace.name}/jobs/{job['metadata']['name']}"
    namespace.ask("PATCH", path, {"spec": {"suspend": on}})


@pytest.fixture
def queued(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace in which each Job with a queue's name is suspended as it is created."""
    name = f"suspend-{namespace.name}"
    rules = [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}]
    policy = {
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
            "objectSelector": {"matchExpressions": [{"key": QUEUE, "operator": "Exists"}]},
            "resourceRules": rules,
        },
        "mutations": [
            {
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": "Object{spec: Object.spec{suspend: true}}"},
            }
        ],
    }
    kinds = {"mutatingadmissionpolicies": policy, "mutatingadmissionpolicybindings": {"policyName": name}}
    try:
        for kind, spec in kinds.items():
            namespace.ask("POST", f"{POLICIES}/{kind}", {"metadata": {"name": name}, "spec": spec})
    except MissingError:
        pytest.skip("this server has no admission policies that change objects; Kubernetes 1.36 has")
    container = {"name": "c", "image": "none"}
    probe = {
        "metadata": {"name": "probe", "labels": {QUEUE: "team-a"}},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    jobs = f"/apis/batch/v1/namespaces/{namespace.name}/jobs"
    wait_for(lambda: namespace.ask("POST", jobs, probe, dryRun="All")["spec"].get("suspend"), 60, "the policy to act")
    yield namespace
    for kind in kinds:
        with contextlib.suppress(MissingError):
            namespace.ask("DELETE", f"{POLICIES}/{kind}/{name}")


def task(command: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a task in a queue of the cluster."""
    return {"id": "t", "command": command, "kubernetes": {"labels": {QUEUE: "team-a"}}, **fields}


def test_a_job_that_waits_in_a_queue(tmp_path: Path, queued: Namespace, start: Start) -> None:
    """It waits without a deadline, `explain` names the queue, and it runs once it is admitted, in one run."""
    client = Client(tmp_path / "state")
    start("one", AIR_KUBERNETES_SCHEDULE_DEADLINE="2s", **ALLOWED)
    client.submit(parse_job({"id": "waits", "tasks": [task("true")]}))
    words = "suspended in queue team-a"
    wait_for(lambda: words in explained(tmp_path, "waits", "t"), PATIENCE, "the wait to be explained")
    assert queued.pods() == []
    suspend(queued, on=False)
    state = client.wait("waits", PATIENCE)
    [attempt] = state.tasks["t"].attempts
    assert (state.phase, attempt.reason) == ("succeeded", "ok")
    assert attempt.node_wait is not None


def test_a_running_job_that_is_preempted(tmp_path: Path, queued: Namespace, start: Start) -> None:
    """The run ends as `evicted`, by the platform's fault, and the next one waits in the queue again."""
    client = Client(tmp_path / "state")
    start("one", **ALLOWED)
    command = '[ "$AIR_ATTEMPT" = 1 ] || exit 0; touch $AIR_WORKSPACE/begun; sleep 600'
    client.submit(parse_job({"id": "again", "tasks": [task(command, retries=0, grace=1)]}))
    wait_for(lambda: "suspended" in explained(tmp_path, "again", "t"), PATIENCE, "the wait to be explained")
    suspend(queued, on=False)
    begun = Path(client.layout.workspace("again"), "begun")
    wait_for(begun.exists, PATIENCE, "the command to begin")
    suspend(queued, on=True)
    wait_for(lambda: client.status("again").tasks["t"].runs == 2, PATIENCE, "the second run")
    wait_for(lambda: "suspended" in explained(tmp_path, "again", "t"), PATIENCE, "its wait to be explained")
    suspend(queued, on=False)
    state = client.wait("again", PATIENCE)
    assert [one.reason for one in state.tasks["t"].attempts] == ["evicted", "ok"]
    assert state.tasks["t"].charged == 0

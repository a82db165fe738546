"""Jobs that a queue of the cluster suspends, as a server from 1.21 on answers: watches have their metadata alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.base import RunnerStatus
from air_executor.backends.kubernetes import KubernetesBackend, make_backend, runner_cache
from air_executor.model.names import Slot
from air_executor.settings import KubernetesSettings, Settings
from tests.conftest import wait_for
from tests.kubernetes.server import Server, job, pod

SLOT = Slot("census", 0)
RUNNER = "0badcafe-1"
QUEUE = "kueue.x-k8s.io/queue-name"
PREEMPTED = "Preempted to accommodate a workload with a higher priority"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that KUBECONFIG names."""
    ready = Server()
    ready.write_config(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    yield ready
    ready.stop()


@pytest.fixture
def make(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], KubernetesBackend]]:
    """Make backends whose pods have half a second to find a node, and which look into it as soon."""
    monkeypatch.setattr(runner_cache, "INSPECT_AFTER", 0.5)
    group = KubernetesSettings(claim="state", schedule_deadline=0.5, timeout=5.0, rate=1000.0)
    settings = Settings(state_dir=str(tmp_path / "state"), kubernetes=group)
    made = []

    def one() -> KubernetesBackend:
        made.append(make_backend(settings, "0", lambda *_: None))
        made[-1].observe()
        wait_for(lambda: server.watches == 2, what="both watches")
        return made[-1]

    yield one
    for backend in made:
        backend.close()


def put(server: Server, generation: int, *, suspend: bool, words: str = "Job suspended") -> None:
    """Change the Job as the queue or the server does; each change of its spec has another generation."""
    found = job("census", RUNNER, generation=generation)
    found["metadata"]["labels"] = {**found["metadata"]["labels"], QUEUE: "team-a"}
    condition = {"type": "Suspended", "status": str(suspend), "reason": "JobSuspended", "message": words}
    server.put("jobs", {**found, "spec": {"suspend": suspend}, "status": {"conditions": [condition]}})


def told(backend: KubernetesBackend, words: str) -> RunnerStatus:
    """Wait until the runner's status has these words."""
    found: list[RunnerStatus] = []

    def is_told() -> bool:
        found[:] = [backend.observe()[SLOT]]
        return words in str(found[0].message)

    wait_for(is_told, what=words)
    return found[0]


def ended(backend: KubernetesBackend) -> RunnerStatus:
    """Wait until the runner has ended."""
    wait_for(lambda: not backend.observe()[SLOT].alive, what="the end")
    return backend.observe()[SLOT]


def test_a_wait_in_a_queue_has_no_deadline(server: Server, make: Callable[[], KubernetesBackend]) -> None:
    """A manager that comes later knows it too; the deadline for a node begins when the queue lets the Job go."""
    put(server, 1, suspend=True)
    backend = make()
    assert told(backend, "its Job is suspended in queue team-a: Job suspended").alive
    put(server, 2, suspend=False)
    given_up: list[Any] = []

    def is_given_up() -> bool:
        given_up[:] = [backend.observe()[SLOT]]
        return given_up[0].reason is not None

    wait_for(is_given_up, what="the deadline for a node")
    assert (given_up[0].reason, given_up[0].alive) == ("start-failed", True)


def test_the_queues_later_words_are_told(
    server: Server, make: Callable[[], KubernetesBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in the status, which changes no generation: the Job is read again, ever more rarely."""
    monkeypatch.setattr(runner_cache, "INSPECT_AFTER", 0.05)
    put(server, 1, suspend=True, words="waits for quota")
    backend = make()
    told(backend, "waits for quota")
    put(server, 1, suspend=True, words="the queue is stopped")
    told(backend, "the queue is stopped")


def workload(kind: str, words: str) -> dict[str, Any]:
    """Return Kueue's record of the Job: a condition that does not hold yet."""
    return {"status": {"conditions": [{"type": kind, "status": "False", "reason": "Pending", "message": words}]}}


def test_kueue_says_why_in_its_own_words(
    server: Server, make: Callable[[], KubernetesBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a Job, Kueue's Workload knows what it waits for: first for quota, then for the queue's checks."""
    monkeypatch.setattr(runner_cache, "INSPECT_AFTER", 0.05)
    uid = job("census", RUNNER)["metadata"]["uid"]
    quota = "couldn't assign flavors to pod set main: insufficient unused quota for cpu, 1 more needed"
    server.workloads[uid] = [workload("QuotaReserved", quota)]
    put(server, 1, suspend=True)
    backend = make()
    assert told(backend, quota).message == f"its Job is suspended in queue team-a: {quota}"
    server.workloads[uid] = [workload("Admitted", "waits for the check prov-test")]
    told(backend, "in queue team-a: waits for the check prov-test")


@pytest.mark.parametrize("status", [403, 404])
def test_without_rights_or_kueue_the_jobs_words_do(
    server: Server, make: Callable[[], KubernetesBackend], status: int
) -> None:
    """The chart gives the right only on request."""
    server.refuse = lambda what: (status, {"message": "no"}, {}) if what == "list workloads" else None
    put(server, 1, suspend=True)
    told(make(), "its Job is suspended in queue team-a: Job suspended")
    wait_for(lambda: server.asked["list workloads"] > 0, what="the question")


def test_preemption_has_the_queues_words(server: Server, make: Callable[[], KubernetesBackend]) -> None:
    """It suspends a Job whose pod runs, and the server deletes the pod: the platform's fault."""
    put(server, 1, suspend=True)
    backend = make()
    told(backend, "suspended")
    put(server, 2, suspend=False)
    wait_for(lambda: backend.observe()[SLOT].message is None, what="the Job to be read")
    server.put("pods", pod(job("census", RUNNER)))
    wait_for(lambda: backend.observe()[SLOT].node_wait is not None, what="the pod to run")
    put(server, 3, suspend=True, words=PREEMPTED)

    def is_known() -> bool:
        backend.observe()
        one = backend._cache.in_slot(SLOT)
        return one is not None and one.suspended is not None

    wait_for(is_known, what="it to be read again")
    deleted = {"terminated": {"exitCode": 143}}
    server.put("pods", pod(job("census", RUNNER), "Failed", state=deleted, metadata={"deletionTimestamp": "x"}))
    found = ended(backend)
    assert found.reason == "evicted"
    assert PREEMPTED in str(found.message)


def test_a_job_that_runs_is_not_read(server: Server, make: Callable[[], KubernetesBackend]) -> None:
    """A manager that finds it running has nothing to ask."""
    put(server, 1, suspend=False)
    server.put("pods", pod(job("census", RUNNER)))
    backend = make()
    for _ in range(50):
        assert backend.observe()[SLOT].alive
    assert server.asked["read job"] == 0

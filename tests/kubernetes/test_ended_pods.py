"""Pods that stay for a while after their run, for log shippers: nobody's, in no slot, and gone at their time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.kubernetes import KubernetesBackend, make_backend
from air_executor.backends.kubernetes.ended_pods import RETRY_SECONDS, EndedPods
from air_executor.backends.kubernetes.manifests import JOB, KEEP_UNTIL, RUN
from air_executor.backends.kubernetes.runner_cache import Deadlines, RunnerCache
from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.model.names import Slot
from air_executor.settings import KubernetesSettings, Settings
from air_executor.store.layout import Layout
from tests.backends.rig import KubernetesRig, Task, make_launch
from tests.backends.test_contract import is_gone
from tests.cluster import Namespace
from tests.conftest import wait_for
from tests.kubernetes.managers import PATIENCE, Start
from tests.kubernetes.server import Server, job, pod, status

SLOT = Slot("census", 0)
RUNNER = "0badcafe-1"
DONE = {"terminated": {"exitCode": 0}}


def pods_of(rig: KubernetesRig, run: str) -> list[dict[str, Any]]:
    """Return the pods of a run."""
    return [pod for pod in rig.namespace.pods() if pod["metadata"]["labels"].get(RUN) == run]


def finish(rig: KubernetesRig, backend: KubernetesBackend) -> None:
    """Wait until the runner has ended, and remove it."""
    rig.until(lambda: (found := backend.observe().get(SLOT)) is not None and found.finished, "the runner to end")
    rig.until(lambda: is_gone(backend), "its name to be free")


@pytest.mark.kubernetes
@pytest.mark.timeout(600)
def test_an_ended_pod_stays_for_its_time(rig: KubernetesRig) -> None:
    """The next run has the name meanwhile; a later manager without the setting sees no runner, and deletes the pod."""
    backend = rig.kubernetes(keep_pods=3600.0)
    first = rig.command(SLOT, 1, "echo shipped")
    backend.spawn(first)
    finish(rig, backend)
    rig.until(lambda: [one["status"]["phase"] for one in pods_of(rig, first.run)] == ["Succeeded"], "its phase")
    [kept] = pods_of(rig, first.run)
    assert "ownerReferences" not in kept["metadata"]
    name = kept["metadata"]["name"]
    assert rig.namespace.api.container_log(name, "task") == b"shipped\n"

    second = rig.launch(SLOT, 2, Task.ENDS)
    backend.spawn(second)
    assert backend.observe()[SLOT].run == second.run
    finish(rig, backend)

    later = rig.kubernetes()
    assert later.observe() == {}
    assert len(pods_of(rig, first.run)) == len(pods_of(rig, second.run)) == 1
    rig.namespace.api.patch_pod(name, {"metadata": {"labels": {KEEP_UNTIL: "1"}}})
    rig.until(lambda: not later.observe() and not pods_of(rig, first.run), "the pod to be deleted")
    assert len(pods_of(rig, second.run)) == 1


@pytest.mark.kubernetes
@pytest.mark.timeout(600)
def test_pods_of_a_job_stay_over_a_killed_manager(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """Its tasks follow each other meanwhile, nothing is paid for the pods, and the next manager deletes them."""

    def left() -> list[dict[str, Any]]:
        found = (pod["metadata"] for pod in namespace.pods())
        return [meta for meta in found if meta["labels"].get(JOB) == "steps"]

    client = Client(tmp_path / "state")
    first = start("first", AIR_KUBERNETES_KEEP_PODS="1h")
    client.submit(parse_job({"id": "steps", "tasks": [{"command": "true"}, {"command": "true"}]}))
    state = client.wait("steps", PATIENCE)
    wait_for(lambda: [KEEP_UNTIL in meta["labels"] for meta in left()] == [True, True], PATIENCE, "both pods to stay")
    first.kill()
    first.wait()
    for meta in left():
        namespace.api.patch_pod(meta["name"], {"metadata": {"labels": {KEEP_UNTIL: "1"}}})
    start("second")
    wait_for(lambda: not left(), PATIENCE, "both pods to be deleted")
    assert (state.phase, state.usage.runs) == ("succeeded", 2)
    assert client.status("steps").usage == state.usage


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that KUBECONFIG names."""
    ready = Server()
    ready.write_config(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    yield ready
    ready.stop()


@pytest.fixture
def backend(server: Server, tmp_path: Path) -> Iterator[KubernetesBackend]:
    """A backend that talks to it."""
    group = KubernetesSettings(claim="state", keep_pods=60.0, timeout=5.0, rate=1000.0)
    settings = Settings(state_dir=str(tmp_path / "state"), kubernetes=group)
    made = make_backend(settings, "0", lambda *_: None)
    yield made
    made.close()


REFUSED = status(403, "Forbidden", "cannot patch resource pods")


@pytest.mark.parametrize(
    ("found", "refuses", "policy"),
    [
        (("Succeeded", {}), False, "Orphan"),
        (("Succeeded", {}), True, "Background"),
        (("Running", {}), False, "Orphan"),  # from 1.27 on the phase follows a moment later
        (("Running", {"containers": ["task", "mesh"]}), False, "Background"),
        (("Running", {"sidecars": ["service-db"]}), False, "Background"),
    ],
)
def test_what_cannot_stay_goes_with_its_job(
    server: Server,
    backend: KubernetesBackend,
    found: tuple[str, dict[str, Any]],
    refuses: bool,  # noqa: FBT001 - a parameter
    policy: str,
) -> None:
    """A pod stays if the server lets us say so, and if no container in it still runs."""
    server.refuse = lambda what: (403, REFUSED, {}) if refuses and what == "PATCH" else None
    server.put("jobs", job("census", RUNNER))
    server.put("pods", pod(job("census", RUNNER), found[0], state=DONE, **found[1]))
    assert backend.observe()[SLOT].finished
    wait_for(lambda: is_gone(backend), what="its name to be free")
    assert server.policies == [policy]


def test_a_manager_died_between_label_and_job(server: Server, backend: KubernetesBackend, tmp_path: Path) -> None:
    """The next one knows how the run ended, and deletes the Job alone."""
    kept = pod(job("census", RUNNER), "Failed", state={"terminated": {"exitCode": 3}})
    kept["metadata"]["labels"] = {**kept["metadata"]["labels"], KEEP_UNTIL: "9999999999"}
    server.put("jobs", job("census", RUNNER))
    server.put("pods", kept)
    found = backend.observe()[SLOT]
    assert (found.finished, found.exit_code) == (True, 3)
    wait_for(lambda: is_gone(backend), what="its name to be free")
    assert server.policies == ["Orphan"]
    layout = Layout(tmp_path / "state")
    Path(layout.workspace("census")).mkdir(parents=True)
    launch = make_launch(layout, SLOT, 2, Task.ENDS)
    Path(launch.out_dir).mkdir(parents=True)
    backend.spawn(launch)
    assert backend.observe()[SLOT].run == launch.run


def test_a_pod_is_deleted_once_at_its_time() -> None:
    """And again only if it is still there later."""
    ended = EndedPods()
    kept = pod(job("census", RUNNER), "Succeeded", metadata={"labels": {KEEP_UNTIL: "100"}})
    assert ended.put(kept)
    assert not ended.put(pod(job("census", RUNNER)))
    one = (kept["metadata"]["name"], kept["metadata"]["uid"])
    assert (ended.due(99.0), ended.due(100.0), ended.due(101.0)) == ([], [one], [])
    assert ended.put(kept)  # an event of the same pod
    assert (ended.due(102.0), ended.due(100.0 + RETRY_SECONDS)) == ([], [one])
    sooner = pod(job("census", RUNNER), "Succeeded", metadata={"labels": {KEEP_UNTIL: "50"}})
    assert ended.put(sooner)  # somebody has changed its label
    assert ended.due(60.0) == [one]
    ended.drop(one[1])
    assert ended.due(1e9) == []


def test_a_pod_missing_from_a_list_is_forgotten() -> None:
    """It was deleted while the watch was broken."""
    cache = RunnerCache(Deadlines(300.0, 300.0, 300.0))
    kept = pod(job("census", RUNNER), "Succeeded", metadata={"labels": {KEEP_UNTIL: "100"}})
    cache.put_pod(kept, 0.0)
    assert list(cache.ended_pods) == [kept["metadata"]["uid"]]
    assert cache.statuses(1.0) == {}
    cache.begin_list("pods")
    cache.apply_pods([], 2.0)
    assert list(cache.ended_pods) == []


@pytest.mark.parametrize(
    ("state", "starts", "printed"),
    [
        ({"state": {"running": {}}, "restartCount": 1, "lastState": DONE}, [b"full\n", b"again\n"], b"full\nagain\n"),
        ({"state": DONE}, [b"full\n", b""], b"full\n"),  # its node has started it again since we looked
        ({"state": DONE}, [b"full\n"], b"full\n"),
        ({"state": DONE}, [b"unable to retrieve container logs for containerd://d0d9", b"full\n"], b"full\n"),
        ({"state": {"running": {}}, "started": True}, [b"ready\n"], b"ready\n"),
        ({"state": {"waiting": {}}}, [], None),
    ],
)
def test_the_log_of_a_service_that_its_node_starts_again(
    server: Server, tmp_path: Path, state: dict[str, Any], starts: list[bytes], printed: bytes | None
) -> None:
    """A native sidecar that ends is started again: what it printed before says why the run was given up."""
    kept: list[bytes] = []
    group = KubernetesSettings(claim="state", timeout=5.0, rate=1000.0)
    settings = Settings(state_dir=str(tmp_path / "state"), kubernetes=group)
    backend = make_backend(settings, "0", lambda *said: kept.append(said[-1]))
    server.put("jobs", job("census", RUNNER))
    service = {"name": "service-db", **state}
    server.logs["service-db"] = starts
    server.put("pods", pod(job("census", RUNNER), sidecars=["service-db"], initContainerStatuses=[service]))
    assert SLOT in backend.observe()
    backend.remove(SLOT)
    wait_for(lambda: server.policies != [], what="the Job to be deleted")
    assert kept == ([] if printed is None else [printed])
    backend.close()

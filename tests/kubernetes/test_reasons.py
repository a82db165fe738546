"""Why a run ended or never started, as a real cluster tells it; nothing of it is the user's fault unless it is."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.base import Launch, RunnerStatus
from air_executor.backends.container.refusals import ConflictError
from air_executor.backends.kubernetes import KubernetesBackend
from air_executor.backends.kubernetes.api import Api
from air_executor.backends.kubernetes.manifests import RUN
from air_executor.errors import DuplicateRunnerError, SpawnRejectedError
from air_executor.model.names import Slot
from air_executor.runner import native
from tests.backends.rig import KubernetesRig, Task
from tests.backends.test_contract import is_gone
from tests.cluster import Namespace
from tests.conftest import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]
SLOT = Slot("census", 0)


def launch_with(rig: KubernetesRig, task: Task | str = Task.WAITS, **options: Any) -> Launch:  # noqa: ANN401 - a task's
    """Return a launch of a task or script with these options."""
    script = task.value if isinstance(task, Task) else task
    return dataclasses.replace(rig.command(SLOT, 1, script), options=options)


def ended(rig: KubernetesRig, backend: KubernetesBackend) -> RunnerStatus:
    """Wait until the runner has ended and return how."""
    rig.until(lambda: (found := backend.observe().get(SLOT)) is not None and found.finished, "the runner to end")
    return backend.observe()[SLOT]


def doomed(rig: KubernetesRig, backend: KubernetesBackend, words: str = "") -> RunnerStatus:
    """Wait until the backend gives up on a runner that does not start, see that it can be removed, and return why.

    Its message has these words sooner or later: it does not wait for the cluster to tell.
    """
    found: list[RunnerStatus] = []

    def given_up() -> bool:
        found[:] = [backend.observe()[SLOT]]
        return found[0].reason is not None and words in str(found[0].message)

    rig.until(given_up, f"the backend to give up: {words}")
    assert (found[0].alive, found[0].reason) == (True, "start-failed")
    rig.until(lambda: is_gone(backend), "the runner to be gone")
    return found[0]


def test_an_exit_code(rig: KubernetesRig) -> None:
    """The cluster's own word for how a run ended, and when."""
    backend = rig.kubernetes()
    backend.spawn(launch_with(rig, "exit 3"))
    found = ended(rig, backend)
    assert (found.exit_code, found.reason) == (3, None)
    assert found.finished_at is not None


@pytest.mark.parametrize("copied", [False, True], ids=["selected", "copied"])
def test_where_the_architecture_is_known_no_shell_is_needed(
    rig: KubernetesRig, tmp_path: Path, *, copied: bool
) -> None:
    """A command that is a list runs in an image whose PATH leads to no shell; one that is text says what it lacks."""
    machine = str(native.this_machine())
    names = [name for name, folder in native.MACHINES.items() if folder == machine and name != machine]
    template = tmp_path / "template.yaml"
    template.write_text(f"spec: {{nodeSelector: {{kubernetes.io/arch: {names[0]}}}}}\n")
    backend = rig.kubernetes(copy_runner=True) if copied else rig.kubernetes(pod_template=str(template))
    for seq, (argv, code) in enumerate([(("/bin/busybox", "true"), 0), (("sh", "-c", "true"), 127)], 1):
        launch = rig.command(SLOT, seq, "")
        launch = dataclasses.replace(launch, argv=argv, env={**launch.env, "PATH": "/nonexistent"})
        backend.spawn(launch)
        assert ended(rig, backend).exit_code == code
        assert ("no shell `sh`" in Path(launch.out_dir, "exit.json").read_text()) == bool(code)
        backend.remove(SLOT)
        rig.until(lambda: is_gone(backend), "the runner to be gone")


def test_an_image_without_a_shell_is_named_with_both_remedies(rig: KubernetesRig) -> None:
    """A command that is a list does not need one, but what starts the runner by default does."""
    backend = rig.kubernetes()
    launch = rig.command(SLOT, 1, "")
    argv = ("/bin/busybox", "true")
    backend.spawn(dataclasses.replace(launch, argv=argv, env={**launch.env, "PATH": "/nonexistent"}))
    found = ended(rig, backend)
    assert (found.reason, found.permanent) == ("start-failed", True)
    message = str(found.message)
    for words in (
        f"image {rig.settings.runner_image} has no shell",
        "AIR_KUBERNETES_COPY_RUNNER",
        "kubernetes.io/arch",
    ):
        assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("copied", [False, True], ids=["chosen", "copied"])
def test_a_runner_that_another_version_left_is_not_used(rig: KubernetesRig, *, copied: bool) -> None:
    """A pod chooses, or copies, the one for its node among those of this installation, else the script."""
    backend = rig.kubernetes(copy_runner=copied)
    machine = str(native.this_machine())
    assert Path(rig.layout.bin, machine, native.NAME).exists()
    # The native one's folder is its own; the script's is the one that is given to it.
    expected = {frozenset({machine}): "/air/runner" if copied else f"/air/bin/{machine}", frozenset(): "/air/bin"}
    for seq, (machines, folder) in enumerate(expected.items(), 1):
        launch = dataclasses.replace(rig.command(SLOT, seq, 'echo "${PATH##*:}"'), machines=machines)
        backend.spawn(launch)
        assert ended(rig, backend).exit_code == 0
        assert Path(launch.out_dir, "output.log").read_text() == f"{folder}\n"
        backend.remove(SLOT)
        rig.until(lambda: is_gone(backend), "the runner to be gone")


def test_an_impossible_image_fails_at_once(rig: KubernetesRig) -> None:
    """No deadline has to pass, and no retry would help."""
    backend = rig.kubernetes(pull="missing")
    backend.spawn(launch_with(rig, image="No Such:Image"))
    found = doomed(rig, backend)
    assert found.permanent
    assert "InvalidImageName" in str(found.message)


def test_an_image_that_cannot_be_pulled(rig: KubernetesRig) -> None:
    """Its node tries for as long as the deadline for pulls; then the registry's own words say why."""
    backend = rig.kubernetes(pull="missing", pull_deadline=0.1)
    backend.spawn(launch_with(rig, image="registry.invalid/nothing:1"))
    rig.until(lambda: "pulled" in str(backend.observe()[SLOT].message), "the pull to fail")
    found = doomed(rig, backend)
    assert found.permanent
    assert "registry.invalid/nothing:1" in str(found.message)


def test_no_node_takes_it(rig: KubernetesRig) -> None:
    """The scheduler's words are shown, and another try may meet a bigger cluster."""
    backend = rig.kubernetes(schedule_deadline=0.5)
    backend.spawn(launch_with(rig, resources={"cpu": 1000}))
    assert not doomed(rig, backend, "Insufficient cpu").permanent


def test_a_secret_that_does_not_exist(rig: KubernetesRig) -> None:
    """The container cannot be created; its own deadline passes, and the message names the Secret."""
    backend = rig.kubernetes(secret="nowhere", start_deadline=0.5)  # noqa: S106 - a name
    backend.spawn(dataclasses.replace(launch_with(rig), secrets={"TOKEN": ""}))
    found = doomed(rig, backend)
    assert 'secret "nowhere" not found' in str(found.message)


@pytest.mark.parametrize(
    ("value", "words"),
    [(b"first\0 hunter2word", "could not be started"), (b"hunter2word \xff\xfe", "ended with 1")],
)
def test_a_secret_that_is_no_text(rig: KubernetesRig, value: bytes, words: str) -> None:
    """It reaches the task unchanged or not at all, and no message has it."""
    secret = {"metadata": {"name": "keys"}, "data": {"TOKEN": base64.b64encode(value).decode()}}
    rig.namespace.ask("POST", f"{rig.namespace.core}/secrets", secret)
    backend = rig.kubernetes(secret="keys")  # noqa: S106 - a name
    try:
        launch = dataclasses.replace(launch_with(rig, "echo it began"), secrets={"TOKEN": ""})
        backend.spawn(launch)
        message = str(ended(rig, backend).message)
        log = Path(launch.out_dir, "output.log")
        assert words in message
        assert "hunter2word" not in message
        said = log.read_text(encoding="utf-8") if log.exists() else ""
        assert said in {
            "",
            "secret TOKEN is not UTF-8 text, and Kubernetes cannot pass it on unchanged; store it encoded, as base64\n",
        }
    finally:
        rig.namespace.ask("DELETE", f"{rig.namespace.core}/secrets/keys")


def test_a_secret_of_a_tasks_own(rig: KubernetesRig) -> None:
    """The task has the key of the Secret that it names."""
    secret = {"metadata": {"name": "team"}, "stringData": {"TOKEN": "of the team"}}
    rig.namespace.ask("POST", f"{rig.namespace.core}/secrets", secret)
    try:
        backend = rig.kubernetes(allow_secrets=("team/TOKEN",))
        launch = launch_with(rig, 'test "$TOKEN" = "of the team"', kubernetes={"secret": "team"})
        backend.spawn(dataclasses.replace(launch, secrets={"TOKEN": ""}))
        assert ended(rig, backend).exit_code == 0
    finally:
        rig.namespace.ask("DELETE", f"{rig.namespace.core}/secrets/team")


def test_out_of_memory(rig: KubernetesRig) -> None:
    """Whoever takes more than the limit is killed, and that is what the run's end is called."""
    backend = rig.kubernetes()
    script = "dd if=/dev/zero of=/tmp/hog bs=1M count=200"
    backend.spawn(launch_with(rig, script, resources={"memory": 32 << 20}))
    found = ended(rig, backend)
    assert found.reason == "oom"


def test_a_pod_deleted_by_hand(rig: KubernetesRig) -> None:
    """That is the platform's fault, and a second pod of the same Job stops at the claim."""
    backend = rig.kubernetes()
    launch = launch_with(rig)
    backend.spawn(launch)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    [pod] = [pod for pod in rig.namespace.pods() if "deletionTimestamp" not in pod["metadata"]]
    rig.namespace.ask("DELETE", f"{rig.namespace.core}/pods/{pod['metadata']['name']}")
    found = ended(rig, backend)
    assert found.reason == "evicted"
    assert str(found.message).endswith(f"on node {pod['spec']['nodeName']} was deleted, and not by us")
    rig.until(lambda: is_gone(backend), "its name to be free")


def test_a_job_deleted_by_hand(rig: KubernetesRig) -> None:
    """Its end is reported until it is removed, though nothing of it is left."""
    backend = rig.kubernetes()
    launch = launch_with(rig)
    backend.spawn(launch)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    jobs = f"/apis/batch/v1/namespaces/{rig.namespace.name}/jobs"
    rig.namespace.ask("DELETE", f"{jobs}/air-census", {"propagationPolicy": "Background"})
    assert ended(rig, backend).reason == "evicted"
    backend.remove(SLOT)
    assert backend.observe() == {}


def test_an_orphaned_pod_keeps_its_slot_and_can_be_stopped(rig: KubernetesRig) -> None:
    """Where somebody deletes the Job alone, its pod is still the runner."""
    backend = rig.kubernetes()
    launch = launch_with(rig)
    backend.spawn(launch)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    jobs = f"/apis/batch/v1/namespaces/{rig.namespace.name}/jobs"
    rig.namespace.ask("DELETE", f"{jobs}/air-census", {"propagationPolicy": "Orphan"})
    rig.until(lambda: not [job for job in rig.namespace.jobs() if job["metadata"]["name"] == "air-census"], "the end")
    assert backend.observe()[SLOT].alive
    other = rig.kubernetes()
    assert other.observe()[SLOT].run == launch.run
    with pytest.raises(DuplicateRunnerError):
        other.spawn(rig.launch(SLOT, 2, Task.WAITS))
    rig.until(lambda: is_gone(other), "the pod to be gone")


def test_an_orphaned_pod_is_deleted_once_it_has_ended(rig: KubernetesRig) -> None:
    """Nobody else would: a manager that comes later finds it by its labels."""
    backend = rig.kubernetes()
    launch = launch_with(rig, "sleep 5")

    def left() -> list[str]:
        mine = (pod for pod in rig.namespace.pods() if pod["metadata"]["labels"].get(RUN) == launch.run)
        return [pod["status"]["phase"] for pod in mine]

    backend.spawn(launch)
    rig.until(lambda: left() == ["Running"], "the task to start")
    jobs = f"/apis/batch/v1/namespaces/{rig.namespace.name}/jobs"
    rig.namespace.ask("DELETE", f"{jobs}/air-census", {"propagationPolicy": "Orphan"})
    rig.until(lambda: left() == ["Succeeded"], "the task to end")
    other = rig.kubernetes()
    assert other.observe()[SLOT].finished
    rig.until(lambda: is_gone(other), "it to be forgotten")
    assert left() == []


def test_what_a_task_asks_of_its_pod(rig: KubernetesRig) -> None:
    """The cluster takes it: labels on Job and pod, and the token of the service account that the operator allows."""
    backend = rig.kubernetes(allow_labels=("team",), allow_service_accounts=("default",))
    asked = {"labels": {"team": "red"}, "service_account": "default"}
    launch = launch_with(rig, "test -s /var/run/secrets/kubernetes.io/serviceaccount/token || exit 3", kubernetes=asked)
    backend.spawn(dataclasses.replace(launch, labels={"purpose": "test"}))
    assert ended(rig, backend).exit_code == 0
    (pod,) = [pod for pod in rig.namespace.pods() if pod["metadata"]["labels"].get(RUN) == launch.run]
    (job,) = [job for job in rig.namespace.jobs() if job["metadata"]["labels"].get(RUN) == launch.run]
    for found in (pod, job):
        labels = found["metadata"]["labels"]
        assert (labels["team"], labels["labels.air-executor/purpose"]) == ("red", "test")


def test_a_quota_of_pods(rig: KubernetesRig) -> None:
    """A pod that the quota does not admit may be admitted later; the cluster's words are shown."""
    namespace = Namespace(rig.layout.root)
    try:
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
        namespace.ask("POST", f"{namespace.core}/resourcequotas", quota)
        rig.until(lambda: _is_counted(namespace), "the quota to be counted")
        backend = rig.kubernetes(namespace=namespace.name, schedule_deadline=0.5, sub_path="")
        backend.spawn(launch_with(rig))
        assert not doomed(rig, backend, "exceeded quota").permanent
    finally:
        namespace.close()


def test_a_pod_that_waits_for_a_node(rig: KubernetesRig) -> None:
    """It has none while no node has its label, and the wait is known afterwards, also to a later manager."""
    label = rig.namespace.name
    template = Path(rig.layout.root).parent / "pod.json"
    template.write_text(json.dumps({"spec": {"nodeSelector": {label: "yes"}}}), encoding="utf-8")
    backend = rig.kubernetes(pod_template=template)
    backend.spawn(launch_with(rig, "sleep 1"))
    rig.until(lambda: "no node takes it" in str(backend.observe()[SLOT].message), "the cluster to say why it waits")
    assert backend.observe()[SLOT].node_wait is None
    time.sleep(4)  # the cluster stamps whole seconds
    label_node(rig.namespace, {label: "yes"})
    try:
        found = ended(rig, backend)
    finally:
        label_node(rig.namespace, {label: None})
    assert found.node_wait is not None
    assert 3 <= found.node_wait <= rig.patience
    assert rig.kubernetes().observe()[SLOT].node_wait == found.node_wait


def label_node(namespace: Namespace, labels: Mapping[str, str | None]) -> None:
    """Give the cluster's first node these labels, or take them away."""

    def labeled() -> bool:
        node = namespace.ask("GET", "/api/v1/nodes")["items"][0]
        wanted = node["metadata"]["labels"] | labels
        node["metadata"]["labels"] = {name: value for name, value in wanted.items() if value is not None}
        try:
            namespace.ask("PUT", f"/api/v1/nodes/{node['metadata']['name']}", node)
        except ConflictError:
            return False
        return True

    wait_for(labeled, what="the node to be labeled")


def test_a_quota_of_jobs(rig: KubernetesRig) -> None:
    """A Job that the quota does not admit waits in the cluster's words, and starts once there is room."""
    namespace = Namespace(rig.layout.root)
    try:
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
        namespace.ask("POST", f"{namespace.core}/resourcequotas", quota)
        rig.until(lambda: _is_counted(namespace), "the quota to be counted")
        backend = rig.kubernetes(namespace=namespace.name, sub_path="")
        backend.spawn(launch_with(rig))
        found = backend.observe()[SLOT]
        assert (found.alive, found.reason, found.node_wait) == (True, None, None)
        assert "the cluster refuses its Job" in str(found.message)
        assert "exceeded quota" in str(found.message)
        namespace.ask("DELETE", f"{namespace.core}/resourcequotas/none")
        rig.until(lambda: "refuses" not in str(backend.observe()[SLOT].message), "the Job to be created")
        backend.remove(SLOT)
        rig.until(lambda: is_gone(backend), "the Job to go")
    finally:
        namespace.close()


def _is_counted(namespace: Namespace) -> bool:
    return "used" in namespace.ask("GET", f"{namespace.core}/resourcequotas/none")["status"]


def test_what_the_server_will_never_take(rig: KubernetesRig) -> None:
    """A Job that is wrong in itself is refused permanently, in the server's words."""
    backend = rig.kubernetes()
    with pytest.raises(SpawnRejectedError, match="air-census"):
        backend.spawn(dataclasses.replace(launch_with(rig), env={"not=a name": "x"}))
    assert backend.observe() == {}


def test_a_name_that_somebody_else_has(rig: KubernetesRig) -> None:
    """Another state directory's Job is not touched, and the message says whose it is and what to do."""
    first = rig.kubernetes()
    first.spawn(launch_with(rig))
    other = rig.kubernetes(sub_path="elsewhere")
    with pytest.raises(SpawnRejectedError, match=r"AIR_NAME_PREFIX") as refused:
        other.spawn(rig.launch(SLOT, 9, Task.WAITS))
    assert f"{rig.namespace.name}/state/" in str(refused.value)
    assert first.observe()[SLOT].alive
    assert other.observe() == {}


def test_the_same_run_is_not_created_twice(rig: KubernetesRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the answer to a create was lost, the Job that is there is ours already."""
    launch = launch_with(rig)
    ended = threading.Event()

    @contextlib.contextmanager
    def says_nothing(*_: object, **__: object) -> Iterator[Iterator[dict[str, Any]]]:
        yield itertools.takewhile(lambda _: not ended.wait(), [{}])  # events that have not come yet

    late = rig.kubernetes()
    monkeypatch.setattr(Api, "watch", says_nothing)
    assert late.observe() == {}
    rig.kubernetes().spawn(launch)
    late.spawn(launch)
    with pytest.raises(DuplicateRunnerError):
        late.spawn(dataclasses.replace(launch, run="0badcafe-2"))
    ended.set()


def test_an_operators_word_frees_the_name(rig: KubernetesRig) -> None:
    """With `confirm-gone` the pods are forgotten, whatever their node would say."""
    backend = rig.kubernetes()
    launch = launch_with(rig, Task.IGNORES_TERM)
    backend.spawn(launch)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    backend.confirm_gone(SLOT)

    def freed() -> bool:
        backend.remove(SLOT)  # as the manager goes on to ask
        return backend.observe() == {}

    rig.until(freed, "the slot to be free")

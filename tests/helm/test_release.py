"""The chart on a real cluster: installed, used as its notes say, upgraded while a task runs, and uninstalled."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.cluster import CLAIM, Namespace, require_cluster, require_image, require_manager_image, require_runner_image
from tests.conftest import wait_for
from tests.helm.chart import CHART, NAME, RELEASE, helm, values_of

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

PATIENCE = 120.0
USER = 65532
SCHEDULED = "name: report\nschedule: {cron: 0 4 1 1 *}\ntasks: [{command: date}]\n"
GATED = "until [ -e go ]; do sleep 0.2; done; echo through"


class Release:
    """One release in a namespace of its own."""

    def __init__(self, helm_program: str, kubectl: str, image: str, folder: Path) -> None:
        self.folder = folder
        self.namespace = Namespace(str(folder))
        self._helm, self._kubectl = helm_program, kubectl
        repository, _, tag = image.rpartition(":")
        runner_repository, _, runner_tag = require_image().rpartition(":")
        self._values = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "runnerImage": {"repository": runner_repository, "tag": runner_tag},
            "persistence.existingClaim": CLAIM,
        }

    def put(self, *flags: str, **values: object) -> None:
        """Install or upgrade, and wait until the managers are ready."""
        self.apply(*flags, "--wait", "--timeout", "4m", **values)

    def apply(self, *flags: str, **values: object) -> None:
        """Install or upgrade."""
        assigned = [
            word
            for key, value in (self._values | values).items()
            for word in ("--set-json", f"{key}={json.dumps(value)}")
        ]
        self.helm("upgrade", "--install", RELEASE, str(CHART), *assigned, *flags)

    def make_node_volume(self) -> str:
        """Make a volume of one node, as provisioners of such clusters do: root's, open to all; return its class."""
        folder, name = self.folder / "node", f"{self.namespace.name}-node"
        folder.mkdir()
        folder.chmod(0o777)
        self.namespace.make_volume(str(folder), {"accessModes": ["ReadWriteOnce"], "storageClassName": name})
        return name

    def helm(self, *words: str) -> str:
        """Run `helm` in the namespace."""
        return helm(self._helm, *words, "--namespace", self.namespace.name)

    def kubectl(self, *words: str, check: bool = True) -> str:
        """Run `kubectl` in the namespace."""
        words = (self._kubectl, "--namespace", self.namespace.name, *words)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def cli(self, *words: str) -> str:
        """Run `air-executor` in a manager's pod."""
        return self.kubectl("exec", f"deploy/{NAME}", "--", "air-executor", *words)

    @contextlib.contextmanager
    def forwarded(self, target: str, *flags: str, port: int | None = None) -> Iterator[str]:
        """Return the address of a manager's port here; `port`: the number that it is to have."""
        ports = f"{'' if port is None else port}:9464"
        words = [self._kubectl, "--namespace", self.namespace.name, "port-forward", *flags, target, ports]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> 9464
                yield f"http://{line.split()[2]}/"
            finally:
                process.terminate()

    def status(self, job: str) -> dict[str, Any]:
        """Return a job's state."""
        found: dict[str, Any] = json.loads(self.cli("--json", "status", job))
        return found

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of the managers or of the runners."""
        return [
            pod
            for pod in self.namespace.pods()
            if pod["metadata"]["labels"].get("app.kubernetes.io/component") == component
        ]

    def close(self) -> None:
        """Leave nothing behind."""
        self.namespace.close()


@pytest.fixture
def release(helm_program: str, kubectl_program: str, tmp_path: Path) -> Iterator[Release]:
    """Return a release that is not installed yet, of the manager's image that the cluster has."""
    require_cluster()
    image = require_manager_image()
    folder = tmp_path / "volume"
    folder.mkdir()
    os.chown(folder, USER, USER)
    made = Release(helm_program, kubectl_program, image, folder)
    yield made
    made.close()


def test_the_page_from_outside(release: Release) -> None:
    """As the notes say: the Secret's token lets in, an upgrade keeps it, and the server takes the Ingress.

    On a cluster of one node, whose volume only one node can mount.
    """
    volume = {"existingClaim": "", "storageClass": release.make_node_volume()}
    persistence = {f"persistence.{name}": value for name, value in volume.items()}
    release.put(*values_of("single-node"), web={"enabled": True}, **persistence)
    notes = release.helm("get", "notes", RELEASE)
    (shown,) = [line.strip() for line in notes.splitlines() if "get secret" in line]
    words = shlex.split(shown)[3:]  # without `kubectl -n NAMESPACE`
    token = release.kubectl(*words)
    assert f"service/{NAME} 9464" in notes
    with release.forwarded(f"service/{NAME}") as url:
        assert requests.get(url, timeout=10).status_code == 401
        assert requests.get(f"{url}metrics", timeout=10).status_code == 401
        assert "<title>" in requests.get(url, auth=("me", token), timeout=10).text
        headers = {"Authorization": f"Bearer {token}"}
        job = {"id": "sent", "tasks": [{"command": "true"}]}
        assert requests.post(f"{url}api/v1/jobs", json=job, headers=headers, timeout=10).status_code == 201
    release.cli("wait", "sent", "--timeout", "2m")

    ingress = {"enabled": True, "host": "air.example.com"}
    release.put(*values_of("single-node"), ingress=ingress, **persistence)
    assert release.kubectl(*words) == token
    assert "http://air.example.com/" in release.helm("get", "notes", RELEASE)
    assert "air.example.com" in release.kubectl("get", "ingress", NAME, "--output", "jsonpath={.spec.rules[0].host}")
    release.helm("uninstall", RELEASE)
    assert NAME not in release.kubectl("get", "secrets,ingresses,services", "--output", "name")


def test_without_a_shared_volume(release: Release) -> None:
    """On a volume that only one node can mount, tasks get their files from the manager: queued work, inputs, logs.

    The manager is restarted while a task runs, and is away when it ends.
    """
    [node] = release.namespace.ask("GET", "/api/v1/nodes")["items"]
    [address] = [one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"]
    with socket.create_server(("", 0)) as unused:
        port = unused.getsockname()[1]
    repository, _, tag = require_runner_image().rpartition(":")
    everywhere = ("--address", "0.0.0.0")  # noqa: S104 - pods are to reach it
    values = {
        "runnerImage": {"repository": repository, "tag": tag},
        "transport": {"type": "http", "url": f"http://{address}:{port}"},
        "persistence.existingClaim": "",
        "persistence.storageClass": release.make_node_volume(),
        "persistence.size": "1Gi",
    }
    release.put(**values)
    assert "ReadWriteOnce" in release.kubectl("get", "pvc", NAME, "--output", "jsonpath={.spec.accessModes}")
    with release.forwarded(f"deploy/{NAME}", *everywhere, port=port):
        plan = "echo part >file; air-queue -- sh -c 'cat file; rm file'"
        release.cli("submit", "hello", "--", "sh", "-c", plan)
        release.cli("wait", "hello", "--timeout", "2m")
        assert "part" in release.cli("logs", "hello")
        release.cli("submit", "long", "--", "sh", "-c", "echo begun; sleep 8; echo over")
        wait_for(lambda: "begun" in release.cli("logs", "long"), PATIENCE, "its output")
    # Nothing forwards to the manager any more, and then there is another one.
    [leader] = release.pods("manager")
    release.kubectl("delete", "pod", leader["metadata"]["name"], "--wait=true")
    release.kubectl("rollout", "status", f"deploy/{NAME}", "--timeout", "3m")
    with release.forwarded(f"deploy/{NAME}", *everywhere, port=port):
        release.cli("wait", "long", "--timeout", "2m")
        assert "over" in release.cli("logs", "long")
        assert [task["runs"] for task in release.status("long")["tasks"]] == [1]
    release.helm("uninstall", RELEASE)
    wait_for(lambda: not release.namespace.jobs(), PATIENCE, "all Jobs to be gone")
    tokens = ("get", "secrets", "--selector", "app.kubernetes.io/managed-by=air-executor", "--output", "name")
    wait_for(lambda: not release.kubectl(*tokens), PATIENCE, "the tokens of runs to be gone")


def test_a_volume_that_root_owns(release: Release) -> None:
    """The pod's status has the manager's words, with the cause; the chart's init container mends it."""
    os.chown(release.folder, 0, 0)
    release.apply()

    def words() -> str:
        states = [pod["status"].get("containerStatuses", [{}])[0] for pod in release.pods("manager")]
        ended = [state.get(kind, {}).get("terminated", {}) for state in states for kind in ("state", "lastState")]
        return "".join(one.get("message", "") for one in ended)

    wait_for(lambda: "error: " in words(), PATIENCE, "the manager to give up")
    assert f"(this is uid {USER}; /project/.air-executor belongs to uid 0)" in words()
    release.put(**{"persistence.chown": True})
    assert os.stat(release.folder).st_uid == USER


def test_from_install_to_uninstall(release: Release) -> None:
    """A job through the installed manager; an upgrade to two managers under a task; nothing but the claim stays."""
    release.put()
    release.cli("submit", "hello", "--", "sh", "-c", "echo hi; id -u; [ ! -e /var/run/secrets ]")
    release.cli("wait", "hello", "--timeout", "2m")
    assert release.cli("logs", "hello").split() == ["_1", "|", "hi", "_1", "|", str(USER)]
    assert "Succeeded" in release.helm("test", RELEASE, "--timeout", "3m")

    release.cli("submit", "long", "--", "sh", "-c", GATED)
    wait_for(lambda: release.pods("runner"), PATIENCE, "a runner")
    (runner,) = release.pods("runner")
    assert runner["spec"]["automountServiceAccountToken"] is False
    release.put(replicas=2, config='max_runners = 3\npoll_interval = "500ms"\n', jobs={"report.yaml": SCHEDULED})
    wait_for(lambda: len(release.pods("manager")) == 2, PATIENCE, "the old manager to be gone")
    assert "500ms" in release.cli("--json", "doctor")
    wait_for(lambda: '"report.yaml"' in release.cli("--json", "schedule", "list"), PATIENCE, "the schedule")
    (same,) = release.pods("runner")
    assert same["metadata"]["uid"] == runner["metadata"]["uid"]
    (release.folder / "jobs" / "long" / "workspace" / "go").touch()
    release.cli("wait", "long", "--timeout", "2m")
    assert [task["runs"] for task in release.status("long")["tasks"]] == [1]

    leader = json.loads((release.folder / "manager.json").read_text(encoding="utf-8"))["host"]
    release.kubectl("delete", "pod", leader, "--wait=false")
    release.cli("submit", "after", "--", "true")
    release.cli("wait", "after", "--timeout", "1m")

    release.cli("submit", "last", "--", "sh", "-c", f'touch "begun-$AIR_RUN_ID"; {GATED}')
    workspace = release.folder / "jobs" / "last" / "workspace"
    wait_for(lambda: len(list(workspace.glob("begun-*"))) == 1, PATIENCE, "a task to begin")
    release.helm("uninstall", RELEASE)
    wait_for(lambda: not release.namespace.pods(), PATIENCE, "all pods to be gone")
    wait_for(lambda: not release.namespace.jobs(), PATIENCE, "all Jobs to be gone")
    assert release.kubectl("get", "pvc", "--output", "name").split() == [f"persistentvolumeclaim/{CLAIM}"]
    kinds = "deployments,configmaps,roles,rolebindings,networkpolicies,serviceaccounts"
    assert "air-executor" not in release.kubectl("get", kinds, "--output", "name")

    release.put()
    wait_for(lambda: len(list(workspace.glob("begun-*"))) == 2, PATIENCE, "the task to be run again")
    (workspace / "go").touch()
    release.cli("wait", "last", "--timeout", "2m")
    release.helm("uninstall", RELEASE)

"""Services of a task in the containers of its pod, on the cluster that there is."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from air_executor.backends.base import Launch, LaunchService
from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.model.names import Slot
from air_executor.model.records import Request
from tests.backends.rig import KubernetesRig
from tests.cluster import Namespace, require_image
from tests.conftest import wait_for
from tests.kubernetes.managers import PATIENCE, Start
from tests.kubernetes.test_waits import explained

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]
SLOT = Slot("census", 0)


def web() -> LaunchService:
    """Return a service that takes a moment until it serves a page."""
    page = 'mkdir -p /tmp/www; echo "it is $WORD" >/tmp/www/index.html; cd /tmp/www'
    script = f'echo "serving as $(busybox id -u)"; {page}; sleep 1; exec busybox httpd -f -p 8000'
    return LaunchService(
        name="web",
        image=require_image(),
        argv=("sh", "-c", script),
        env={"WORD": "$(HOME)"},
        ready=("wget", "-qO", "/dev/null", "http://localhost:8000/"),
    )


def test_a_task_finds_its_service_ready(rig: KubernetesRig) -> None:
    """At its own name and at localhost, and cannot look into it; with the task it goes, and its log stays."""
    backend = rig.kubernetes()
    spy = "cat /proc/[0-9]*/environ 2>/dev/null | grep -c WORD="
    launch = rig.command(SLOT, 1, f"wget -qO- http://web:8000/; wget -qO- http://localhost:8000/; {spy}")
    backend.spawn(dataclasses.replace(launch, services=[web()]))
    rig.until(lambda: backend.observe()[SLOT].finished, "the task to end")
    assert Path(launch.out_dir, "output.log").read_text() == "it is $(HOME)\n" * 2 + "0\n"
    backend.remove(SLOT)
    rig.until(lambda: SLOT not in backend.observe(), "the pod to be gone")
    rig.until(lambda: rig.namespace.pods() == [], "nothing to be left")
    assert Path(launch.out_dir, "service-web.log").read_text() == "serving as 65533\n"


def given_up(rig: KubernetesRig, launch: Launch, said: set[str] | None = None) -> str:
    """Return why a run is to be stopped, and remove it; what it says until then is added to `said`."""
    backend = rig.kubernetes()
    backend.spawn(launch)

    def is_given_up() -> bool:
        found = backend.observe()[SLOT]
        if said is not None and found.message is not None:
            said.add(found.message)
        return found.reason is not None

    rig.until(is_given_up, "the run to be given up")
    found = backend.observe()[SLOT]
    assert found.alive
    backend.remove(SLOT)
    rig.until(lambda: SLOT not in backend.observe(), "the pod to be gone")
    return f"{found.reason}: {found.message}"


def test_a_service_that_is_never_ready(rig: KubernetesRig) -> None:
    """The task does not begin; meanwhile it is said what it waits for."""
    # It ends by itself: a node of 1.20 may take a minute and a half to end it.
    slow = dataclasses.replace(web(), name="db", argv=("sleep", "8"), ready=("no-such-program",), ready_timeout=6.0)
    launch = dataclasses.replace(rig.command(SLOT, 1, "true"), services=[web(), slow])
    said: set[str] = set()
    assert given_up(rig, launch, said).startswith("error: service db was not ready within 6s")
    assert "waiting for service db to be ready (at most 6s)" in said
    assert not Path(launch.out_dir, "claim").exists()


def test_a_service_that_ends(rig: KubernetesRig) -> None:
    """Before it is ready or while its task runs: the run is given up, with the service's last words."""
    broken = dataclasses.replace(web(), name="db", argv=("sh", "-c", "echo no license >&2; exit 3"), ready=("false",))
    launch = dataclasses.replace(rig.command(SLOT, 1, "true"), services=[broken])
    assert given_up(rig, launch) == "error: service db ended with exit code 3: no license"
    assert not Path(launch.out_dir, "claim").exists()
    full = dataclasses.replace(web(), name="db", argv=("sh", "-c", "sleep 3; echo out of space; exit 4"), ready=None)
    launch = dataclasses.replace(rig.command(SLOT, 2, "sleep 600"), services=[full])
    assert given_up(rig, launch) == "error: service db ended with exit code 4: out of space"
    assert Path(launch.out_dir, "claim").exists()


def test_an_image_that_nobody_has(rig: KubernetesRig) -> None:
    """It is no other matter than the image of the task itself."""
    none = dataclasses.replace(web(), image="air-executor-nonesuch:1")
    launch = dataclasses.replace(rig.command(SLOT, 1, "true"), services=[none])
    assert "start-failed: image air-executor-nonesuch:1 is unavailable" in given_up(rig, launch)


def test_a_container_that_the_cluster_injects_holds_nothing(rig: KubernetesRig, tmp_path: Path) -> None:
    """A service mesh puts a container into each pod that never ends: the run ends with its task, and all is removed."""
    mesh = {"name": "mesh", "image": require_image(), "command": ["sleep", "600"]}
    template = tmp_path / "template.yaml"
    template.write_text(json.dumps({"spec": {"containers": [mesh]}}), encoding="utf-8")
    backend = rig.kubernetes(pod_template=str(template))
    backend.spawn(rig.command(SLOT, 1, "true"))
    rig.until(lambda: backend.observe()[SLOT].finished, "the task to end")
    backend.remove(SLOT)
    rig.until(lambda: SLOT not in backend.observe() and rig.namespace.pods() == [], "nothing to be left")


def test_services_under_a_manager(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """One that ends fails its task, `explain` says what is waited for, and a cancel takes all of it away.

    The manager is killed while it waits, and the next one goes on.
    """
    client = Client(tmp_path / "state")
    first = start("first")
    image = require_image()
    full = {"name": "db", "image": image, "command": "sleep 2; echo out of space; exit 4"}
    late = {"name": "web", "image": image, "command": "exec sleep 600", "ready": "false", "ready_timeout": 600}
    task = {"id": "t", "command": "sleep 600"}
    client.submit(parse_job({"id": "full", "tasks": [{**task, "services": [full]}]}))
    client.submit(parse_job({"id": "late", "tasks": [{**task, "services": [late]}]}))
    words = "waiting for service web to be ready (at most 10m)"
    wait_for(lambda: words in explained(tmp_path, "late", "t"), PATIENCE, "the wait to be explained")
    first.kill()
    first.wait()
    start("second")
    state = client.wait("full", PATIENCE)
    assert state.tasks["t"].reason == "error"
    assert "service db ended with exit code 4: out of space" in (state.tasks["t"].attempts[-1].message or "")
    wait_for(lambda: words in explained(tmp_path, "late", "t"), PATIENCE, "the wait to be explained again")
    client.inbox.post(Request("cancel", "late"), time.time())
    state = client.wait("late", PATIENCE)
    assert (state.phase, state.tasks["t"].runs) == ("cancelled", 1)
    wait_for(lambda: namespace.pods() == [] and namespace.jobs() == [], PATIENCE, "nothing to be left")
    log = Path(client.layout.run("full", 1, "t"), "service-db.log")
    assert log.read_text() == "out of space\n"

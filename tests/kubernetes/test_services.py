"""Services of a task in the containers of its pod, on the cluster that there is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from air_executor.backends.base import LaunchService
from air_executor.model.names import Slot
from tests.backends.rig import KubernetesRig
from tests.cluster import require_image

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
    """At its own name and at localhost; with the task it goes, and its log stays."""
    backend = rig.kubernetes()
    launch = rig.command(SLOT, 1, "wget -qO- http://web:8000/; wget -qO- http://localhost:8000/")
    backend.spawn(dataclasses.replace(launch, services=[web()]))
    rig.until(lambda: backend.observe()[SLOT].finished, "the task to end")
    assert Path(launch.out_dir, "output.log").read_text() == "it is $(HOME)\n" * 2
    backend.remove(SLOT)
    rig.until(lambda: SLOT not in backend.observe(), "the pod to be gone")
    rig.until(lambda: rig.namespace.pods() == [], "nothing to be left")
    assert Path(launch.out_dir, "service-web.log").read_text() == "serving as 65533\n"

"""What a task sees and can do in its pod: its own run, its job's workspace, and nothing of the cluster."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from air_executor.backends.base import LaunchCache
from air_executor.model.names import Slot
from tests.backends.rig import KubernetesRig

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]
SLOT = Slot("census", 0)

LOOK = r"""
say() { echo "$1=$2" >>"$AIR_WORKSPACE/seen"; }
say uid "$(id -u):$(id -g)"
say caps "$(grep CapEff /proc/self/status)"
say no_new_privs "$(grep NoNewPrivs /proc/self/status)"
say seccomp "$(grep Seccomp: /proc/self/status)"
say token "$(ls /var/run/secrets/kubernetes.io 2>&1)"
say root "$( (: >/owned) 2>&1 )"
say bin "$( (: >>/air/bin/air-runner) 2>&1 )"
say up "$(ls /air/out/../.. | tr '\n' ' ')"
say air "$(ls /air | tr '\n' ' ')"
say jobs "$(ls /air/workspace/.. | tr '\n' ' ')"
say tmp "$(echo fine >/tmp/x && cat /tmp/x)"
say dollars '$(AIR_JOB_ID) $$ $HOME'
say price "$PRICE"
say first "$(cat /proc/1/cmdline)"
"""


def test_a_cache_outlives_the_pod(rig: KubernetesRig) -> None:
    """The next pod that names it finds what the first one left, at its own place."""
    backend = rig.kubernetes()
    folder = Path(rig.layout.named_cache("pip"))
    folder.mkdir(parents=True)
    for seq, path in ((1, None), (2, "/home/cache")):
        launch = rig.command(SLOT, seq, 'echo "$AIR_CACHE_PIP" >>"$AIR_CACHE_PIP/seen"')
        cache = LaunchCache("AIR_CACHE_PIP", "pip", str(folder), path)
        backend.spawn(dataclasses.replace(launch, caches=(cache,)))
        rig.until(lambda: backend.observe()[SLOT].finished, "the task to write")
        backend.remove(SLOT)
        rig.until(lambda: SLOT not in backend.observe(), "the pod to be gone")
    assert (folder / "seen").read_text().split() == ["/air/caches/pip", "/home/cache"]


def test_what_a_task_sees(rig: KubernetesRig) -> None:
    """Not root, no capability, no token, nothing to write but its own; and its text arrives as it was written."""
    other = Path(rig.layout.root, "jobs", "other-secret-job")
    other.mkdir(parents=True)
    backend = rig.kubernetes()
    launch = rig.command(SLOT, 1, LOOK)
    backend.spawn(dataclasses.replace(launch, env={**launch.env, "PRICE": "$(AIR_JOB_ID) $$5"}))
    rig.until(lambda: backend.observe()[SLOT].finished, "the task to look around")
    assert "sha256:" in (backend.observe()[SLOT].image or "")
    lines = Path(launch.workspace, "seen").read_text().splitlines()
    seen = dict(line.split("=", 1) for line in lines)
    assert seen["uid"] == "65532:65532"
    assert seen["caps"].split()[1].strip("0") == ""
    assert seen["no_new_privs"].split()[1] == "1"
    assert seen["seccomp"].split()[1] == "2"
    assert "No such file" in seen["token"]
    assert "Read-only" in seen["root"]
    assert "Read-only" in seen["bin"] or "ermission denied" in seen["bin"]
    assert seen["air"].split() == ["bin", "out", "workspace"]
    assert seen["jobs"].split() == ["bin", "out", "workspace"]
    assert "other-secret-job" not in seen["up"]
    assert seen["tmp"] == "fine"
    assert seen["dollars"] == "$(AIR_JOB_ID) $$ $HOME"
    assert seen["price"] == "$(AIR_JOB_ID) $$5"
    assert "air-runner" not in seen["first"]  # the pod's own first process reaps orphans

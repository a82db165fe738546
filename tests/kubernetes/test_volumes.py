"""ConfigMaps, Secrets and scratch folders of a task, in a real pod."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from air_executor.model.names import Slot
from tests.backends.rig import KubernetesRig
from tests.backends.test_contract import has_ended, is_gone

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

SLOT = Slot("census", 0)
COMMAND = """
cat /etc/model/size /etc/registry/key >"$AIR_WORKSPACE/found" && echo x >/scratch/file &&
! echo x 2>/dev/null >/etc/model/size && ! echo x 2>/dev/null >/etc/registry/key
"""


def test_a_pod_has_the_volumes_of_its_task(rig: KubernetesRig) -> None:
    """As the task's user it reads the first two and writes to the third, and no more."""
    core, names = rig.namespace.core, {"config_maps": "model-config", "secret_files": "registry"}
    rig.namespace.ask(
        "POST", f"{core}/configmaps", {"metadata": {"name": names["config_maps"]}, "data": {"size": "large\n"}}
    )
    rig.namespace.ask(
        "POST", f"{core}/secrets", {"metadata": {"name": names["secret_files"]}, "stringData": {"key": "k-1\n"}}
    )
    try:
        backend = rig.kubernetes(
            allow_config_maps=("model-config",), allow_secret_files=("registry",), allow_scratch=1 << 30
        )
        asked = {
            "config_maps": [{"name": "model-config", "path": "/etc/model"}],
            "secret_files": [{"name": "registry", "path": "/etc/registry"}],
            "scratch": [{"path": "/scratch", "size": 64 << 20}],
        }
        launch = dataclasses.replace(rig.command(SLOT, 1, COMMAND), options={"kubernetes": asked})
        backend.spawn(launch)
        rig.until(lambda: has_ended(backend), "the task to end")
        status = backend.observe().get(SLOT)
        assert status is None or status.exit_code == 0, status
        assert Path(launch.workspace, "found").read_text(encoding="utf-8") == "large\nk-1\n"
        rig.until(lambda: is_gone(backend), "the runner to be gone")
    finally:
        rig.namespace.ask("DELETE", f"{core}/configmaps/{names['config_maps']}")
        rig.namespace.ask("DELETE", f"{core}/secrets/{names['secret_files']}")

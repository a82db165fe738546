"""An init container that copies the runner for the node's architecture, so that the task's image needs no shell.

Only a container of the Pod itself runs on the Pod's node, and so knows its architecture. Used by `manifests`. Pure.
"""

from __future__ import annotations

from typing import Any

from air_executor.backends.container import inside
from air_executor.runner import native

FOLDER = f"{inside.ROOT}/runner"
PROGRAM = f"{FOLDER}/{native.NAME}"
"""The runner, as the Pod's container sees it."""
_VOLUME = "runner"
_SIZE = "16Mi"
_COPY = (
    f"from={inside.BIN}/$(uname -m); "
    f'[ -x "$from/{native.NAME}" ] || from={inside.BIN}; '  # no native one: the scripts, for images with a shell
    f'cp -P "$from"/air-* {FOLDER}/'
)


def add_to(spec: dict[str, Any], container: dict[str, Any], image: str) -> None:
    """Give a Pod an init container of this image that copies the runner, which its container can then start."""
    mount = {"name": _VOLUME, "mountPath": FOLDER}
    [bin_mount] = [found for found in container["volumeMounts"] if found["mountPath"] == inside.BIN]
    spec["initContainers"] = [
        {
            "name": _VOLUME,
            "image": image,
            "imagePullPolicy": container["imagePullPolicy"],
            "command": ["sh", "-c", _COPY.replace("$(", "$$(")],
            "resources": container["resources"],
            "securityContext": container["securityContext"],
            "volumeMounts": [bin_mount, mount],
        }
    ]
    spec["volumes"].append({"name": _VOLUME, "emptyDir": {"sizeLimit": _SIZE}})
    container["volumeMounts"] = [*container["volumeMounts"], {**mount, "readOnly": True}]

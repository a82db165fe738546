"""An init container that copies the runner for the node's architecture, so that the task's image needs no shell.

Only a container of the Pod itself runs on the Pod's node, and so knows its architecture. Used by `manifests`. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from air_executor.backends.container import inside
from air_executor.runner import native

FOLDER = f"{inside.ROOT}/runner"
PROGRAM = f"{FOLDER}/{native.NAME}"
"""The runner, as the Pod's container sees it."""
_VOLUME = "runner"
_SIZE = "16Mi"
_COPY = f'cp -P "$_air_from"/air-* {FOLDER}/'


def find_folder(machines: Collection[str]) -> str:
    """Return shell text that sets `_air_from`: the folder of the native runner for this machine, else of the script.

    Only these machines have one: `bin/` may have another version's.
    """
    script = f"_air_from={inside.BIN}; "
    if not machines:
        return script
    choice = f'[ ! -x "$_air_from/$(uname -m)/{native.NAME}" ] || _air_from=$_air_from/$(uname -m)'
    return f"{script}case $(uname -m) in {'|'.join(sorted(machines))}) {choice};; esac; "


def add_to(spec: dict[str, Any], container: dict[str, Any], image: str, machines: Collection[str]) -> None:
    """Give a Pod an init container of this image that copies the runner, which its container can then start.

    `machines`: as in `find_folder`.
    """
    mount = {"name": _VOLUME, "mountPath": FOLDER}
    [bin_mount] = [found for found in container["volumeMounts"] if found["mountPath"] == inside.BIN]
    spec["initContainers"] = [
        {
            "name": _VOLUME,
            "image": image,
            "imagePullPolicy": container["imagePullPolicy"],
            "command": ["sh", "-c", (find_folder(machines) + _COPY).replace("$(", "$$(")],
            "resources": container["resources"],
            "securityContext": container["securityContext"],
            "volumeMounts": [bin_mount, mount],
        }
    ]
    spec["volumes"].append({"name": _VOLUME, "emptyDir": {"sizeLimit": _SIZE}})
    container["volumeMounts"] = [*container["volumeMounts"], {**mount, "readOnly": True}]

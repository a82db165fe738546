"""ConfigMaps, Secrets and scratch folders that a task asks for, as volumes of its pod. Pure; `manifests` calls it.

Nothing is allowed by default: a Secret holds rights, and a node's disk is shared by all its pods.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from air_executor.backends.base import Launch
from air_executor.backends.container import inside
from air_executor.backends.kubernetes.pod_requests import asked_of, check_allowed
from air_executor.errors import SpawnRejectedError
from air_executor.model.sizes import format_memory
from air_executor.settings import KubernetesSettings

READABLE_BY_GROUP = 0o440
"""Mode of the files of a Secret: the group of the pod's volumes is that of the task."""


def add_to(spec: dict[str, Any], settings: KubernetesSettings, launch: Launch) -> None:
    """Put the volumes into a pod's spec, and their mounts into its first container.

    Raises:
        SpawnRejectedError: one is not allowed, or its place is taken; the message names the setting or the path.
    """
    container = spec["containers"][0]
    taken = {os.path.normpath(mount["mountPath"]) for mount in container["volumeMounts"]}
    for number, (path, source, read_only) in enumerate(_requested(settings, launch)):
        target = os.path.normpath(path)
        inside.check_mount_target("of kubernetes", target)
        if target in taken:
            msg = f"kubernetes: {target} is taken by another mount"
            raise SpawnRejectedError(msg)
        taken.add(target)
        name = f"requested-{number}"
        spec["volumes"].append({"name": name, **source})
        mount = {"name": name, "mountPath": target}
        container["volumeMounts"].append({**mount, "readOnly": True} if read_only else mount)
    if total := sum(int(one["size"]) for one in asked_of(launch).get("scratch") or ()):
        container["resources"]["requests"]["ephemeral-storage"] = str(total)  # of the pod, for its node


def _requested(settings: KubernetesSettings, launch: Launch) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yield path and source of each volume, and whether it is read-only."""
    asked = asked_of(launch)
    maps, secrets, scratch = (asked.get(name) or () for name in ("config_maps", "secret_files", "scratch"))
    names = [one["name"] for one in maps]
    check_allowed("config_maps", names, settings.allow_config_maps, "AIR_KUBERNETES_ALLOW_CONFIG_MAPS", ours=False)
    names = [one["name"] for one in secrets]
    check_allowed("secret_files", names, settings.allow_secret_files, "AIR_KUBERNETES_ALLOW_SECRET_FILES", ours=False)
    if (total := sum(int(one["size"]) for one in scratch)) > settings.allow_scratch:
        allowed = format_memory(settings.allow_scratch)
        msg = (
            f"kubernetes.scratch: {format_memory(total)} is not allowed; the operator allows {allowed} with "
            "AIR_KUBERNETES_ALLOW_SCRATCH"
        )
        raise SpawnRejectedError(msg)
    for one in maps:
        yield one["path"], {"configMap": {"name": one["name"]}}, True
    for one in secrets:
        yield one["path"], {"secret": {"secretName": one["name"], "defaultMode": READABLE_BY_GROUP}}, True
    for one in scratch:
        yield one["path"], {"emptyDir": {"sizeLimit": str(int(one["size"]))}}, False

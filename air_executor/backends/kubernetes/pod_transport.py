"""A pod that sees no volume: its run's files come and go over HTTP, by the carrier of our image. For `manifests`.

An init container claims the run and fetches what it needs into a folder of the pod; one beside the task delivers
what the task leaves. Both have the run's token from a Secret of the Job's own. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from air_executor.backends.base import Launch
from air_executor.backends.container import inside, transport
from air_executor.backends.kubernetes.container_fields import literal
from air_executor.errors import SpawnRejectedError
from air_executor.settings import KubernetesSettings

FETCH, CARRIER = "fetch", "carrier"
"""Names of the containers."""
VOLUME = "state"
"""Name of the volume with the run's files, here as where it is a claim."""
TOKEN, AUTHORITIES = "token", "ca.crt"
"""Keys of the Secret."""
_ROOT = inside.ROOT
_RESOURCES = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}
FOLDERS = {inside.OUT: "out", inside.WORKSPACE: "workspace", inside.BIN: "bin"}
"""Where a task sees the folders of the pod's own volume."""


def check(launch: Launch) -> None:
    """Refuse what needs a volume that tasks share.

    Raises:
        SpawnRejectedError: the task has a cache.
    """
    if launch.caches:
        msg = "caches: pods share no volume with AIR_KUBERNETES_TRANSPORT=http; mount a claim"
        raise SpawnRejectedError(msg)


def volume(settings: KubernetesSettings) -> dict[str, Any]:
    """Return the volume of a pod that holds its run's files."""
    return {"name": VOLUME, "emptyDir": {"sizeLimit": str(settings.transport_size)}}


def add_to(
    spec: dict[str, Any], container: dict[str, Any], settings: KubernetesSettings, *, image: str, secret: str
) -> None:
    """Give a pod the containers that carry its run's files.

    `image` has the carrier, and `secret` is the name of the Secret with the token.
    """
    variables: list[dict[str, Any]] = [
        {"name": "AIR_CARRIER_URL", "value": literal(str(settings.transport_url))},
        {"name": "AIR_CARRIER_HOLDER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "AIR_CARRIER_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": TOKEN}}},
    ]
    if settings.transport_ca is not None:
        source = {"secretKeyRef": {"name": secret, "key": AUTHORITIES}}
        variables.append({"name": "AIR_CARRIER_CA", "valueFrom": source})
    common = {
        "image": image,
        "imagePullPolicy": container["imagePullPolicy"],
        "env": variables,
        "resources": _RESOURCES,
        "securityContext": {**container["securityContext"], "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": VOLUME, "mountPath": _ROOT}],
    }
    spec["initContainers"] = [
        {"name": FETCH, "command": [transport.PROGRAM, "fetch"], **common},
        *spec.get("initContainers", ()),
    ]
    spec["containers"] = [*spec["containers"], {"name": CARRIER, "command": [transport.PROGRAM, "deliver"], **common}]
    spec["terminationGracePeriodSeconds"] += transport.STOP_MARGIN


def secret_name(job: str, run: str) -> str:
    """Return the name of the Secret of a run, given the name of its Job."""
    return f"{job}.{run}"


def owner_of(job: str, uid: str) -> dict[str, str]:
    """Return the reference to a Job with which its Secret is deleted."""
    return {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": uid}


def secret_manifest(
    owner: Mapping[str, str], run: str, labels: Mapping[str, str], token: str, authorities: str | None
) -> dict[str, Any]:
    """Return the Secret of a run, whose Job is `owner`."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": secret_name(owner["name"], run),
            "labels": dict(labels),
            "ownerReferences": [dict(owner)],
        },
        "stringData": {TOKEN: token} | ({} if authorities is None else {AUTHORITIES: authorities}),
    }

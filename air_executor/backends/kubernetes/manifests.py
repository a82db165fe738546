"""From a launch to a Job: what it is called, what its Pod may do and what it sees. Pure.

Hardened by default, as the Pod Security level `restricted` asks and beyond: no root, no capabilities, read-only image,
no token of a service account, and of the volume only what is the run's own. Used by `backend.py` alone.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from air_executor.backends.base import Launch
from air_executor.backends.container import inside
from air_executor.backends.kubernetes import pod_template
from air_executor.backends.kubernetes.objects import CONTAINER
from air_executor.backends.kubernetes.runner_cache import EPOCH, INSTANCE, JOB, LABEL, RUN, SLOT, UID
from air_executor.errors import SpawnRejectedError
from air_executor.model.names import Slot, runner_name
from air_executor.settings import KubernetesSettings

NETWORK = f"{LABEL}/network"
TASK, VERSION, VOLUME = f"{LABEL}/task", f"{LABEL}/version", f"{LABEL}/state-dir"
"""Annotations."""

DEFAULT_IMAGE = "python:3.12-slim"
TTL_SECONDS = 86_400
"""After how long the cluster removes a Job that has ended. We do that ourselves; this is for when nobody ever does."""
MARGIN_SECONDS = 2
"""How much longer than the grace the node waits: the runner itself kills its command after it, then writes its end."""
SLACK_SECONDS = 300
"""How much later than a run's timeout its Job's own deadline comes; before that come the runner's and the manager's."""
_STATE, _TEMPORARY = "state", "tmp"
_OWN_NETWORK = "default"
_PULL = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}
_APPEND_PATH = f'export PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{inside.BIN}"; exec sh "$0" "$@"'
"""What an image itself has as PYTHONPATH is known only inside of it."""
POD_FAILURE_POLICY, POD_REPLACEMENT_POLICY = (1, 26), (1, 29)
"""Versions of the server from which on these are on by default."""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What all Jobs of one manager have in common."""

    state_dir: str
    namespace: str
    prefix: str
    version: str
    image: str
    """Of tasks that name none."""
    user: tuple[int, int]
    settings: KubernetesSettings
    template: Mapping[str, Any] = field(default_factory=dict)
    """The operator's, laid over each Pod."""

    @property
    def location(self) -> str:
        """Where the state directory lies for the cluster."""
        return f"{self.namespace}/{self.settings.claim}/{self.settings.sub_path}"

    @property
    def instance(self) -> str:
        """The identity of the state directory among all that use the cluster."""
        return hashlib.sha256(self.location.encode()).hexdigest()[:12]

    @property
    def selector(self) -> str:
        """What selects the Jobs and Pods of this state directory."""
        return f"{INSTANCE}={self.instance}"

    def name(self, slot: Slot) -> str:
        """Return the name of a slot's Job."""
        return runner_name(self.prefix, slot)


def job_manifest(
    site: ClusterConfig, launch: Launch, server: tuple[int, int], owner: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a Job. `server` is the version of the API server, `owner` a reference to what it goes with.

    Raises:
        SpawnRejectedError: the task asks for a mount, a network or secrets that it may not have.
    """
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "ttlSecondsAfterFinished": TTL_SECONDS,
        "template": _template(site, launch),
    }
    if launch.timeout is not None:
        s = site.settings
        ahead = s.schedule_deadline + s.pull_deadline + s.start_deadline
        spec["activeDeadlineSeconds"] = math.ceil(ahead + launch.timeout + launch.grace) + SLACK_SECONDS
    if server >= POD_FAILURE_POLICY:
        unlike = {"containerName": CONTAINER, "operator": "NotIn", "values": [0]}
        disrupted = {"type": "DisruptionTarget", "status": "True"}
        spec["podFailurePolicy"] = {
            "rules": [
                {"action": "FailJob", "onPodConditions": [disrupted]},
                {"action": "FailJob", "onExitCodes": unlike},
            ]
        }
    if server >= POD_REPLACEMENT_POLICY:
        spec["podReplacementPolicy"] = "Failed"
    metadata: dict[str, Any] = {
        "name": site.name(launch.slot),
        "labels": labels(site, launch),
        "annotations": remarks(site, launch),
    }
    if owner is not None:
        metadata["ownerReferences"] = [dict(owner)]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def labels(site: ClusterConfig, launch: Launch) -> dict[str, str]:
    """Return what tells whose a Job or a Pod is, and which run."""
    return {
        "app.kubernetes.io/name": "air-executor-runner",
        "app.kubernetes.io/instance": site.instance,
        "app.kubernetes.io/component": "runner",
        "app.kubernetes.io/managed-by": "air-executor",
        INSTANCE: site.instance,
        JOB: launch.slot.job,
        UID: launch.uid,
        RUN: launch.run,
        SLOT: str(launch.slot.number),
        EPOCH: str(launch.epoch),
    }


def remarks(site: ClusterConfig, launch: Launch) -> dict[str, str]:
    """Return what people may want to know of a Job or a Pod."""
    return {TASK: launch.task, VERSION: site.version, VOLUME: site.location}


def _template(site: ClusterConfig, launch: Launch) -> dict[str, Any]:
    settings, (uid, gid) = site.settings, site.user
    container_spec = _container(site, launch)
    claims: dict[str, str] = {}
    container_spec["volumeMounts"] += _foreign_mounts(settings, launch, claims)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": math.ceil(launch.grace) + MARGIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": gid,
            "fsGroup": gid,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container_spec],
        "volumes": [
            {"name": _STATE, "persistentVolumeClaim": {"claimName": settings.claim}},
            {"name": _TEMPORARY, "emptyDir": {"medium": "Memory", "sizeLimit": str(settings.tmp_size)}},
            *({"name": name, "persistentVolumeClaim": {"claimName": claim}} for claim, name in claims.items()),
        ],
    }
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    own: dict[str, Any] = {"labels": labels(site, launch), "annotations": remarks(site, launch)}
    if (network := _network(settings, launch)) is not None:
        own["labels"][NETWORK] = network
    merged = pod_template.merge({"metadata": own, "spec": spec}, site.template)
    # Whatever the template says: who it is, and that it runs once.
    return pod_template.merge(merged, {"metadata": own, "spec": {"restartPolicy": "Never"}})


def _container(site: ClusterConfig, launch: Launch) -> dict[str, Any]:
    settings = site.settings
    words = inside.command(launch)
    if "PYTHONPATH" not in launch.env:
        words = ["sh", "-c", _APPEND_PATH, *words[1:]]
    return {
        "name": CONTAINER,
        "image": str(launch.options.get("image") or site.image),
        "imagePullPolicy": _PULL[settings.pull],
        "command": [_literal(word) for word in words],
        "workingDir": "/",
        "env": list(_environment(settings, launch)),
        "resources": _resources(settings, launch),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": settings.read_only,
        },
        "volumeMounts": [
            _mount(site, launch.out_dir, inside.OUT),
            _mount(site, launch.workspace, inside.WORKSPACE),
            {**_mount(site, launch.bin_dir, inside.BIN), "readOnly": True},
            {"name": _TEMPORARY, "mountPath": inside.TEMPORARY},
        ],
    }


def _literal(text: str) -> str:
    """Return a text that Kubernetes, which expands `$(NAME)`, hands on as it was meant."""
    return text.replace("$", "$$")


def _environment(settings: KubernetesSettings, launch: Launch) -> Iterator[dict[str, Any]]:
    values = inside.environment(launch)
    if "PYTHONPATH" not in launch.env:
        del values["PYTHONPATH"]
    for name, value in values.items():
        if name not in launch.secrets:
            yield {"name": name, "value": _literal(value)}
    if launch.secrets and settings.secret is None:
        msg = f"secret {next(iter(launch.secrets))}: the operator names no Secret with AIR_KUBERNETES_SECRET"
        raise SpawnRejectedError(msg)
    for name in launch.secrets:
        yield {"name": name, "valueFrom": {"secretKeyRef": {"name": settings.secret, "key": name}}}


def _resources(settings: KubernetesSettings, launch: Launch) -> dict[str, dict[str, str]]:
    """Return what is reserved for a task that names it, and otherwise what the operator says."""
    asked = launch.options.get("resources", {})
    requests = {
        "cpu": _cores(min(settings.cpu_request, settings.cpus or settings.cpu_request)),
        "memory": str(min(settings.memory_request, settings.memory)),
    }
    limits = {"memory": str(settings.memory)}
    if settings.cpus is not None:
        limits["cpu"] = _cores(settings.cpus)
    if (memory := asked.get("memory")) is not None:
        requests["memory"] = limits["memory"] = str(int(memory))
    if (cpus := asked.get("cpu")) is not None:
        requests["cpu"] = limits["cpu"] = _cores(cpus)
    if gpus := asked.get("gpu"):
        limits[settings.gpu_resource] = str(gpus)
    return {"requests": requests, "limits": limits}


def _cores(number: float) -> str:
    return f"{max(1, round(number * 1000))}m"


def _mount(site: ClusterConfig, path: str, target: str) -> dict[str, Any]:
    inside = os.path.normpath(os.path.join(site.settings.sub_path, os.path.relpath(path, site.state_dir)))
    return {"name": _STATE, "mountPath": target, "subPath": inside}


def _network(settings: KubernetesSettings, launch: Launch) -> str | None:
    """Return the network that a task names; the operator's NetworkPolicies select it by label."""
    name = str(launch.options.get("network") or _OWN_NETWORK)
    if name == _OWN_NETWORK:
        return None
    if name in settings.allow_networks:
        return name
    msg = (
        f"network {name} is not allowed: the operator allows with AIR_KUBERNETES_ALLOW_NETWORKS those networks for "
        f"which there is a NetworkPolicy that selects the label {NETWORK}"
    )
    raise SpawnRejectedError(msg)


def _foreign_mounts(settings: KubernetesSettings, launch: Launch, volumes: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the mounts that the task asks for: only of claims that the operator lists. `volumes` gets their names."""
    for asked in launch.options.get("mounts", ()):
        source, target = str(asked["source"]), os.path.normpath(str(asked["target"]))
        claim, _, inside = source.partition("/")
        if target == "/air" or target.startswith("/air/"):
            msg = f"mount {source}: {target} is taken: /air belongs to Air-Executor"
            raise SpawnRejectedError(msg)
        if claim not in settings.allow_claims or claim == settings.claim:
            msg = (
                f"mount {source}: on Kubernetes a source is the name of a volume claim, perhaps with a path in it, "
                "that the operator lists in AIR_KUBERNETES_ALLOW_CLAIMS"
            )
            raise SpawnRejectedError(msg)
        if ".." in inside.split("/"):
            msg = f"mount {source}: a path in a claim cannot have .. in it"
            raise SpawnRejectedError(msg)
        volume = volumes.setdefault(claim, f"claim-{len(volumes)}")
        mount: dict[str, Any] = {"name": volume, "mountPath": target}
        if inside.strip("/"):
            mount["subPath"] = inside.strip("/")
        if asked.get("read_only"):
            mount["readOnly"] = True
        yield mount
